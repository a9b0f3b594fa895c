"""What watches over inputs, clock, camera, joints and latency, on clocks of the test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

import rclpy
from conftest import joint_delta_space, random_model
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from ros_processes import TIMEOUT_S
from sensor_msgs.msg import JointState

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.nodes.planner.latency import LatencyTrace
from lewm_ros.nodes.planner.planner_inputs import PlannerInputs
from lewm_ros.nodes.planner.watchdogs import ClockWatch, FollowWatch, FrozenWatch, GripperWatch, JointGuard
from lewm_ros.nodes.subscriptions import UNNUMBERED, Input
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.limits import load_limits

S_NS = 1_000_000_000


class Steady:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make_input(steady: Steady) -> Input[int]:
    return Input("topic", lambda: 0.5, "is it plugged in?", steady)


def test_an_input_is_sound_fresh_or_says_why_not() -> None:
    steady = Steady()
    source = make_input(steady)
    assert source.problem(0) == "nothing received on topic (is it plugged in?)"
    source.arrived(10 * S_NS)
    source.read(lambda: 7)
    assert source.problem(10 * S_NS) == ""
    assert "stamps are more than 0.5 s old" in source.problem(10 * S_NS + 600_000_000)
    assert "more than 0.2 s in the future" in source.problem(10 * S_NS - 300_000_000)
    steady.now_s += 0.6
    assert source.problem(10 * S_NS) == "topic: nothing new for 0.5 s (is it plugged in?)", "stamps stand still too"
    source.arrived(11 * S_NS)
    source.read(lambda: int("x"))
    assert source.value is None
    assert "invalid literal" in source.problem(11 * S_NS)
    source.forget("taken away")
    assert source.problem(11 * S_NS) == "taken away"


def feed(source: Input[int], steady: Steady, sequence: list[int]) -> str:
    """The problem after messages with these numbers, 50 ms apart."""
    for number in sequence:
        steady.now_s += 0.05
        source.arrived(0, number)
        source.read(lambda: 1)
    return source.problem(0)


def test_two_senders_are_told_apart_from_one_that_restarts() -> None:
    steady = Steady()
    source = make_input(steady)
    assert feed(source, steady, [1, 2, 3, 7, 8, 1, 2, 3, 4]) == "", "a gap and a restart"
    assert "several publishers" in feed(source, steady, [90, 5, 91, 6, 92, 7])
    assert feed(source, steady, list(range(93, 113))) == "", "one of them has gone"
    assert "several publishers" in feed(source, steady, [113, 113, 114, 114, 115, 115]), "in step"


@pytest.mark.parametrize(
    ("clock_s", "problem"),
    [
        (lambda t: t, ""),
        (lambda t: 0.3 * t, ""),  # a slow simulation
        (lambda t: min(t, 2.0), ""),  # a paused one
        (lambda t: 2.0 if 2.0 < t < 4.0 else t, ""),  # messages that were held up, then came at once
        (lambda t: t if t < 2.98 else t - 0.97, "back by 0.9"),  # from 2.95 s to 2.03 s
        (lambda t: t if t < 2.98 else t + 2.0, "forward by 2.0"),
        (lambda t: t if t < 2.98 else 0.01, "back by 2.9"),
    ],
)
def test_a_clock_may_dawdle_but_not_jump(clock_s, problem: str) -> None:
    watch = ClockWatch()
    heard = [watch.check(clock_s(t), t) for t in np.arange(1.0, 8.0, 0.05)]
    said = [words for words in heard if words]
    assert all(problem in words for words in said)
    assert (0.9 < 0.05 * len(said) < 1.1) == bool(problem), "for about a second"
    assert heard[-1] == ""


def test_a_camera_is_frozen_only_if_the_arm_moves() -> None:
    watch, frame, home, moved = FrozenWatch(frames=5), np.ones(4, np.float32), PANDA.home_rad, PANDA.home_rad + 0.06
    for stamp_ns in range(20):
        watch.saw(stamp_ns, frame, stamp_ns, home)
    assert watch.problem == ""
    watch.saw(20, frame, 20, moved)
    assert "frozen" in watch.problem
    watch.saw(21, frame + 1, 21, moved)
    assert watch.problem == ""
    for stamp_ns in range(22, 26):
        watch.saw(stamp_ns, frame + 1, stamp_ns, moved if stamp_ns == 22 else home)
    assert watch.problem == "", "not yet"
    watch.saw(26, frame + 1, 26, home)
    assert "frozen" in watch.problem


def test_an_arm_whose_joint_states_come_late_may_stand_still() -> None:
    watch, frame, before = FrozenWatch(frames=5), np.ones(4, np.float32), PANDA.home_rad - 0.06
    for stamp_ns in range(100, 110):
        watch.saw(stamp_ns, frame, 99, before)
    for stamp_ns in range(110, 120):
        watch.saw(stamp_ns, frame, stamp_ns, PANDA.home_rad)
    assert watch.problem == ""


def test_joints_have_to_be_where_they_can_be() -> None:
    guard = JointGuard(None)
    with pytest.raises(ValueError, match="robot_description"):
        guard.check(0, PANDA.home_rad)
    guard.limits = load_limits("panda")
    guard.check(0, PANDA.home_rad)
    # Three times 2.175 rad/s for 25 ms, and 0.1 rad: 0.263 rad.
    near, far = PANDA.home_rad + 0.25 * np.eye(7)[1], PANDA.home_rad + 0.55 * np.eye(7)[1]
    guard.check(25_000_000, near)
    with pytest.raises(ValueError, match="'panda_joint2' jumped"):
        guard.check(50_000_000, far)
    with pytest.raises(ValueError, match="'panda_joint2' jumped"):
        guard.check(549_000_000, far)
    guard.check(550_000_000, far)
    outside = far + 2.05 * np.eye(7)[3]
    with pytest.raises(ValueError, match=r"'panda_joint4' is outside its limits -3.0718 to -0.0698 rad; .* publishers"):
        guard.check(575_000_000, outside)
    with pytest.raises(ValueError, match=r"-0.0698 rad; move the arm back by other means"):
        guard.check(1_075_000_000, outside)


def follow(arm_rad: Callable[[float], float], commanded_rad: Callable[[float], float]) -> str:
    """What is said of one joint that is commanded and measured at 20 Hz for five seconds."""
    watch = FollowWatch(["elbow"])
    for time_s in np.arange(0.0, 5.0, 0.05):
        watch.saw(time_s, np.array([commanded_rad(time_s)]), np.array([arm_rad(time_s)]))
    return watch.problem


def test_an_arm_that_stands_still_while_commanded_is_named() -> None:
    assert "joint 'elbow' stands still" in follow(lambda _: 0.0, lambda t: min(0.2 * t, 0.3))
    assert "joint 'elbow' stands still" in follow(lambda t: min(t, 1.0), lambda t: min(t, 1.3)), "it stops on its way"


@pytest.mark.parametrize(
    ("arm_rad", "commanded_rad"),
    [
        (lambda t: np.sin(2.0 * (t - 0.2)), lambda t: np.sin(2.0 * t)),  # 200 ms late
        (lambda t: 0.01 * t, lambda t: 0.3 + 0.01 * t),  # slow, and far behind
        (lambda _: 0.0, lambda t: 0.07 * np.sin(2.0 * t)),  # too little to tell
        (lambda t: 0.0 if t < 0.5 else 0.3, lambda t: 0.3),  # late for once
    ],
)
def test_an_arm_that_comes_late_is_not_taken_to_stand_still(arm_rad, commanded_rad) -> None:
    assert follow(arm_rad, commanded_rad) == ""


def grip(commanded: Callable[[float], float], position_m: Callable[[float], float]) -> str:
    """What is said of a finger that is commanded and measured at 20 Hz for five seconds."""
    watch = GripperWatch("finger")
    for time_s in np.arange(0.0, 5.0, 0.05):
        watch.saw(time_s, commanded(time_s), position_m(time_s))
    return watch.problem


def closes_at(time_s: float) -> Callable[[float], float]:
    return lambda t: 1.0 if t >= time_s else -1.0


def test_a_gripper_that_does_not_open_or_close_is_named() -> None:
    assert "joint 'finger' stays where it is while told to close" in grip(closes_at(2.0), lambda _: 0.04)
    assert "joint 'finger' stays where it is while told to open" in grip(lambda t: -closes_at(2.0)(t), lambda _: 0.0)


@pytest.mark.parametrize(
    ("commanded", "position_m"),
    [
        (closes_at(2.0), lambda t: np.clip(0.04 - 0.05 * (t - 2.4), 0.02, 0.04)),  # late, and it holds something then
        (closes_at(0.0), lambda _: 0.0),  # closed already
        (closes_at(0.5), lambda _: 0.04),  # it need not have opened before
        (closes_at(4.5), lambda _: 0.04),  # it may still come
        (lambda t: np.sign(np.sin(4.0 * t)), lambda _: 0.02),  # no command lasts
        (lambda t: 0.4 if t >= 2.0 else 1.0, lambda _: 0.02),  # what it holds is wider than that
    ],
)
def test_a_gripper_that_arrived_or_holds_something_is_not_taken_to_stand_still(commanded, position_m) -> None:
    assert grip(commanded, position_m) == ""


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_joint_that_wraps_is_named_as_such(sign: float) -> None:
    limits = load_limits("panda")
    guard = JointGuard(replace(limits, lower_rad=(-4.0,) * 7, upper_rad=(4.0,) * 7))
    before = PANDA.home_rad.copy()
    before[6] = 3.1 * sign
    after = before * np.array([1.0] * 6 + [-1.0])
    guard.check(0, before)
    with pytest.raises(
        ValueError, match=f"'panda_joint7' wraps from {3.1 * sign} to {-3.1 * sign} rad; limit it to less"
    ):
        guard.check(25_000_000, after)


def test_messages_of_other_joints_are_counted_and_said_only_while_nothing_else_comes() -> None:
    source: Input[int] = Input("joint_states", lambda: 0.5)
    for received in (["finger"], [], ["finger"]):
        assert not source.concerns(received, ["elbow", "wrist"])
    assert source.problem(0) == (
        "nothing received on joint_states; skipped are messages like the first: "
        "none of the joints is named; received: finger"
    )
    assert source.report(0) == {"joint_states_rate_hz": "0.0", "joint_states_age_s": "never", "joint_states_skipped": 3}
    assert source.concerns(["finger", "wrist"], ["elbow", "wrist"]), "a joint is missing, which is another matter"
    source.arrived(S_NS)
    source.read(lambda: 1)
    assert source.problem(S_NS) == ""


def test_a_gripper_on_the_same_topic_does_not_push_the_arm_out() -> None:
    context = Context()
    rclpy.init(args=[], context=context)
    node = Node("planner", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    checkpoint = Checkpoint(random_model(), joint_delta_space())
    try:
        inputs = PlannerInputs(
            node,
            checkpoint,
            PANDA.joint_names,
            JointGuard(load_limits("panda")),
            lambda: 1.0,
            lambda: 0.0,
            0,
            LatencyTrace(),
            lambda *_: None,
        )
        publisher = node.create_publisher(JointState, "joint_states", 10)
        end_s = time.monotonic() + TIMEOUT_S
        while not publisher.get_subscription_count() and time.monotonic() < end_s:
            executor.spin_once(0.02)
        # All come before the node takes the first of them.
        publisher.publish(JointState(name=PANDA.joint_names, position=PANDA.home_rad))
        for _ in range(3):
            publisher.publish(JointState(name=["finger_left", "finger_right"], position=[0.02, 0.02]))
        while inputs.joints.skipped < 3 and time.monotonic() < end_s:
            executor.spin_once(0.02)
        assert inputs.joints.skipped == 3
        np.testing.assert_array_equal(inputs.joints.value, PANDA.home_rad)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_the_trace_follows_a_frame_to_its_command(tmp_path: Path) -> None:
    trace, wall_ns = LatencyTrace(), 500 * S_NS
    # Simulated time is 3 s; the frame was 10 ms old when it was received.
    trace.received(3 * S_NS, 10_000_000, wall_ns)
    trace.mark(3 * S_NS, "encoded", wall_ns + 20_000_000)
    trace.mark(4 * S_NS, "encoded", wall_ns)  # never received
    trace.mark(3 * S_NS, "planned", wall_ns + 120_000_000)
    trace.adopted(2 * S_NS, free_ns=5 * S_NS)  # replaced before it came into force
    trace.adopted(3 * S_NS, free_ns=5 * S_NS)
    trace.commanded(4 * S_NS, wall_ns + 130_000_000)  # of the plan before
    trace.adopted(4 * S_NS, free_ns=6 * S_NS)
    trace.commanded(5 * S_NS, wall_ns + 240_000_000)
    trace.commanded(6 * S_NS, wall_ns + 290_000_000)
    assert list(trace.plans) == [pytest.approx([0.01, 0.03, 0.13, 0.25])]
    trace.save(tmp_path / "trace.json")
    report = json.loads((tmp_path / "trace.json").read_text())
    assert report["seconds_since_image"]["commanded"] == {"p50": 0.25, "p95": 0.25, "p99": 0.25}
    assert report["plans"] == [[0.01, 0.03, 0.13, 0.25]]
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]


def test_messages_without_numbers_do_not_pass_for_those_of_several_senders() -> None:
    source: Input[int] = Input("topic")
    for stamp_ns in range(50):
        source.arrived(stamp_ns, UNNUMBERED)
    assert not source.mixed
