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

from lewm_ros.nodes.planner.command_output import CommandOutput, make_output
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import ee_delta, joint_delta
from lewm_ros.robot.kinematics import franka_kinematics
from lewm_ros.robot.limits import load_limits

HZ = 20.0
LIMITS = load_limits("panda")


class Recorder(LifecycleNode):
    """A node whose publishers keep what is published."""

    def __init__(self, context: Context) -> None:
        super().__init__("recorder", context=context)
        self.sent: dict[str, list[Any]] = {}

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


def steps(count: int, rad: float) -> np.ndarray:
    """Actions of `count` control steps that move joint 1."""
    return np.tile(rad * np.eye(7)[0], (count, 1))


def test_a_trajectory_leads_through_the_schedule_and_ends_at_rest(node: Recorder) -> None:
    output = make(node, "joint_trajectory")
    # 0.2 rad/s: within what one step of 7.5 rad/s2 or more reaches.
    output.send(steps(1, 0.01), steps(3, 0.01), PANDA.home_rad, scale=1.0)
    (message,) = node.sent["joint_trajectory"]
    assert tuple(message.joint_names) == PANDA.joint_names
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0), "begin at once"
    positions = np.array([point.positions for point in message.points])
    np.testing.assert_allclose(positions[:4, 0], [0.01, 0.02, 0.03, 0.04], atol=1e-9)
    times = [p.time_from_start.sec + p.time_from_start.nanosec / NS_PER_S for p in message.points]
    np.testing.assert_allclose(np.diff([0.0, *times]), 1.0 / HZ)
    velocities = np.array([point.velocities for point in message.points])
    np.testing.assert_allclose(velocities[:3, 0], 0.2, atol=1e-9)
    assert velocities[-1].tolist() == [0.0] * 7
    assert np.abs(positions[-1] - positions[-2]).max() < 1e-9, "it stands still, not only its last velocity is zero"


def test_seams_between_trajectories_are_smooth(node: Recorder) -> None:
    output = make(node, "joint_trajectory")
    rng = np.random.default_rng(0)
    for _ in range(40):
        due, ahead = (rng.uniform(-0.05, 0.05, (n, 7)) for n in (1, 5))
        output.send(due, ahead, PANDA.home_rad, scale=1.0)
    sent = np.array([m.points[0].positions for m in node.sent["joint_trajectory"]])
    velocity = np.diff(sent, axis=0) * HZ
    assert np.all(np.abs(velocity) <= LIMITS.velocity_rad_s)
    assert np.all(np.abs(np.diff(velocity, axis=0)) * HZ <= np.array(LIMITS.acceleration_rad_s2) + 1e-6)


def test_braking_ends_in_silence(node: Recorder) -> None:
    output = make(node, "commands")
    for _ in range(4):
        output.send(steps(1, 0.05), steps(5, 0.05), PANDA.home_rad, scale=1.0)
    calls = 1
    while not output.brake(PANDA.home_rad):
        calls += 1
    # 1 rad/s, less 0.75 rad/s per step: 0.25 rad/s, then rest.
    assert calls == 2
    sent = np.array([message.data for message in node.sent["commands"]])[:, 0]
    assert np.all(np.diff(sent) >= 0.0)
    assert sent[-1] == pytest.approx(sent[-2], abs=1e-9)


def test_the_ramp_scales_the_motion(node: Recorder) -> None:
    output = make(node, "commands")
    for scale in (0.0, 0.25, 0.5):
        output.send(steps(1, 0.02), steps(0, 0.0), PANDA.home_rad, scale)
    moved = np.diff([0.0, *(message.data[0] for message in node.sent["commands"])])
    np.testing.assert_allclose(moved, [0.0, 0.005, 0.01], atol=1e-6)


