"""The command outputs without processes: what they publish of the actions that are due, and how they brake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

import rclpy
from conftest import joint_delta_space
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time

from lewm_ros.nodes.planner.command_output import CommandOutput, make_output
from lewm_ros.observation.command_messages import JointPath
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import ee_delta, joint_delta
from lewm_ros.robot.kinematics import franka_kinematics
from lewm_ros.robot.limit_use import LimitUse
from lewm_ros.robot.limits import load_limits

HZ = 20.0
CONTROL_NS = 50_000_000
SETTLING_STEPS = 3
"""10 / sqrt(3) x 0.005 rad / T^2 <= 7.5 rad/s2: T >= 0.062 s, two steps, and one in which the arm is there already."""
LIMITS = load_limits("panda")


class Recorder(LifecycleNode):
    """A node whose publishers keep what is published, at a time that a test says."""

    def __init__(self, context: Context) -> None:
        super().__init__("recorder", context=context)
        self.sent: dict[str, list[Any]] = {}
        self.now_ns = 0

    def get_clock(self) -> Recorder:
        return self

    def now(self) -> Time:
        return Time(nanoseconds=self.now_ns)

    def create_lifecycle_publisher(self, message: type, topic: str, qos: Any) -> Any:
        publisher = super().create_lifecycle_publisher(message, topic, qos)
        self.sent[topic] = []
        publisher.publish = self.sent[topic].append
        return publisher


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    context = Context()
    rclpy.init(args=[], context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def node(context: Context) -> Iterator[Recorder]:
    recorder = Recorder(context)
    yield recorder
    recorder.destroy_node()


def make(node: Recorder, interface: str, kind: str = "joint_delta", dry_run: bool = False) -> CommandOutput:
    space = ee_delta((0.01,) * 3 + (0.05,) * 3, HZ) if kind == "ee_delta" else joint_delta_space()
    output = make_output(node, interface, space, PANDA.joint_names, dry_run, base_frame="base_link")
    output.use_limits(LIMITS, margin_rad=0.02, max_lead_rad=0.3, workspace=None)
    output.begin(PANDA.home_rad)
    return output


class Driven:
    """An output that is called step by step, with an arm that stays where it was at the start."""

    def __init__(self, output: CommandOutput) -> None:
        self.output, self.step_ns = output, 10 * NS_PER_S

    def send(self, action: np.ndarray, ahead: np.ndarray, scale: float = 1.0) -> np.ndarray:
        self.step_ns += CONTROL_NS
        return self.output.send(self.step_ns, action, ahead, PANDA.home_rad, scale)

    def skip(self) -> np.ndarray:
        self.step_ns += CONTROL_NS
        return self.output.skip(self.step_ns)

    def brake(self) -> int:
        """Brake until the arm has been told to stand still; returns how many commands that took."""
        for calls in range(1, 100):
            self.step_ns += CONTROL_NS
            if self.output.brake(self.step_ns, PANDA.home_rad):
                return calls
        raise AssertionError("the arm never stands still")

    def settle(self, rest: np.ndarray) -> None:
        """Send rest until the arm is where the curve begins."""
        for _ in range(SETTLING_STEPS):
            np.testing.assert_array_equal(self.send(rest, rest[np.newaxis]), rest)


def step(rad: float) -> np.ndarray:
    """An action that moves joint 1."""
    return rad * np.eye(7)[0]


def steps(count: int, rad: float) -> np.ndarray:
    return np.tile(step(rad), (count, 1))


def followed(messages: list[Any], until_ns: int, early_ns: int) -> np.ndarray:
    """Positions, velocities, accelerations and jerks (4, m, 7) of joint_trajectory_controller, every ms.

    Every message of a control step arrives so much before the first knot that it shapes; the last one is followed to a
    time.
    """
    path, parts, tick_ns = None, [], 1_000_000
    arrivals = [stamp_to_ns(m.header.stamp) + 2 * CONTROL_NS - early_ns for m in messages]
    for message, arrival_ns, next_ns in zip(messages, arrivals, [*arrivals[1:], until_ns], strict=True):
        before = None if path is None else path.state(arrival_ns)
        path = JointPath(message, PANDA.joint_names, arrival_ns, before)
        parts.append(path.motion(range(arrival_ns, next_ns, tick_ns)))
    return np.concatenate(parts, axis=1)


def test_a_trajectory_leads_through_the_schedule_and_ends_at_rest(node: Recorder) -> None:
    driven = Driven(make(node, "joint_trajectory"))
    driven.settle(np.zeros(7))
    # 0.2 rad/s: within what one step of 7.5 rad/s2 or more reaches.
    np.testing.assert_allclose(driven.send(step(0.01), steps(3, 0.01)), step(0.01), atol=1e-9)
    message = node.sent["joint_trajectory"][-1]
    assert tuple(message.joint_names) == PANDA.joint_names
    assert stamp_to_ns(message.header.stamp) == driven.step_ns - 3 * CONTROL_NS
    times_ns = [stamp_to_ns(point.time_from_start) for point in message.points]
    assert times_ns == [CONTROL_NS * index for index in range(len(times_ns))]
    # Control points 0, 0, 0, 0 | 0.01, 0.02, 0.03, 0.04 and then rest; knots are (before + 4 at + after) / 6.
    positions = np.array([point.positions for point in message.points])[:, 0]
    np.testing.assert_allclose(positions[1:7], [0.0, 0.0, 0.01 / 6.0, 0.01, 0.02, 0.03], atol=1e-9)
    velocities = np.array([point.velocities for point in message.points])[:, 0]
    np.testing.assert_allclose(velocities[1:7], [0.0, 0.0, 0.1, 0.2, 0.2, 0.2], atol=1e-9)
    accelerations = np.array([point.accelerations for point in message.points])[:, 0]
    np.testing.assert_allclose(accelerations[1:7], [0.0, 0.0, 4.0, 0.0, 0.0, 0.0], atol=1e-9)
    last = message.points[-1]
    assert not np.any(last.velocities) and not np.any(last.accelerations)


@pytest.mark.parametrize("early_ms", [2, 10, 95])
def test_what_is_sent_is_one_curve_within_all_limits(node: Recorder, early_ms: int) -> None:
    driven = Driven(make(node, "joint_trajectory"))
    driven.settle(np.zeros(7))
    rng, executed = np.random.default_rng(0), []
    for index in range(200):
        action, ahead = rng.uniform(-0.05, 0.05, 7), rng.uniform(-0.05, 0.05, (5, 7))
        late = index % 7 in (3, 5, 6)
        executed.append(driven.skip() if late else driven.send(action, ahead))
    driven.brake()
    motion = followed(node.sent["joint_trajectory"][SETTLING_STEPS:], driven.step_ns + NS_PER_S, early_ms * 1_000_000)
    use = LimitUse(LIMITS)
    assert not use.add(motion), use.report()
    assert use.largest["acceleration"] > 0.8, "and it uses them"
    # One curve: from ms to ms, every derivative changes by the next one.
    for lower, higher, limit in zip(motion[:3], motion[1:], (2.0, 20.0, 8000.0), strict=False):
        assert np.abs(np.diff(lower, axis=0)).max() <= np.abs(higher).max() * 1e-3 + 1e-9 <= limit
    # What was said to be carried out leads to where the braking began, and braking to the end.
    moved = np.sum(executed, axis=0)
    assert np.abs(motion[0, -1] - PANDA.home_rad - moved).max() < 0.1
    assert not motion[1:, -1].any()


def test_after_a_skipped_step_the_next_message_goes_on_where_the_arm_went(node: Recorder) -> None:
    driven = Driven(make(node, "joint_trajectory"))
    driven.settle(np.zeros(7))
    driven.send(step(0.01), steps(3, 0.01))
    sent = node.sent["joint_trajectory"]
    np.testing.assert_allclose(driven.skip(), step(0.01), atol=1e-9)
    np.testing.assert_allclose(driven.send(step(0.0), steps(1, 0.0)), step(0.0), atol=1e-9)
    before, after = sent[-2:]
    # Two steps later: the first three points are the third to fifth of the message before.
    for old, new in zip(before.points[2:5], after.points[:3], strict=True):
        np.testing.assert_allclose(new.positions, old.positions, atol=1e-12)
        np.testing.assert_allclose(new.velocities, old.velocities, atol=1e-9)
        np.testing.assert_allclose(new.accelerations, old.accelerations, atol=1e-6)
    # What is sent too late is not sent at all, since the controller would jump.
    count = len(sent)
    output = driven.output
    late_ns = driven.step_ns + CONTROL_NS
    node.now_ns = output.latest_ns(late_ns) + 1
    np.testing.assert_array_equal(output.send(late_ns, step(0.01), steps(1, 0.01), PANDA.home_rad, 1.0), np.zeros(7))
    assert not output.in_time
    assert not output.brake(late_ns, PANDA.home_rad)
    assert len(sent) == count
    node.now_ns = 0
    driven.step_ns = late_ns + CONTROL_NS
    # Skipped for long, it comes to rest along the way that was sent.
    driven.send(step(0.01), steps(2, 0.01))
    moved = [driven.skip()[0] for _ in range(10)]
    np.testing.assert_allclose(moved[:2], [0.01, 0.01], atol=1e-9)
    np.testing.assert_allclose(moved[3:], 0.0, atol=1e-9)


def test_an_arm_that_stands_still_is_sent_nowhere_beyond_the_lead(node: Recorder) -> None:
    driven = Driven(make(node, "joint_trajectory"))
    driven.settle(np.zeros(7))
    # After so many steps of 0.02 rad the command is 0.2 rad ahead; with what is scheduled, 0.3. Then no more is.
    for count, farthest_rad in ((10, 0.3), (10, 0.3)):
        for _ in range(count):
            driven.send(step(0.02), steps(5, 0.02))
        end_rad = node.sent["joint_trajectory"][-1].points[-1].positions[0]
        assert end_rad == pytest.approx(PANDA.home_rad[0] + farthest_rad, abs=1e-6)


def test_a_curve_begins_once_the_arm_can_be_at_its_start(node: Recorder) -> None:
    output = make(node, "joint_trajectory")
    driven = Driven(output)
    driven.settle(np.zeros(7))
    sent = node.sent["joint_trajectory"]
    start_ns = {stamp_to_ns(message.header.stamp) for message in sent}
    assert len(start_ns) == 1 and all(len(message.points) == 1 for message in sent)
    np.testing.assert_array_equal(sent[-1].points[0].positions, PANDA.home_rad)
    # The first step that moves shapes the curve from a step later on.
    driven.send(step(0.01), steps(3, 0.01))
    assert driven.step_ns - CONTROL_NS == start_ns.pop() + CONTROL_NS
    while not output.brake(driven.step_ns, PANDA.home_rad):
        driven.step_ns += CONTROL_NS
    # The controller holds where the last message led, once that is over; the arm is 0.3 rad away. At the 15 rad/s2 of
    # joint 1, 10 / sqrt(3) x 0.3 / T^2 takes T >= 0.34 s.
    sent.clear()
    output.begin(PANDA.home_rad + 0.3 * np.eye(7)[0])
    first_ns = driven.step_ns + NS_PER_S
    rested = output.send(first_ns - CONTROL_NS, step(0.0), steps(3, 0.0), PANDA.home_rad, 1.0)
    assert not sent and not rested.any(), "the controller still follows what came before"
    node.now_ns = first_ns - 2 * CONTROL_NS
    output.send(first_ns, step(0.0), steps(3, 0.0), PANDA.home_rad, 1.0)
    fastest_s = (10.0 / np.sqrt(3.0) * 0.3 / LIMITS.acceleration_rad_s2[0]) ** 0.5
    shaped_ns = first_ns - CONTROL_NS
    assert fastest_s <= (stamp_to_ns(sent[0].header.stamp) - shaped_ns) / NS_PER_S <= fastest_s + 0.1


def test_braking_ends_in_silence(node: Recorder) -> None:
    driven = Driven(make(node, "commands"))
    for _ in range(4):
        driven.send(step(0.05), steps(5, 0.05))
    # 1 rad/s, less 0.75 rad/s per step: 0.25 rad/s, then rest.
    assert driven.brake() == 2
    sent = np.array([message.data for message in node.sent["commands"]])[:, 0]
    assert np.all(np.diff(sent) >= 0.0)
    assert sent[-1] == pytest.approx(sent[-2], abs=1e-9)


def test_the_ramp_scales_the_motion(node: Recorder) -> None:
    driven = Driven(make(node, "commands"))
    done = [driven.send(step(0.02), steps(0, 0.0), scale) for scale in (0.0, 0.25, 0.5)]
    moved = np.diff([0.0, *(message.data[0] for message in node.sent["commands"])])
    np.testing.assert_allclose(moved, [0.0, 0.005, 0.01], atol=1e-6)
    np.testing.assert_allclose(np.array(done)[:, 0], moved, atol=1e-12)


def test_what_is_carried_out_is_what_the_limits_let_through(node: Recorder) -> None:
    driven = Driven(make(node, "commands"))
    # From rest, 15 rad/s2 let through 0.0375 rad in a step of 0.05 s; what is missing is made up for in the next one.
    done = [driven.send(step(0.05), steps(0, 0.0))[0] for _ in range(3)]
    np.testing.assert_allclose(done, [0.0375, 0.0625, 0.05], rtol=1e-5)
    assert driven.skip().tolist() == [0.0] * 7, "the arm holds what it was sent last"


def test_a_dry_run_shows_plans_and_sends_nothing(node: Recorder) -> None:
    output = make(node, "joint_trajectory", dry_run=True)
    driven = Driven(output)
    driven.settle(np.zeros(7))
    driven.send(step(0.01), steps(5, 0.01))
    output.publish_plan(None, steps(1, 0.01), steps(5, 0.01))
    assert set(node.sent) == {"~/plan"}
    assert len(node.sent["~/plan"]) == 1


def hand_steps(count: int) -> np.ndarray:
    """Actions of `count` control steps at 0.08 m/s along x and 0.1 rad/s about z, with a gripper that closes."""
    return np.tile([0.004, 0.0, 0.0, 0.0, 0.0, 0.005, 2.0], (count, 1))


def moved_hand(joints_rad: list[float]) -> tuple[np.ndarray, float]:
    """How far (m) the hand is from where it is at home, and how far (rad) it has turned about z."""
    start, end = (franka_kinematics().poses(np.array(joints)) for joints in (PANDA.home_rad, joints_rad))
    turned = end[:3, :3] @ start[:3, :3].T
    return end[:3, 3] - start[:3, 3], float(np.arctan2(turned[1, 0], turned[0, 0]))


def test_motions_of_the_hand_become_motions_of_the_joints(node: Recorder) -> None:
    pytest.importorskip("mink", reason="needs mink: pip install 'lewm_ros[ik]'")
    driven = Driven(make(node, "joint_trajectory", "ee_delta"))
    driven.settle(np.array([*[0.0] * 6, np.nan]))
    done = [driven.send(hand_steps(1)[0], hand_steps(5)) for _ in range(10)]
    # Ten steps are commanded; point 4 of a trajectory is where the newest one leads, point 4 + n n steps further.
    points = node.sent["joint_trajectory"][-1].points
    for point, count in ((points[4], 10), (points[7], 13)):
        moved_m, turned_rad = moved_hand(point.positions)
        np.testing.assert_allclose(moved_m, [0.004 * count, 0.0, 0.0], atol=5e-4)
        assert turned_rad == pytest.approx(0.005 * count, abs=2e-3)
    assert [message.data for message in node.sent["gripper"]] == [1.0] * 9, "kept in range, a step after the arm"
    # What is said to be carried out is what the hand does; the gripper's 2 was kept in range.
    np.testing.assert_allclose(done[-1], [0.004, 0.0, 0.0, 0.0, 0.0, 0.005, 1.0], atol=5e-4)
    driven.brake()
    assert len(node.sent["gripper"]) == 9, "braking leaves the gripper alone"


def test_a_ramp_scales_the_motion_of_the_hand_and_not_the_gripper(node: Recorder) -> None:
    pytest.importorskip("mink", reason="needs mink: pip install 'lewm_ros[ik]'")
    driven = Driven(make(node, "commands", "ee_delta"))
    for _ in range(10):
        driven.send(hand_steps(1)[0], hand_steps(0), scale=0.25)
    moved_m, _ = moved_hand(node.sent["commands"][-1].data)
    np.testing.assert_allclose(moved_m, [0.01, 0.0, 0.0], atol=5e-4)
    assert {message.data for message in node.sent["gripper"]} == {1.0}


def test_plans_for_the_hand_are_shown_as_joint_trajectories(node: Recorder) -> None:
    pytest.importorskip("mink", reason="needs mink: pip install 'lewm_ros[ik]'")
    output = make(node, "joint_trajectory", "ee_delta", dry_run=True)
    output.publish_plan(None, hand_steps(2), hand_steps(5))
    (plan,) = node.sent["~/plan"]
    assert len(plan.points) == 5
    for point, count in ((plan.points[0], 3), (plan.points[-1], 7)):
        np.testing.assert_allclose(moved_hand(point.positions)[0], [0.004 * count, 0.0, 0.0], atol=5e-4)
    assert "gripper" not in node.sent, "a dry run"


def test_twists_start_and_stop_gently(node: Recorder) -> None:
    driven = Driven(make(node, "twist", "ee_delta"))
    action = np.array([0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0])
    done = [driven.send(action, action[np.newaxis]) for _ in range(4)]
    np.testing.assert_allclose(np.array(done)[:, 0], [0.005, 0.01, 0.01, 0.01], atol=1e-6)
    np.testing.assert_array_equal(driven.skip(), done[-1], "Servo goes on")
    driven.brake()
    x_m_s = np.array([message.twist.linear.x for message in node.sent["twist"]])
    # 0.01 m per step are 0.2 m/s; 2 m/s2 are 0.1 m/s per step.
    assert x_m_s.max() <= 0.2
    assert np.abs(np.diff([0.0, *x_m_s])).max() <= 0.1 + 1e-9
    assert x_m_s[-1] == pytest.approx(0.0, abs=1e-9)
    assert [message.data for message in node.sent["gripper"]] == [1.0] * 4, "kept in range; braking leaves it alone"


def test_twists_are_given_in_the_frame_of_the_arms_base(node: Recorder) -> None:
    Driven(make(node, "twist", "ee_delta")).send(hand_steps(1)[0], hand_steps(1))
    assert [message.header.frame_id for message in node.sent["twist"]] == ["base_link"]


def test_every_axis_of_a_twist_has_a_limit_of_its_own(node: Recorder) -> None:
    driven = Driven(make(node, "twist", "ee_delta"))
    # Limits of 0.01 m and 0.05 rad per step at 20 Hz are 0.2 m/s and 1 rad/s; the action asks for twice that.
    action = np.array([0.02, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0])
    for _ in range(10):
        driven.send(action, action[np.newaxis])
    twists = [message.twist for message in node.sent["twist"]]
    # 2 m/s2 and 6 rad/s2 are 0.1 m/s and 0.3 rad/s per step.
    np.testing.assert_allclose([t.linear.x for t in twists[:4]], [0.1, 0.2, 0.2, 0.2], atol=1e-5)
    np.testing.assert_allclose([t.angular.z for t in twists[:5]], [0.3, 0.6, 0.9, 1.0, 1.0], atol=1e-5)


def test_a_gripper_beside_joints_is_sent_only_once_there_is_a_value(node: Recorder) -> None:
    space = joint_delta(PANDA.joint_names, (0.05,) * 7, HZ, gripper=True)
    output = make_output(node, "commands", space, PANDA.joint_names, False, "base_link")
    output.use_limits(LIMITS, margin_rad=0.02, max_lead_rad=0.3, workspace=None)
    output.begin(PANDA.home_rad)
    driven, nothing = Driven(output), np.empty((0, 8))
    assert np.isnan(driven.send(space.rest(), nothing)[-1])
    assert node.sent["gripper"] == [], "as it is"
    closing = np.array([0.01, *[0.0] * 6, 0.5])
    np.testing.assert_allclose(driven.send(closing, nothing), closing)
    assert [message.data for message in node.sent["gripper"]] == [0.5]
    assert driven.skip()[-1] == 0.5, "as it was"
    (first, second) = node.sent["commands"]
    np.testing.assert_allclose(first.data, PANDA.home_rad)
    np.testing.assert_allclose(second.data[0], PANDA.home_rad[0] + 0.01)


def test_the_gripper_acts_when_the_arm_is_where_it_is_to_act(node: Recorder) -> None:
    """A trajectory is sent a step ahead of the arm, for which the gripper, which acts at once, has to wait."""
    space = joint_delta(PANDA.joint_names, (0.05,) * 7, HZ, gripper=True)
    output = make_output(node, "joint_trajectory", space, PANDA.joint_names, False, "base_link")
    output.use_limits(LIMITS, margin_rad=0.02, max_lead_rad=0.3, workspace=None)
    output.begin(PANDA.home_rad)
    driven = Driven(output)
    rest, close, open_ = np.zeros(8), np.array([*[0.0] * 7, 1.0]), np.array([*[0.0] * 7, -1.0])
    driven.settle(space.rest())
    told = []
    for action in (close, open_, rest, rest):
        driven.send(action, rest[np.newaxis])
        told.append(output.commanded_grip)
    assert output.lead_steps == 1
    assert told == [None, 1.0, -1.0, 0.0]
    assert [message.data for message in node.sent["gripper"]] == [1.0, -1.0, 0.0]
    output.begin(PANDA.home_rad)
    driven.settle(space.rest())
    driven.send(space.rest(), rest[np.newaxis])
    assert len(node.sent["gripper"]) == 3, "what was to come is forgotten when the motion begins anew"
