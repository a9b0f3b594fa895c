"""The closed loop's report: honest problems, a random floor, the interval, and every figure the design asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from conftest import joint_delta_space, random_model, small_model_config

from lewm_ros.config import ConfigError
from lewm_ros.environments import Environment, make_environment
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint
from lewm_ros.observation.input_spec import CameraSpec, InputSpec
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_training.__main__ import main
from lewm_training.judge.evaluate import (
    Timing,
    environment_for,
    evaluate_direct,
    pursue,
    wilson_interval,
)
from lewm_training.judge.processes import planner_config

REPORT = {
    "task", "episodes", "successes", "success_rate", "ci95", "random_success_rate", "start_distance_m",
    "final_distance_m", "plan_latency_s", "control_hz", "lost_m", "checkpoint", "seed", "transport",
}  # fmt: skip


@pytest.fixture(scope="module")
def reach() -> Iterator[Environment]:
    environment = make_environment("reach", image_size=32)
    yield environment
    environment.close()


def test_wilson_interval_of_a_known_case() -> None:
    # 8 of 10: centre (0.8 + 1.96^2 / 20) / (1 + 1.96^2 / 10) = 0.71674, half width 0.22658.
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0


def test_reach_problems_are_far_apart_in_space_and_in_every_joint(reach: Environment) -> None:
    for problem in islice(reach.problems(seed=4), 20):
        start, goal = (reach.arm.forward_kinematics(joints) for joints in (problem.start_rad, problem.goal_rad))
        assert np.linalg.norm(start - goal) >= 0.15
        assert (np.abs(problem.start_rad - problem.goal_rad) >= 0.1).all()
        np.testing.assert_allclose(goal, problem.goal_position_m)


def test_a_seed_gives_the_same_problems_and_another_seed_others(reach: Environment) -> None:
    first, again, other = (next(reach.problems(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.goal_rad, again.goal_rad)
    assert not np.allclose(first.goal_rad, other.goal_rad)


def test_a_random_model_reaches_nothing_and_the_report_is_whole(checkpoint_path: Path) -> None:
    search = PlannerConfig(horizon=2, samples=4, iterations=1, elites=2, knots_per_block=1, precision="fp32")
    report = evaluate_direct(load_checkpoint(checkpoint_path), "reach", episodes=2, seed=0, config=search)
    assert report.keys() >= REPORT
    assert report["success_rate"] == report["successes"] / 2
    assert report["start_distance_m"]["median"] >= 0.15
    assert (report["transport"], report["unit"]) == ("direct", "m")
    again = evaluate_direct(load_checkpoint(checkpoint_path), "reach", episodes=2, seed=0, config=search)
    assert report["by_episode"] == again["by_episode"]


def test_the_last_plan_ends_with_the_budget(reach: Environment) -> None:
    # The task allows 120 steps, that is 6 s: at steps 0, 18, ..., 108 there are seven plans, and 126 steps do not fit.
    space = replace(joint_delta_space(), action_block=18)
    model = LeWorldModel(replace(small_model_config(), action_dim=space.block_dim)).eval()
    search = PlannerConfig(horizon=1, samples=2, iterations=1, elites=1, knots_per_block=1, precision="fp32")
    checkpoint = Checkpoint(model, space)
    planner, timing = RecedingHorizonPlanner(checkpoint, search), Timing(replan_steps=18)
    outcome = pursue(checkpoint, planner, reach, next(reach.problems(seed=0)), timing)
    assert len(outcome.plan_latency_s) == 7
    assert reach.arm.time_s == pytest.approx(6.0)


def test_a_task_must_have_the_checkpoints_cameras_and_actions() -> None:
    two = InputSpec((CameraSpec("scene", 32), CameraSpec("side", 32)))
    checkpoint = Checkpoint(LeWorldModel(small_model_config(), two), joint_delta_space())
    with pytest.raises(ConfigError, match="has scene, wrist, not 'side'"):
        environment_for(checkpoint, "reach")
    with pytest.raises(ConfigError, match=r"acts in 'joint_delta' .* task 'push' in .*gripper"):
        environment_for(Checkpoint(random_model(), joint_delta_space()), "push")


def test_the_shipped_search_is_the_one_of_the_node() -> None:
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")
    from rclpy.context import Context
    from rclpy.node import Node

    from lewm_ros.nodes.parameters import Parameters
    from lewm_ros.nodes.planner.settings import PlannerSettings

    context = Context()
    file = Path(__file__).parents[1] / "config" / "planner.yaml"
    rclpy.init(args=["--ros-args", "--params-file", str(file)], context=context)
    try:
        node = Node("planner_node", context=context)
        parameters = Parameters(node, lambda: False)
        assert PlannerSettings(parameters).search() == planner_config()
    finally:
        rclpy.shutdown(context=context)


def test_eval_writes_its_figures(checkpoint_path: Path, tmp_path: Path) -> None:
    search = tmp_path / "search.yaml"
    search.write_text("{horizon: 1, samples: 2, iterations: 1, elites: 1}")
    arguments = ["eval", "--checkpoint", str(checkpoint_path), "--episodes", "1", "--planner", str(search)]
    assert main([*arguments, "--json", str(tmp_path / "eval.json")]) == 0
    assert json.loads((tmp_path / "eval.json").read_text()).keys() >= REPORT


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "--checkpoint", "nowhere"], "no file"),
        (["eval", "--task", "juggle"], "task 'juggle' is unknown; known: reach, push, pick_place"),
        (["collect", "--task", "juggle", "--out", "x.h5"], "task 'juggle' is unknown"),
        (["train", "--dataset", "nowhere.h5", "--config", "config/train_nano.yaml", "--out", "x"], "no such file"),
        (["train", "--dataset", "x.h5", "--config", "nowhere.yaml", "--out", "x"], "nowhere.yaml: cannot be read"),
        (
            ["train", "--dataset", "x", "--config", "config/train_nano.yaml", "--out", "x", "--set", "epoch=1"],
            "did you mean 'epochs'?",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
