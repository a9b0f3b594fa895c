"""What an episode tells about its earlier frames, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from toy_dataset import META

from lewm_ros.config import InputsConfig, ReadoutConfig, TrainConfig, WayToGraspConfig, to_mapping
from lewm_ros.robot.arm_actions import ee_delta, joint_delta
from lewm_training.data import INTENDED, DatasetError, EpisodeDataset, merge_episodes, write_episode
from lewm_training.data.hindsight import HindsightGoals, grasp_rows
from lewm_training.data.targets import targets_of, way_to_grasp
from lewm_training.data.windows import IMITATED, InputReader, WindowReader
from lewm_training.learn.objective import Readout
from lewm_training.learn.statistics import input_spec_of

OPEN, SHUT = -1.0, 1.0
# The hand closes at step 3 for seven steps; a twitch at step 12 is no grasp; at step 15 it closes for good.
GRIPS = [OPEN] * 3 + [SHUT] * 7 + [OPEN] * 2 + [SHUT] + [OPEN] * 2 + [SHUT] * 5
STEPS = len(GRIPS)

YAWS = np.full(STEPS, math.pi / 2.0)
YAWS[3] += 0.2  # at the grasp the hand is turned on by 0.2 rad
TURN = 2.0 * math.sin(0.1)


def yaw_quaternions(yaws: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turns about the vertical (N,) as quaternions (N, 4), of which every other has the other sign."""
    zero, sign = np.zeros_like(yaws), 1.0 - 2.0 * (np.arange(len(yaws)) % 2)
    return (sign[:, None] * np.stack([np.cos(yaws / 2), zero, zero, np.sin(yaws / 2)], axis=1)).astype(np.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Two episodes: one that grasps twice, and one whose hand stays open."""
    folder = tmp_path_factory.mktemp("hindsight")
    space = to_mapping(ee_delta([0.02] * 3 + [0.08] * 3, 20.0))
    parts = []
    for number, grips in enumerate((GRIPS, [OPEN] * STEPS)):
        action = np.zeros((STEPS, 7), np.float32)
        action[:, 6] = grips
        hand = np.arange(STEPS, dtype=np.float32)[:, None] * [1.0, 10.0, 100.0]
        columns = {"pixels": np.zeros((STEPS, 8, 8, 3), np.uint8), "action": action}
        columns |= {"ee_position": hand.astype(np.float32), "ee_quaternion": yaw_quaternions(YAWS)}
        parts.append(folder / f"{number}.h5")
        write_episode(parts[-1], columns, {"number": number})
    meta = {name: value for name, value in META.items() if name != "action_space"} | {"action_space": space}
    merge_episodes(parts, folder / "grasps.h5", meta)
    return EpisodeDataset.open(folder / "grasps.h5")


def test_a_grasp_is_where_an_open_hand_closes_next_and_stays_closed(dataset: EpisodeDataset) -> None:
    expected = [3] * 4 + [-1] * 6 + [15] * 2 + [15] + [15] * 3 + [-1] * 4
    expected[12] = 15  # the twitch begins here; what comes next is the grasp at 15
    np.testing.assert_array_equal(grasp_rows(dataset), expected + [-1] * STEPS)


def test_a_label_at_the_grasp_is_the_column_there_and_unknown_without_one(dataset: EpisodeDataset) -> None:
    asked = TrainConfig(readouts=(ReadoutConfig("ee_position", at_grasp=True),))
    spec = input_spec_of(InputsConfig(), 8, dataset, np.array([0]))
    reader = InputReader(dataset, spec, targets_of(dataset, asked))
    values = reader.read(np.array([[0, 10], [5, STEPS]]))["label/ee_position_at_grasp"].numpy()
    np.testing.assert_array_equal(values[0], [[3.0, 30.0, 300.0], [15.0, 150.0, 1500.0]])
    assert np.isnan(values[1]).all()


def test_the_way_to_the_grasp_is_seen_from_the_hand_and_asked_when_it_is_near(dataset: EpisodeDataset) -> None:
    # The hand is turned by 90 degrees about the vertical: what lies ahead in the world, along x, is at its right, -y.
    # At step 2 the grasp, at step 3, is one step ahead: (1, 10, 100) in the world. From step 1 it is twice as far.
    way = way_to_grasp(dataset, WayToGraspConfig(within_m=101.0))
    np.testing.assert_allclose(way[2], [10.0, -1.0, 100.0, 0.0, 0.0, TURN], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(way[3], np.zeros(6), atol=1e-6)
    assert np.isnan(way[[0, 1, 5, STEPS]]).all()
    with pytest.raises(DatasetError, match="'action' has 7 numbers, 3 are needed"):
        way_to_grasp(dataset, WayToGraspConfig(position="action"))


def test_without_a_gripper_there_is_no_grasp(dataset: EpisodeDataset, tmp_path: Path) -> None:
    column = {"pixels": np.zeros((4, 8, 8, 3), np.uint8), "action": np.zeros((4, 7), np.float32)}
    write_episode(tmp_path / "0.h5", column, {"number": 0})
    merge_episodes([tmp_path / "0.h5"], tmp_path / "joints.h5", META)
    with pytest.raises(DatasetError, match="one absolute channel, the gripper's"):
        grasp_rows(EpisodeDataset.open(tmp_path / "joints.h5"))


def test_goals_lie_between_the_frame_and_the_end_of_its_episode(dataset: EpisodeDataset) -> None:
    rows = np.repeat([2, STEPS + 7], 500)
    goals = HindsightGoals(dataset, final_share=0.5).draw(np.random.default_rng(0), rows)
    assert goals[:500].min() == 2 and goals[:500].max() == STEPS - 1
    assert goals[500:].min() == STEPS + 7 and goals[500:].max() == 2 * STEPS - 1
    # The last row is drawn half the time, and once more by chance: of 18 rows, .5 + .5 / 18 = .53.
    assert 0.45 < np.mean(goals[:500] == STEPS - 1) < 0.61
    assert (HindsightGoals(dataset, 1.0).draw(np.random.default_rng(0), np.array([0, STEPS])) == [19, 39]).all()


def test_goals_can_be_kept_near(dataset: EpisodeDataset) -> None:
    rows = np.repeat([2, STEPS - 3], 500)
    goals = HindsightGoals(dataset, final_share=0.0, within=4).draw(np.random.default_rng(0), rows)
    assert set(goals[:500]) == {2, 3, 4, 5, 6}
    assert set(goals[500:]) == {STEPS - 3, STEPS - 2, STEPS - 1}, "the episode ends there"


def test_what_a_demonstrator_meant_is_imitated_and_what_it_did_is_predicted(tmp_path: Path) -> None:
    action = np.tile(np.linspace(-0.04, 0.04, 12, dtype=np.float32)[:, None], 7)
    column = {"pixels": np.zeros((12, 8, 8, 3), np.uint8), "action": action}
    space = replace(joint_delta([f"joint_{n}" for n in range(7)], [0.05] * 7, 20.0), action_block=2)
    for name, extra in (("told", {INTENDED: -action}), ("untold", {})):
        write_episode(tmp_path / "0.h5", column | extra, {"number": 0})
        merge_episodes([tmp_path / "0.h5"], tmp_path / f"{name}.h5", META)
        dataset = EpisodeDataset.open(tmp_path / f"{name}.h5")
        inputs = input_spec_of(InputsConfig(), 8, dataset, np.array([0]))
        reader = WindowReader(InputReader(dataset, inputs), space, torch.device("cpu"))
        values, done = reader.read(np.array([3]), 3, HindsightGoals(dataset, 1.0))
        # From row 3 on two blocks of two steps; by a mean of 0 and a deviation of 1 they stay what they are.
        np.testing.assert_allclose(done.reshape(4, 7), action[3:7], atol=1e-7)
        meant = -action[3:7] if extra else action[3:7]
        np.testing.assert_allclose(values[IMITATED].reshape(4, 7), meant, atol=1e-7)


def test_a_readout_counts_only_what_is_known() -> None:
    readout = Readout((1,), 2, torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0]), 1.0)
    torch.nn.init.zeros_(readout.head.weight)
    torch.nn.init.zeros_(readout.head.bias)
    numbers = torch.tensor([[3.0, torch.nan], [torch.nan, torch.nan]])
    error = readout(torch.ones(2, 3, 2), numbers)
    assert error == 1.0  # one known number, (3 - 1) / 2 = 1 from the 0 that is read
    assert readout(torch.ones(1, 3, 2), numbers[1:]) == 0.0
