"""The spline of commands: its knots, the limits between them, and what a new control point may change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.command_curve import CommandCurve
from lewm_ros.robot.interpolation import MotionPoint, motion_along, polynomial_between
from lewm_ros.robot.limit_use import LimitUse
from lewm_ros.robot.limits import JointLimits, load_limits
from lewm_ros.robot.safety import SafetyFilter
from lewm_ros.robot.spline import Knots, rest_to_rest_s, spline_knots

Array = NDArray[np.float64]

DT = 0.05
LIMITS = load_limits("panda")


def between(knots: Knots, points: int, with_accelerations: bool = True) -> Array:
    """Motion (4, points, n - 1, J) between neighbouring knots."""
    kinds = knots if with_accelerations else knots[:2]
    starts, ends = (MotionPoint(*(kind[part] for kind in kinds)) for part in (slice(None, -1), slice(1, None)))
    return motion_along(polynomial_between(starts, ends, DT), np.linspace(0.0, DT, points))


def test_knots_of_a_straight_line_and_of_a_step() -> None:
    line = spline_knots(np.arange(5.0)[:, np.newaxis], DT)
    np.testing.assert_allclose(line.positions_rad[:, 0], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(line.velocities_rad_s[:, 0], 1.0 / DT)
    np.testing.assert_allclose(line.accelerations_rad_s2, 0.0, atol=1e-9)
    step = spline_knots(np.array([[0.0], [0.0], [6.0], [6.0]]), DT)
    np.testing.assert_allclose(step.positions_rad[:, 0], [1.0, 5.0])
    np.testing.assert_allclose(step.velocities_rad_s[:, 0], 3.0 / DT)
    np.testing.assert_allclose(step.accelerations_rad_s2[:, 0], [6.0 / DT**2, -6.0 / DT**2])


def test_between_knots_cubic_and_quintic_are_the_b_spline() -> None:
    control_points = np.random.default_rng(0).normal(size=(12, 3))
    knots = spline_knots(control_points, DT)
    u = np.linspace(0.0, 1.0, 11)
    basis = np.array([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]) / 6.0  # (4, 11)
    windows = np.stack([control_points[shift : shift + 9] for shift in range(4)])  # (4, 9, 3)
    expected = np.einsum("bu,bnj->unj", basis, windows)
    for with_accelerations in (False, True):
        motion = between(knots, 11, with_accelerations)
        np.testing.assert_allclose(motion[0], expected, atol=1e-12)
        # The jerk is the third difference.
        np.testing.assert_allclose(
            motion[3], np.tile(np.diff(control_points, 3, axis=0) / DT**3, (11, 1, 1)), rtol=1e-6
        )


def test_the_curve_of_filtered_commands_keeps_what_the_commands_keep() -> None:
    rng, safety = np.random.default_rng(1), SafetyFilter(LIMITS, 1.0 / DT, max_lead_rad=9.0)
    safety.begin(PANDA.home_rad)
    middle = PANDA.home_rad
    commands = [safety.filter(middle + rng.uniform(-1.0, 1.0, 7), middle).position_rad for _ in range(500)]
    motion = between(spline_knots(np.array(commands), DT), 51)
    use = LimitUse(LIMITS)
    assert not use.add(motion.reshape(4, -1, 7))
    assert use.samples == 497 * 51
    assert min(use.largest["velocity"], use.largest["acceleration"]) > 0.9, "it uses them"


def test_a_control_point_changes_the_curve_from_two_knots_before_it() -> None:
    before = np.zeros((10, 1))
    after = before.copy()
    after[6] = 1.0
    # Knot k is at index k - 1.
    for old, new in zip(spline_knots(before, DT), spline_knots(after, DT), strict=True):
        changed = np.flatnonzero(np.abs(new - old)[:, 0]) + 1
        assert changed.min() >= 5 and changed.max() <= 7
    moved = np.abs(between(spline_knots(after, DT), 11)[0])[:, :, 0].max(0)
    assert np.flatnonzero(moved).tolist() == [3, 4, 5, 6], "segments from knots 4, 5, 6 and 7"


def test_a_curve_that_is_prolonged_goes_on_where_it_was() -> None:
    safety = SafetyFilter(LIMITS, 1.0 / DT, max_lead_rad=9.0)
    safety.begin(PANDA.home_rad)
    curve, rng, newest = CommandCurve(safety, DT), np.random.default_rng(2), None
    for command in range(60):
        if newest is not None and command % 5 == 3:
            curve.go_on()
            newest = Knots(*(kind[1:] for kind in newest))
            continue
        safety.filter(PANDA.home_rad + rng.uniform(-1.0, 1.0, 7), PANDA.home_rad)
        curve.append()
        knots = curve.foresee(PANDA.home_rad + rng.uniform(-1.0, 1.0, (3, 7)))
        if newest is not None and command % 5 == 1:
            curve.take_back()
            newest = Knots(*(kind[1:] for kind in newest))
            continue
        if newest is not None:
            for old, new in zip(newest, knots, strict=True):
                np.testing.assert_allclose(new[:3], old[1:4], atol=1e-9)
        newest = knots
    assert not curve.standing
    np.testing.assert_allclose(newest.positions_rad[-1], curve.end_rad)
    assert not newest.velocities_rad_s[-1].any() and not newest.accelerations_rad_s2[-1].any()
    for _ in range(20):
        curve.go_on()
    assert curve.standing
    np.testing.assert_allclose(curve.control_points_rad[-1], curve.end_rad)


@pytest.mark.parametrize(
    ("velocity", "acceleration", "jerk", "distance", "duration_s"),
    [
        (0.5, 90.0, 900.0, 0.8, 3.0),  # 15 / 8 x 0.8 / T <= 0.5
        (90.0, 10.0 / 3.0**0.5, 900.0, 4.0, 2.0),  # 10 / sqrt(3) x 4 / T^2 <= 10 / sqrt(3)
        (90.0, 50.0, 60.0, 8.0, 2.0),  # 60 x 8 / T^3 <= 60
    ],
)
def test_a_rest_to_rest_move_uses_one_limit_up(
    velocity: float, acceleration: float, jerk: float, distance: float, duration_s: float
) -> None:
    limits = JointLimits(("a",), (-9.0,), (9.0,), (velocity,), (acceleration,), (jerk,))
    assert rest_to_rest_s(np.array([-distance]), limits) == pytest.approx(duration_s)
    start, end = (MotionPoint(np.array([position]), np.zeros(1), np.zeros(1)) for position in (0.0, distance))
    use = LimitUse(limits)
    use.add(motion_along(polynomial_between(start, end, duration_s), np.linspace(0.0, duration_s, 1001)))
    assert max(use.largest.values()) == pytest.approx(1.0, abs=1e-3)
