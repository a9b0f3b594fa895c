"""Goals on the way, from demonstrations whose frames say which they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import random_model
from toy_dataset import META

from lewm_ros.config import PolicyConfig, to_mapping
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.model.policy import make_policy
from lewm_ros.observation.goal_folder import read_goal_folder
from lewm_ros.observation.observation import Observation
from lewm_ros.robot.arm_actions import ee_delta
from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset, merge_episodes, write_episode
from lewm_training.judge.subgoals import SubgoalFinder, stage_rows

OPEN, SHUT, STEPS = -1.0, 1.0, 60
SPACE = replace(ee_delta([0.02] * 3 + [0.08] * 3, 20.0), action_block=5)
GRIPS = (
    [OPEN] * 10 + [SHUT] * 30 + [OPEN] * 20,
    [OPEN] * 5 + [SHUT] * 8 + [OPEN] * 7 + [SHUT] * 10 + [OPEN] * 30,
    [OPEN] * 20 + [SHUT] * 40,
    [OPEN] * STEPS,
)
"""Grasps from 10 to 40; twice, of which the second from 20 to 30 counts; never lets go; never grasps."""


def frames(seed: int) -> np.ndarray:
    """An episode of noise that no other one has."""
    return np.random.default_rng(seed).integers(0, 256, (STEPS, 32, 32, 3), dtype=np.uint8)


def write(folder: Path, grips: tuple[list[float], ...]) -> Path:
    parts = []
    for number, grip in enumerate(grips):
        action = np.zeros((STEPS, 7), np.float32)
        action[:, 6] = grip
        parts.append(folder / f"part_{number}.h5")
        write_episode(parts[-1], {"pixels": frames(number), "action": action}, {"number": number})
    meta = {name: value for name, value in META.items() if name != "action_space"}
    merge_episodes(parts, folder / "demonstrations.h5", meta | {"action_space": to_mapping(SPACE)})
    return folder / "demonstrations.h5"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("demonstrations"), GRIPS)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    model = random_model()
    return Checkpoint(model, SPACE, policy=make_policy(PolicyConfig(width=16, depth=1), model, SPACE).eval())


def test_stages_are_those_of_the_last_grasp_that_lets_go(path: Path) -> None:
    # At 20 Hz, 0.75 s are 15 steps and 0.2 s are 4.
    # The second episode opens ten steps after it has closed, so lifted is about to open.
    first, second = [10, 25, 40, 44], [20, 30, 34]
    expected = {0: first, 1: [STEPS + step for step in second]}
    assert stage_rows(EpisodeDataset.open(path)) == expected


def test_goals_come_from_the_demonstration_that_is_most_alike(path: Path, checkpoint: Checkpoint) -> None:
    finder = SubgoalFinder(checkpoint, EpisodeDataset.open(path))
    for episode, steps in ((0, [10, 25, 40, 44]), (1, [20, 30, 34])):
        seen = frames(episode)
        goal = Observation({"camera": seen[-1]})
        nearest = finder.find(Observation({"camera": seen[0]}), goal)
        assert nearest.episode == episode
        assert nearest.goals[-1] is goal
        for found, step in zip(nearest.goals, steps, strict=False):
            np.testing.assert_array_equal(found.frames["camera"], seen[step])


def test_demonstrations_without_a_grasp_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    without = EpisodeDataset.open(write(tmp_path, GRIPS[2:]))
    with pytest.raises(DatasetError, match="no episode in which the hand closes, stays closed, and opens again"):
        SubgoalFinder(checkpoint, without)


def test_the_command_writes_a_folder_of_goals(path: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "model")
    for name, frame in (("start", frames(1)[0]), ("goal", frames(1)[-1])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    command = ["subgoals", "--checkpoint", str(tmp_path / "model"), "--dataset", str(path), "--device", "cpu"]
    command += ["--start", str(tmp_path / "start.png"), "--goal", str(tmp_path / "goal.png")]
    assert main([*command, "--out", str(tmp_path / "goals")]) == 0
    goals = read_goal_folder(tmp_path / "goals", ["camera"])
    for goal, step in zip(goals, [20, 30, 34, STEPS - 1], strict=True):
        np.testing.assert_array_equal(goal.frames["camera"], frames(1)[step])
    embeddings = torch.stack([checkpoint.encode_goal(goal) for goal in goals])
    assert embeddings.shape == (4, 1, 16)
    assert main([*command, "--out", str(tmp_path / "goals")]) == 2, "images that are there stay"