def test_a_dry_run_shows_plans_and_sends_nothing(node: Recorder) -> None:
    output = make(node, "joint_trajectory", dry_run=True)
    output.send(steps(1, 0.01), steps(5, 0.01), PANDA.home_rad, scale=1.0)
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
    output = make(node, "joint_trajectory", "ee_delta")
    for _ in range(10):
        output.send(hand_steps(1), hand_steps(5), PANDA.home_rad, scale=1.0)
    # Ten steps are commanded; point 1 + n of a trajectory is n steps further.
    points = node.sent["joint_trajectory"][-1].points
    for point, count in ((points[0], 10), (points[3], 13)):
        moved_m, turned_rad = moved_hand(point.positions)
        np.testing.assert_allclose(moved_m, [0.004 * count, 0.0, 0.0], atol=5e-4)
        assert turned_rad == pytest.approx(0.005 * count, abs=2e-3)
    assert [message.data for message in node.sent["gripper"]] == [1.0] * 10, "kept in range"
    while not output.brake(PANDA.home_rad):
        pass
    assert len(node.sent["gripper"]) == 10, "braking leaves the gripper alone"


def test_a_ramp_scales_the_motion_of_the_hand_and_not_the_gripper(node: Recorder) -> None:
    pytest.importorskip("mink", reason="needs mink: pip install 'lewm_ros[ik]'")
    output = make(node, "commands", "ee_delta")
    for _ in range(10):
        output.send(hand_steps(1), hand_steps(0), PANDA.home_rad, scale=0.25)
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
    output = make(node, "twist", "ee_delta")
    action = np.array([[0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]])
    for _ in range(4):
        output.send(action, action, PANDA.home_rad, scale=1.0)
    while not output.brake(PANDA.home_rad):
        pass
    x_m_s = np.array([message.twist.linear.x for message in node.sent["twist"]])
    # 0.01 m per step are 0.2 m/s; 2 m/s2 are 0.1 m/s per step.
    assert x_m_s.max() <= 0.2
    assert np.abs(np.diff([0.0, *x_m_s])).max() <= 0.1 + 1e-9
    assert x_m_s[-1] == pytest.approx(0.0, abs=1e-9)
    assert [message.data for message in node.sent["gripper"]] == [1.0] * 4, "kept in range; braking leaves it alone"


def test_twists_are_given_in_the_frame_of_the_arms_base(node: Recorder) -> None:
    output = make(node, "twist", "ee_delta")
    output.send(hand_steps(1), hand_steps(1), PANDA.home_rad, scale=1.0)
    assert [message.header.frame_id for message in node.sent["twist"]] == ["base_link"]


def test_every_axis_of_a_twist_has_a_limit_of_its_own(node: Recorder) -> None:
    output = make(node, "twist", "ee_delta")
    # Limits of 0.01 m and 0.05 rad per step at 20 Hz are 0.2 m/s and 1 rad/s; the action asks for twice that.
    action = np.array([[0.02, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0]])
    for _ in range(10):
        output.send(action, action, PANDA.home_rad, scale=1.0)
    twists = [message.twist for message in node.sent["twist"]]
    # 2 m/s2 and 6 rad/s2 are 0.1 m/s and 0.3 rad/s per step.
    np.testing.assert_allclose([t.linear.x for t in twists[:4]], [0.1, 0.2, 0.2, 0.2], atol=1e-5)
    np.testing.assert_allclose([t.angular.z for t in twists[:5]], [0.3, 0.6, 0.9, 1.0, 1.0], atol=1e-5)


def test_a_gripper_beside_joints_is_sent_only_once_there_is_a_value(node: Recorder) -> None:
    space = joint_delta(PANDA.joint_names, (0.05,) * 7, HZ, gripper=True)
    output = make_output(node, "joint_trajectory", space, PANDA.joint_names, False, "base_link")
    output.use_limits(LIMITS, margin_rad=0.02, max_lead_rad=0.3, workspace=None)
    output.begin(PANDA.home_rad)
    nothing = np.empty((0, 8))
    output.send(space.rest()[np.newaxis], nothing, PANDA.home_rad, scale=1.0)
    assert node.sent["gripper"] == [], "as it is"
    closing = np.array([[0.01, *[0.0] * 6, 0.5]])
    output.send(closing, nothing, PANDA.home_rad, scale=1.0)
    assert [message.data for message in node.sent["gripper"]] == [0.5]
    (first, second) = node.sent["joint_trajectory"]
    np.testing.assert_allclose(first.points[0].positions, PANDA.home_rad)
    np.testing.assert_allclose(second.points[0].positions[0], PANDA.home_rad[0] + 0.01)
