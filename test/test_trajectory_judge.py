"""The judge of trajectories: what it finds between the points, at the seams and in the pauses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from recordings import seconds, trajectory

from lewm_ros.observation.trajectory_judge import TrajectoryJudge, judge_trajectories
from lewm_ros.robot.limits import JointLimits

LIMITS = JointLimits(("elbow",), (-1.0,), (1.0,), (1.0,), (2.0,), (40.0,))
MS = 1_000_000


def move(start_s: float, points: Sequence[tuple[float, ...]]) -> Any:
    """A trajectory of the elbow: s from its start, rad, and as many derivatives as there are."""
    message = trajectory(
        seconds(start_s), [(time_s, [position]) for time_s, position, *_ in points], LIMITS.joint_names
    )
    for point, (_, _, *derivatives) in zip(message.points, points, strict=True):
        for name, value in zip(("velocities", "accelerations"), derivatives, strict=False):
            setattr(point, name, np.array([value]))
    return message


def test_a_smooth_move_uses_the_limits_that_it_uses() -> None:
    # The quintic from 0 to 0.2 rad in 1 s: 15/8, 10/sqrt(3) and 60 times that.
    judge = judge_trajectories(LIMITS, [(move(0.0, [(1.0, 0.2, 0.0, 0.0)]), seconds(0.0))], np.zeros(1))
    assert not judge.faults
    share = judge.use.largest
    assert share["position"] == pytest.approx(0.2)
    assert share["velocity"] == pytest.approx(0.375, abs=1e-4)
    assert share["acceleration"] == pytest.approx(2.0 / np.sqrt(3.0) / 2.0, abs=1e-3)
    assert share["jerk"] == pytest.approx(12.0 / 40.0, abs=1e-6)
    assert judge.use.samples == 1001, "every ms of 1 s, both ends"
    assert judge.longest_silence_s == pytest.approx(0.999)


def test_it_looks_between_the_points() -> None:
    # At its points this cubic stands still; between them, 0.8 rad in 1 s need 1.2 rad/s, 4.8 rad/s2 and 9.6 rad/s3.
    judge = judge_trajectories(LIMITS, [(move(0.0, [(1.0, 0.8, 0.0)]), seconds(0.0))], np.zeros(1))
    assert judge.use.largest["velocity"] == pytest.approx(1.2, abs=1e-4)
    assert judge.use.largest["acceleration"] == pytest.approx(2.4, abs=1e-2)
    assert judge.use.beyond["velocity"] > 0 and judge.use.beyond["acceleration"] > 0
    assert "beyond velocity" in judge.faults[0]
    # It begins with 4.8 rad/s2 at once, in a cycle of 1 ms.
    assert judge.use.largest["jerk"] == pytest.approx(4.8e3 / 40.0, rel=0.01)


def test_central_differences_are_not_enough() -> None:
    # Steps of 0, 0.0025, 0.0075 rad in 0.05 s: 2 rad/s2 by differences. The cubic through central differences begins
    # with 2 a0 - a1.
    steps = np.array([0.0, 0.0, 0.0025, 0.01, 0.0175, 0.02, 0.02])
    velocities = np.gradient(steps, 0.05)
    points = [(0.05 * k, *row) for k, row in enumerate(zip(steps, velocities, strict=True))]
    judge = judge_trajectories(LIMITS, [(move(0.0, points), seconds(0.0))], np.zeros(1))
    assert np.abs(np.diff(steps, 2)).max() / 0.05**2 <= 2.0 + 1e-9
    assert judge.use.largest["acceleration"] > 1.4


def test_a_message_that_bends_the_curve_back_is_a_jump() -> None:
    moving = move(0.0, [(0.0, 0.0, 0.0, 0.0), (1.0, 0.2, 0.0, 0.0)])
    same, other = (move(0.0, [(0.0, 0.0, 0.0, 0.0), (1.0, end, 0.0, 0.0)]) for end in (0.2, 0.1))
    seamless = judge_trajectories(LIMITS, [(moving, seconds(0.0)), (same, seconds(0.5))], np.zeros(1))
    assert not seamless.faults
    bent = judge_trajectories(LIMITS, [(moving, seconds(0.0)), (other, seconds(0.5))], np.zeros(1))
    # From 0.1 to 0.05 rad in 1 ms.
    assert bent.use.largest["velocity"] == pytest.approx(50.0, rel=0.01)
    assert bent.use.beyond["velocity"] == 1


def test_silence_counts_only_while_the_arm_moves() -> None:
    moving, still = move(0.0, [(1.0, 0.2, 0.0, 0.0)]), move(9.0, [(1.0, 0.2, 0.0, 0.0)])
    judge = judge_trajectories(LIMITS, [(moving, seconds(0.0)), (moving, seconds(0.6)), (still, seconds(9.0))])
    assert judge.longest_silence_s == 0.0, "unknown start: the arm is where the first point is"
    judge = judge_trajectories(
        LIMITS, [(moving, seconds(0.0)), (moving, seconds(0.6)), (still, seconds(9.0))], np.zeros(1)
    )
    assert judge.longest_silence_s == pytest.approx(0.599)
    assert not judge.faults


def test_what_the_controller_does_not_follow_is_told() -> None:
    judge = TrajectoryJudge(LIMITS, np.zeros(1))
    judge.saw(move(0.0, [(1.0, 0.2, 0.0, 0.0)]), seconds(2.0))
    assert judge.rejected == 1
    assert judge.faults == ["the trajectory ended 1.000 s before it came"]
    assert judge.stands(seconds(2.0))
    assert judge.report()["messages"] == 1


def test_an_arm_that_was_put_elsewhere_begins_anew() -> None:
    judge = TrajectoryJudge(LIMITS, np.zeros(1))
    judge.saw(move(0.0, [(1.0, 0.2, 0.0, 0.0)]), seconds(0.0))
    assert not judge.stands(seconds(0.5)) and judge.stands(seconds(1.0))
    np.testing.assert_allclose(judge.state(seconds(1.0))[:, 0], [0.2, 0.0, 0.0])
    judge.hold(np.array([0.5]))
    judge.saw(move(2.0, [(1.0, 0.5, 0.0, 0.0)]), seconds(2.0))
    judge.finish()
    assert not judge.faults
