"""The safety filter: no target and no measurement makes it pass a limit, and it does not stand in the way otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.braking import braking_path, stoppable_speed
from lewm_ros.robot.kinematics import franka_kinematics
from lewm_ros.robot.limits import JointLimits, load_limits
from lewm_ros.robot.safety import Filtered, SafetyFilter
from lewm_ros.robot.workspace import Workspace
from lewm_training.bench.safety import bench_safety, limit_ratios

Array = NDArray[np.float64]

PANDA_LIMITS = load_limits("panda")
MARGIN_RAD = 0.02
STILL = ("size", "not_finite", "measured", "follow")


def one_joint(velocity: float = 1.0, acceleration: float = 2.0, jerk: float = 1000.0) -> JointLimits:
    return JointLimits(("joint",), (-1.0,), (1.0,), (velocity,), (acceleration,), (jerk,))


def begun(limits: JointLimits, start: Sequence[float], control_hz: float = 20.0, **options: float) -> SafetyFilter:
    safety = SafetyFilter(limits, control_hz, **options)
    safety.begin(start)
    return safety


def send(safety: SafetyFilter, targets: Array) -> Array:
    """The commands (1 + N, J) that targets (N, J) become on an arm that follows at once."""
    sent = [safety.position_rad]
    for target in targets:
        sent.append(safety.filter(target, sent[-1]).position_rad)
    return np.array(sent)


def stop(safety: SafetyFilter, at_most: int) -> list[Filtered]:
    steps = []
    while not safety.standing:
        steps.append(safety.brake())
        assert len(steps) <= at_most
    return steps


# What passes unchanged, and how a target is approached.


def test_a_feasible_path_passes_unchanged() -> None:
    time_s = np.arange(200)[:, np.newaxis] / 20.0
    path = PANDA.home_rad + 0.4 * (1.0 - np.cos(time_s))  # at most 0.4 rad/s and 0.4 rad/s2
    safety = begun(PANDA_LIMITS, path[0])
    np.testing.assert_allclose(send(safety, path[1:]), path, atol=1e-12)
    assert not safety.counts


def test_a_step_is_reached_without_overshoot_in_the_shortest_time() -> None:
    # 1 rad/s and 2 rad/s2: 0.5 s of acceleration and of braking cover 0.25 rad each, 0.3 rad at full speed take 0.3 s.
    safety = begun(one_joint(), [-0.4], control_hz=100.0, max_lead_rad=2.0)
    path = send(safety, np.full((200, 1), 0.4))[:, 0]
    assert np.diff(path).min() >= -1e-12
    assert path.max() <= 0.4 + 1e-12
    arrived_s = np.argmax(path > 0.4 - 1e-6) / 100.0
    assert arrived_s == pytest.approx(1.3, abs=0.02)
    assert {"velocity", "acceleration"} <= set(safety.counts)


def test_relative_targets_add_to_the_aim_also_where_jerk_delays_the_command() -> None:
    safety = begun(one_joint(jerk=200.0), [-0.5], control_hz=1000.0)
    for _ in range(1500):
        safety.filter(safety.aim_rad + 0.0005, safety.position_rad)  # 0.5 rad/s
    assert safety.position_rad[0] == pytest.approx(-0.5 + 1500 * 0.0005, abs=0.01 * 0.5 + 0.07)


def test_a_velocity_scale_holds_and_may_fall_at_any_time() -> None:
    safety = begun(one_joint(acceleration=5.0), [-0.9], control_hz=50.0, max_lead_rad=2.0)
    speeds = [safety.filter([0.9], safety.position_rad, scale).velocity_rad_s[0] for scale in [0.2] * 20 + [0.0] * 20]
    assert max(speeds) == pytest.approx(0.2, rel=1e-5)
    assert speeds[-1] == 0.0 and safety.standing


def test_a_preview_is_what_will_be_sent_and_ends_at_rest() -> None:
    safety = begun(PANDA_LIMITS, PANDA.home_rad, max_lead_rad=1.0)
    send(safety, PANDA.home_rad + np.linspace(0.0, 0.1, 5)[:, np.newaxis])
    targets = PANDA.home_rad + np.linspace(0.1, 0.3, 6)[:, np.newaxis] * np.ones(7)
    before = safety.position_rad, dict(safety.counts)
    ahead = safety.preview(targets)
    assert (safety.position_rad is before[0]) and dict(safety.counts) == before[1]
    np.testing.assert_array_equal(send(safety, targets)[1:], [command.position_rad for command in ahead[:6]])
    assert not ahead[-1].velocity_rad_s.any()


@pytest.mark.parametrize("control_hz", [20.0, 1000.0])
def test_a_filter_resumes_from_what_was_foreseen(control_hz: float) -> None:
    # At 1 kHz the jerk rule averages, so that there is more to remember than the last command.
    safety, other = (begun(PANDA_LIMITS, PANDA.home_rad, control_hz, max_lead_rad=1.0) for _ in range(2))
    targets = PANDA.home_rad + np.arange(1, 9)[:, np.newaxis] * 0.4 / control_hz
    foreseen = safety.preview(targets)
    for command in foreseen[:5]:
        safety.resume(command.state)
    other_path = [other.filter(target, other.position_rad).position_rad for target in targets]
    np.testing.assert_array_equal(safety.position_rad, other_path[4])
    np.testing.assert_array_equal(safety.filter(targets[5], safety.position_rad).position_rad, other_path[5])


# What is refused, and what then happens.


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ([np.nan, *[0.0] * 6], "not_finite"),
        ([np.inf] * 7, "not_finite"),
        (["left"] * 7, "not_finite"),
        ([0.0] * 6, "size"),
        ([], "size"),
        (0.0, "size"),
    ],
)
def test_an_unusable_target_makes_the_arm_brake_where_it_is(target: object, rule: str) -> None:
    safety = begun(PANDA_LIMITS, PANDA.home_rad, max_lead_rad=1.0)
    moving = send(safety, PANDA.home_rad + np.arange(1, 8)[:, np.newaxis] * 0.03)
    done = [safety.filter(target, safety.position_rad) for _ in range(10)]
    assert done[0].interventions == {rule: 1}
    assert safety.standing
    # 0.6 rad/s at 7.5 rad/s2: 0.024 rad in continuous time, half a step of 0.05 s more in discrete time.
    assert np.abs(safety.position_rad - moving[-1]).max() < 0.04


def test_an_unusable_measurement_makes_the_arm_brake() -> None:
    safety = begun(PANDA_LIMITS, PANDA.home_rad)
    assert safety.filter(PANDA.home_rad, [np.nan] * 7).interventions == {"measured": 1}
    assert safety.filter(PANDA.home_rad, [0.0] * 3).interventions == {"measured": 1}


def test_a_measured_position_that_jumps_stops_the_arm_and_nothing_follows_it() -> None:
    safety = begun(PANDA_LIMITS, PANDA.home_rad, max_lead_rad=0.3)
    path = send(safety, PANDA.home_rad + np.arange(1, 11)[:, np.newaxis] * 0.03)
    done = [safety.filter(path[-1] + 0.1, path[-1] + 1.0) for _ in range(20)]
    assert all("follow" in command.interventions for command in done)
    assert safety.standing
    assert limit_ratios(np.vstack([path, *(c.position_rad for c in done)]), PANDA_LIMITS, 20.0, 0.0)["jerk"] <= 1.0
    assert np.abs(safety.position_rad - path[-1]).max() < 0.04
    assert safety.filter(path[-1], path[-1]).interventions.keys().isdisjoint(STILL)  # it follows again


def test_a_blocked_arm_is_never_led_by_more_than_the_largest_lead() -> None:
    for control_hz in (20.0, 1000.0):
        safety = begun(PANDA_LIMITS, PANDA.home_rad, control_hz, max_lead_rad=0.2)
        done = [safety.filter(PANDA.home_rad + 1.0, PANDA.home_rad) for _ in range(int(2 * control_hz))]
        leads = np.array([command.position_rad for command in done]) - PANDA.home_rad
        assert leads.max() <= 0.2 + 1e-12 and leads[-1] == pytest.approx(0.2)
        assert safety.counts["lead"] == 7 * len(done)


def test_begin_refuses_what_no_command_may_be() -> None:
    safety = SafetyFilter(PANDA_LIMITS, 20.0)
    with pytest.raises(RuntimeError, match="begin must come before"):
        safety.filter(PANDA.home_rad, PANDA.home_rad)
    with pytest.raises(ValueError, match=r"joint 'panda_joint4' is at 0\.0000 rad, outside its limits -3\.0718 to"):
        safety.begin(np.zeros(7))
    with pytest.raises(ValueError, match=r"shape \(6,\) instead of \(7,\)"):
        safety.begin(np.zeros(6))
    with pytest.raises(ValueError, match="not finite"):
        safety.begin(np.full(7, np.nan))


def test_an_arm_that_begins_within_the_margin_only_moves_out_of_it() -> None:
    safety = begun(one_joint(), [0.995], margin_rad=0.02)
    assert safety.filter([2.0], [0.995]).position_rad[0] < 0.995
    assert send(safety, np.full((40, 1), 2.0))[-1, 0] == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"control_hz": 0.0}, "control_hz: must be above 0, got 0.0"),
        ({"control_hz": np.nan}, "control_hz: must be above 0, got nan"),
        ({"max_lead_rad": -1.0}, "max_lead_rad: must be above 0"),
        ({"margin_rad": 1.0}, "margin_rad: must be at least 0 and leave every joint some room, got 1.0"),
        ({"margin_rad": -0.1}, "margin_rad: must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SafetyFilter(one_joint(), **{"control_hz": 20.0, **options})


# The workspace box.

KINEMATICS = franka_kinematics()
TIP_M = KINEMATICS.tip_positions_m(PANDA.home_rad)


def test_the_end_effector_stops_at_the_wall_and_comes_back() -> None:
    box = Workspace(KINEMATICS, tuple(TIP_M - 0.1), tuple(TIP_M + 0.1))
    safety = SafetyFilter(PANDA_LIMITS, 20.0, workspace=box)
    safety.begin(PANDA.home_rad)
    turned = PANDA.home_rad + np.array([0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])  # sweeps sideways through the wall
    path = send(safety, np.tile(turned, (60, 1)))
    outside_m = box.outside_m(path)
    assert outside_m.max() <= 1e-6
    assert outside_m[-1] > -0.01 and np.ptp(path[-5:], axis=0).max() < 1e-3
    assert safety.counts["workspace"] > 0
    assert np.abs(send(safety, np.tile(PANDA.home_rad, (60, 1)))[-1] - PANDA.home_rad).max() < 1e-6


def test_from_outside_the_box_the_only_way_is_in() -> None:
    box = Workspace(KINEMATICS, tuple(np.add(TIP_M, (-0.1, 0.02, -0.1))), tuple(np.add(TIP_M, (0.1, 0.2, 0.1))))
    safety = SafetyFilter(PANDA_LIMITS, 20.0, workspace=box)
    safety.begin(PANDA.home_rad)
    away, inwards = np.zeros(7), np.zeros(7)
    away[0], inwards[0] = -0.3, 0.2
    assert send(safety, np.tile(PANDA.home_rad + away, (10, 1)))[-1, 0] == pytest.approx(PANDA.home_rad[0])
    assert box.outside_m(send(safety, np.tile(PANDA.home_rad + inwards, (30, 1)))[-1]) < 0.0


def test_a_box_without_inside_is_refused() -> None:
    with pytest.raises(ConfigError, match="low below high"):
        Workspace(KINEMATICS, (0.0, 0.0, 0.5), (1.0, 1.0, 0.5))
    with pytest.raises(ConfigError, match="needs x, y, z"):
        Workspace(KINEMATICS, (0.0, 0.0), (1.0, 1.0))


# The arithmetic of stopping, against the steps written out.


@given(st.floats(0.0, 3.0), st.floats(0.01, 5.0), st.floats(0.001, 0.05))
def test_the_stoppable_speed_uses_up_the_room_exactly(room: float, braking: float, dt: float) -> None:
    speed = float(stoppable_speed(np.array([room]), np.array([braking]), dt)[0])
    travelled, left = 0.0, speed
    while left > 0.0:
        travelled, left = travelled + left * dt, left - braking
    assert travelled == pytest.approx(room, rel=1e-9, abs=1e-12)


def test_the_braking_path_is_the_steps_of_a_stop() -> None:
    # From 1.0 rad/s by 0.4 per step of 0.1 s: steps of 0.1, 0.06, 0.02 rad; the other joint stands after one step.
    path = braking_path(np.zeros(2), np.array([[1.0, -0.3]]), np.array([0.4, 0.4]), 0.1)
    np.testing.assert_allclose(path[:, 0, 0], [0.1, 0.16, 0.18, 0.18])
    np.testing.assert_allclose(path[:, 0, 1], [-0.03] * 4)


# Properties: any limits, any rate, any targets, any measurements.


@st.composite
def any_limits(draw: st.DrawFn) -> JointLimits:
    joints = draw(st.integers(1, 4))
    numbers = lambda low, high: st.lists(st.floats(low, high), min_size=joints, max_size=joints)  # noqa: E731
    lower, width = draw(numbers(-3.0, 1.0)), draw(numbers(0.5, 4.0))
    accelerations = np.array(draw(numbers(0.5, 20.0)))
    return JointLimits(
        joint_names=tuple(f"joint{index}" for index in range(joints)),
        lower_rad=tuple(lower),
        upper_rad=tuple(np.add(lower, width)),
        velocity_rad_s=tuple(draw(numbers(0.1, 5.0))),
        acceleration_rad_s2=tuple(accelerations),
        jerk_rad_s3=tuple(accelerations * draw(numbers(5.0, 1000.0))),
        braking_rad_s2=tuple(accelerations * draw(numbers(0.2, 1.0))),
    )


anything = st.floats(allow_nan=True, allow_infinity=True)
reachable = st.floats(-4.0, 4.0)


@settings(max_examples=300, deadline=None)
@given(any_limits(), st.floats(20.0, 1000.0), st.floats(0.02, 2.0), st.floats(0.0, 1.0), st.data())
def test_no_sequence_passes_a_limit(
    limits: JointLimits, control_hz: float, lead_rad: float, place: float, data: st.DataObject
) -> None:
    joints = len(limits.joint_names)
    low, high = np.array(limits.lower_rad) + MARGIN_RAD, np.array(limits.upper_rad) - MARGIN_RAD
    start = low + 1e-6 + place * (high - low - 2e-6)
    safety = begun(limits, start, control_hz, margin_rad=MARGIN_RAD, max_lead_rad=lead_rad)
    sent = [start]
    rows = st.one_of(
        st.lists(reachable, min_size=joints, max_size=joints),
        st.lists(anything, min_size=joints, max_size=joints),
        st.lists(reachable, max_size=joints + 1),
    )
    moves = st.tuples(rows, st.sampled_from(["follows", "stands", "spoilt"]), st.floats(0.0, 1.0), st.integers(1, 30))
    for target, arm, scale, times in data.draw(st.lists(moves, max_size=20)):
        spoilt = data.draw(rows) if arm == "spoilt" else None
        for _ in range(times):
            measured = {"follows": sent[-1], "stands": start, "spoilt": spoilt}[arm]
            sent.append(safety.filter(target, measured, scale).position_rad)
    path = np.array(sent)
    assert np.isfinite(path).all()
    ratios = limit_ratios(path, limits, control_hz, MARGIN_RAD)
    assert max(ratios.values()) <= 1.0, ratios
    # And from anywhere it comes to rest, still within the limits.
    stopped = stop(safety, at_most=20000)
    whole = np.vstack([path, *(command.position_rad for command in stopped)])
    assert max(limit_ratios(whole, limits, control_hz, MARGIN_RAD).values()) <= 1.0


def test_random_commands_of_random_arms_pass_no_limit() -> None:
    figures = bench_safety(commands=20_000, seed=1)
    assert figures["sequences_past_a_limit"] == 0
    assert figures["commands"] == 20_000
    assert {"not_finite", "size", "measured", "follow", "position", "lead"} <= set(figures["interventions"])
    assert {"velocity", "acceleration", "jerk", "workspace"} <= set(figures["interventions"])
    assert figures["largest_acceleration_ratio"] > 0.999  # the limits are used, too
    # And the curve that a controller makes of the commands.
    assert not any(figures[f"curve_samples_beyond_{name}"] for name in ("position", "velocity", "acceleration", "jerk"))
    assert figures["curve_samples"] > 10 * figures["commands"]
    assert figures["largest_curve_acceleration_ratio"] > 0.999
    assert figures["largest_distance_of_curve_outside_workspace_m"] <= 1e-3
