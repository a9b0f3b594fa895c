"""Time and motion without processes: the planner's schedule, and the simulated controllers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from builtin_interfaces.msg import Duration
from conftest import ToyCheckpoint, joint_delta_space
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lewm_ros.environments.panda import SimArm
from lewm_ros.nodes.conversions import ns_to_stamp
from lewm_ros.nodes.planner.control_loop import ControlLoop
from lewm_ros.nodes.sim.command_input import Hold, Trajectory, Twist
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.planner import Decision
from lewm_ros.robot.arm import PANDA

T0_NS = 1_700_000_000_000_000_000
STEP_NS = 50_000_000


def scheduled_loop() -> ControlLoop:
    """Closed at T0; in control step n of blocks 1 and 2, joint 1 moves by n / 1000 rad."""
    planner = RecedingHorizonPlanner(ToyCheckpoint(None, joint_delta_space()), PlannerConfig(knots_per_block=5))
    steps = np.arange(5, 15).reshape(2, 5, 1) / 1000.0
    actions = np.pad(steps, ((0, 0), (0, 0), (0, 6)))
    decision = Decision(block=1, actions=actions, cost=0.0, status="found", elites=actions[np.newaxis], iterations=1)
    planner.adopt(decision, first_free=1)
    return ControlLoop(planner, T0_NS, T0_NS + STEP_NS // 2)


def test_frames_belong_to_block_boundaries_by_their_stamp() -> None:
    loop = scheduled_loop()
    offsets_ms = {0: 0, 24: None, 50: None, 224: None, 226: 1, 250: None, 524: 2, 1000: 4, 775: None}
    for offset_ms, block in offsets_ms.items():
        assert loop.observed_boundary(T0_NS + offset_ms * 1_000_000) == block, offset_ms
    assert loop.observed_boundary(T0_NS + 1_275_000_000) is None, "exactly half a control step is too far"


def test_every_step_is_due_once() -> None:
    loop = scheduled_loop()
    due = [loop.due(T0_NS + n * STEP_NS)[:, 0].tolist() for n in range(8)]
    assert due == [[0.0]] * 5 + [[0.005], [0.006], [0.007]]
    assert loop.due(T0_NS + 7 * STEP_NS + STEP_NS // 2).shape == (0, 7)
    assert (loop.cycles, loop.missed_cycles) == (8, 0)
    assert loop.next_step_ns() == T0_NS + 8 * STEP_NS
    assert loop.ahead(3)[:, 0].tolist() == [0.008, 0.009, 0.010]
    assert loop.until(2)[:, 0].tolist() == [0.008, 0.009]


def test_missed_steps_are_counted_and_one_is_made_up_for() -> None:
    loop = scheduled_loop()
    loop.due(T0_NS + 5 * STEP_NS)
    cycles, missed = loop.cycles, loop.missed_cycles
    assert loop.due(T0_NS + 9 * STEP_NS)[:, 0].tolist() == [0.008, 0.009]
    assert (loop.cycles - cycles, loop.missed_cycles - missed) == (4, 3)


def trajectory(*points: tuple[float, float, float | None], reverse: bool = False) -> JointTrajectory:
    """Points (time s, position, velocity) of joint 1; the others stay at zero."""
    order = slice(None, None, -1 if reverse else 1)
    return JointTrajectory(
        joint_names=PANDA.joint_names[order],
        points=[
            JointTrajectoryPoint(
                positions=[position, *[0.0] * 6][order],
                velocities=[] if velocity is None else [velocity, *[0.0] * 6][order],
                time_from_start=duration(time_s),
            )
            for time_s, position, velocity in points
        ],
    )


def duration(seconds: float) -> Duration:
    return Duration(sec=int(seconds), nanosec=round(seconds % 1 * NS_PER_S))


@pytest.fixture(scope="module")
def arm() -> SimArm:
    return SimArm(control_hz=100.0)


@pytest.mark.parametrize("reverse", [False, True])
def test_trajectory_without_velocities_is_a_straight_line(arm: SimArm, reverse: bool) -> None:
    command = Trajectory(trajectory((0.1, 0.2, None), (0.2, 0.1, None), reverse=reverse), T0_NS, np.zeros((3, 7)))
    expected = {0: 0.0, 50: 0.1, 100: 0.2, 150: 0.15, 200: 0.1, 900: 0.1}
    for offset_ms, position in expected.items():
        target = command.target_rad(arm, T0_NS + offset_ms * 1_000_000)
        np.testing.assert_allclose(target, [position, *[0.0] * 6], atol=1e-9)


def test_trajectory_with_velocities_is_smooth(arm: SimArm) -> None:
    command = Trajectory(trajectory((0.1, 0.1, 1.0), (0.2, 0.1, 0.0)), T0_NS, np.eye(7)[[1, 0, 1]] * [1, *[0] * 6])
    sampled = [command.target_rad(arm, T0_NS + ms * 1_000_000)[0] for ms in range(0, 201)]
    np.testing.assert_allclose(sampled[:101], np.linspace(0.0, 0.1, 101), atol=1e-9, err_msg="constant velocity")
    velocity = np.diff(sampled) / 1e-3
    assert np.abs(np.diff(velocity)).max() < 0.05, "no jump in velocity"
    assert sampled[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (trajectory((0.1, 0.0, None), (0.1, 0.1, None)), "increase strictly"),
        (trajectory(), "there must be one"),
        (JointTrajectory(joint_names=["elbow"]), "received: elbow"),
        (trajectory((0.1, float("nan"), None)), "finite"),
        (trajectory((0.1, 0.1, 1.0)), "velocities of the last point must be zero"),
    ],
)
def test_unsound_trajectories_are_refused(message: JointTrajectory, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        Trajectory(message, T0_NS, np.zeros((3, 7)))


def test_commands_need_seven_numbers() -> None:
    with pytest.raises(ValueError, match="expected 7 finite joint positions"):
        Hold.from_message(Float64MultiArray(data=[0.0] * 6))


def test_twist_moves_the_hand_until_it_is_old(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    message = TwistStamped()
    message.header.stamp = ns_to_stamp(T0_NS)
    message.twist.linear.z = 0.1
    command = Twist(message, T0_NS)
    start_m = arm.tcp_position_m
    for tick in range(1, 51):
        arm.step(command.target_rad(arm, T0_NS + tick * 10_000_000))
    moved_m = arm.tcp_position_m - start_m
    assert moved_m[2] == pytest.approx(0.02, abs=0.005), "0.1 m/s for the 0.2 s until it is old"
    assert np.abs(moved_m[:2]).max() < 0.005
