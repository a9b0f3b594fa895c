"""What is reported of goals that were driven over ROS, and what suits the nodes to a checkpoint; no ROS is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import joint_delta_space, random_model

from lewm_ros.config import ConfigError
from lewm_ros.environments import Environment, Score, make_environment
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.robot.arm_actions import ee_delta, other
from lewm_training.judge.demo import goal_line
from lewm_training.judge.evaluate import Compared, Outcome
from lewm_training.judge.evaluate_ros import summarise_goals
from lewm_training.judge.goals import planner_parameters_for, simulator_parameters

MISSED = Outcome(Score(0.2, "m", success=False), Score(0.2, "m", success=False))
FLOOR = [Compared(MISSED, MISSED, None)]


@pytest.fixture(scope="module")
def reach() -> Iterator[Environment]:
    environment = make_environment("reach")
    yield environment
    environment.close()


def goal(final_distance_m: float, latency_s: float | None, success: bool = False) -> dict:
    """What the episode runner writes of a goal that is 0.2 m away."""
    planned = latency_s is not None
    return {
        "start_distance_m": 0.2,
        "final_distance_m": final_distance_m,
        "closest_distance_m": min(final_distance_m, 0.1),
        "success": success,
        "cost": 0.0,
        "stages": {"reached": success},
        "stage_s": {},
        "surprise": {"time_s": [0.5, 1.5, 2.5], "value": [9.0, 1.0, 6.0]},
        "committed_steps": 2.0 if planned else None,
        "plan_latency_p50_s": latency_s,
        "plan_latency_p95_s": latency_s,
        "plan_rate_hz": 4.0 * planned,
        "command_rate_hz": 20.0 * planned,
        "cycles": 120 * planned,
        "missed_cycles": 3 * planned,
        "real_time_factor": 1.0,
    }


def test_a_goal_without_a_plan_is_not_solved_and_has_no_latency(reach: Environment) -> None:
    goals = [goal(0.01, 0.1, success=True), goal(0.2, None), goal(0.3, 0.3)]
    report = summarise_goals(reach, goals, FLOOR)
    assert (report["task"], report["unit"]) == ("reach", "m")
    assert (report["episodes"], report["successes"], report["without_plan"]) == (3, 1, 1)
    assert report["plan_latency_s"] == {"p50": pytest.approx(0.2), "p95": pytest.approx(0.3)}
    assert report["missed_fraction"] == 6 / 240
    assert report["committed_steps"] == 2.0
    assert report["final_distance_m"]["median"] == pytest.approx(0.155)  # of 0.01 and 0.3
    assert [episode["final"] for episode in report["by_episode"]] == [0.01, None, 0.3]
    # The first second does not count; of two goals with a plan, both surprised by more than 5.
    assert (report["surprised_episodes"], report["largest_surprise"]["max"]) == (2, 6.0)
    assert report["lost_m"]["median"] == pytest.approx(0.1)  # of 0 and 0.2: the third was 0.1 m away on its way


def test_without_any_plan_there_are_figures_nevertheless(reach: Environment) -> None:
    report = summarise_goals(reach, [goal(0.2, None)] * 2, FLOOR)
    assert (report["success_rate"], report["without_plan"], report["plan_rate_hz"]) == (0.0, 2, 0.0)
    assert report["plan_latency_s"] == {"p50": None, "p95": None}
    assert report["missed_fraction"] is None


def test_a_goal_without_a_plan_has_its_line() -> None:
    assert goal_line(goal(0.2, None) | {"index": 1}, 3) == (
        "goal 2/3  missed   distance  20.0 -> 20.0 cm  no plan  commands 0.0 Hz\n"
    )
    assert "plans 4.0 Hz  latency 100 ms  commands" in goal_line(goal(0.2, 0.1) | {"index": 1}, 3)
    lost = {"stages": {"touched": True, "lifted": False, "placed": False}, "stage_s": {"touched": 1.0, "lifted": 2.0}}
    assert goal_line(goal(0.2, 0.1) | {"index": 1} | lost, 3).endswith("Hz  got to lifted\n")


@pytest.mark.parametrize(
    ("control_hz", "input_age_s", "plan_age_s"), [(20.0, 0.4, 2.0), (10.0, 0.6, 2.0), (2.0, 3.0, 10.0)]
)
def test_the_simulated_loop_suits_the_checkpoint(control_hz: float, input_age_s: float, plan_age_s: float) -> None:
    checkpoint = Checkpoint(random_model(), replace(joint_delta_space(), control_hz=control_hz))
    assert simulator_parameters(checkpoint, "reach") == {
        "task": "reach",
        "cameras": ["scene"],
        "image_size": 32,
        "image_hz": control_hz,
        "tick_hz": 2.0 * control_hz,
    }
    # Six steps without a frame, four blocks of five steps without a plan, at least what is shipped: 0.4 and 2 s.
    planner = planner_parameters_for(checkpoint.action_space)
    assert (planner["max_input_age_s"], planner["max_plan_age_s"]) == (input_age_s, plan_age_s)


def test_twists_are_commanded_as_such() -> None:
    assert planner_parameters_for(ee_delta((0.02,) * 6, 20.0))["command_interface"] == "twist"
    assert planner_parameters_for(joint_delta_space())["command_interface"] == "joint_trajectory"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("pusht", "over ROS there are reach, push, pick_place, and others in which an arm acts"),
        ("pick_place", "acts in 'joint_delta' .* gripper"),
    ],
)
def test_a_task_that_is_not_for_the_checkpoint_is_refused(task: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        simulator_parameters(Checkpoint(random_model(), joint_delta_space()), task)


def test_actions_that_no_arm_carries_out_are_refused() -> None:
    space = replace(other((1.0,) * 7, 20.0), action_block=5)
    with pytest.raises(ConfigError, match="acts in joint_delta or ee_delta"):
        simulator_parameters(Checkpoint(random_model(), space), "reach")
