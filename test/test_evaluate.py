"""The closed loop's report: honest problems, a random floor, the interval, and every figure the design asks for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lewm_ros.config import PlannerConfig
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.sim import SimArm, draw_problems, make_task
from lewm_training.__main__ import main
from lewm_training.judge.evaluate import evaluate_direct, wilson_interval
from lewm_training.judge.processes import planner_config

REPORT = {
    "task", "episodes", "successes", "success_rate", "ci95", "random_success_rate", "start_distance_m",
    "final_distance_m", "plan_latency_s", "control_hz", "missed_cycles", "checkpoint", "seed", "transport",
}  # fmt: skip


@pytest.fixture(scope="module")
def arm() -> SimArm:
    return SimArm(image_size=32)


def test_wilson_interval_of_a_known_case() -> None:
    # 8 of 10: centre (0.8 + 1.96^2 / 20) / (1 + 1.96^2 / 10) = 0.71674, half width 0.22658.
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0


def test_reach_problems_are_far_apart_in_space_and_in_every_joint(arm: SimArm) -> None:
    problems = draw_problems(make_task("reach"), arm, seed=4)
    for _ in range(20):
        problem = next(problems)
        start, goal = arm.forward_kinematics(problem.start_rad), arm.forward_kinematics(problem.goal_rad)
        assert np.linalg.norm(start - goal) >= 0.15
        assert (np.abs(problem.start_rad - problem.goal_rad) >= 0.1).all()
        np.testing.assert_allclose(goal, problem.goal_position_m)


def test_a_seed_gives_the_same_problems_and_another_seed_others(arm: SimArm) -> None:
    task = make_task("reach")
    first, again, other = (next(draw_problems(task, arm, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.goal_rad, again.goal_rad)
    assert not np.allclose(first.goal_rad, other.goal_rad)


def test_a_random_model_reaches_nothing_and_the_report_is_whole(checkpoint_path: Path) -> None:
    search = PlannerConfig(horizon=2, samples=4, iterations=1, elites=2, knots_per_block=1, precision="fp32")
    report = evaluate_direct(load_checkpoint(checkpoint_path), "reach", episodes=2, seed=0, config=search)
    assert report.keys() >= REPORT
    assert report["success_rate"] == report["successes"] / 2
    assert report["start_distance_m"]["median"] >= 0.15
    assert report["transport"] == "direct"
    again = evaluate_direct(load_checkpoint(checkpoint_path), "reach", episodes=2, seed=0, config=search)
    assert report["final_distances_m"] == again["final_distances_m"]


def test_the_shipped_search_is_the_one_of_the_node() -> None:
    assert planner_config().samples >= planner_config().elites


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
