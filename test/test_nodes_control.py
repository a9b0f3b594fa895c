"""Time and motion without processes: the rhythm of commands, the loop's states, and the simulated controllers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lewm_ros.environments.panda import SimArm
from lewm_ros.nodes.conversions import ns_to_stamp
from lewm_ros.nodes.planner.control_loop import ControlLoop
from lewm_ros.nodes.planner.loop_state import TRANSITIONS, LoopEvent, LoopState, next_state
from lewm_ros.nodes.sim.command_input import Hold, Trajectory, Twist
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.arm import PANDA

T0_NS = 1_700_000_000_000_000_000
STEP_NS, LEAD_NS = 50_000_000, 60_000_000


def make_loop(now_ms: float = 0.0) -> ControlLoop:
    """Commands go out 20 ms after T0 and every 50 ms; steps begin 60 ms after their command."""
    return ControlLoop(STEP_NS, LEAD_NS, T0_NS + 20_000_000, at(now_ms))


def at(time_ms: float) -> int:
    return T0_NS + round(1e6 * time_ms)


def test_commands_go_out_in_a_phase_of_their_own_each_once() -> None:
    loop = make_loop()
    assert loop.send_ns == at(20)
    assert loop.due(at(19)) == []
    assert loop.due(at(20)) == [at(80)]
    assert loop.due(at(69)) == []
    assert loop.due(at(180)) == [at(130), at(180), at(230)]
    assert loop.next_ns == at(280)
    assert make_loop(now_ms=21).send_ns == at(70)
    assert make_loop(now_ms=-100).send_ns == at(-80), "the phase may lie ahead"


def test_a_plan_is_in_force_from_the_first_command_that_goes_out_after_it() -> None:
    loop = make_loop()
    assert [loop.first_free_ns(at(time_ms)) for time_ms in (0, 20, 21, 70, 71)] == [
        at(step_ms) for step_ms in (80, 80, 130, 130, 180)
    ]
    loop.due(at(20))
    assert loop.first_free_ns(at(0)) == at(130), "what has gone out is committed"


def test_the_pace_is_kept_when_the_clock_jumps() -> None:
    loop = make_loop()
    loop.go_on_from(at(-5000))
    assert loop.send_ns == at(-4950)


@pytest.mark.parametrize("state", LoopState)
@pytest.mark.parametrize("event", LoopEvent)
def test_no_event_ends_motion_without_braking(state: LoopState, event: LoopEvent) -> None:
    after, sending = next_state(state, event), (LoopState.MOVING, LoopState.BRAKING, LoopState.STOPPING)
    if state is LoopState.MOVING:
        assert after in sending
    if after is LoopState.MOVING and state is not after:
        assert (state, event) == (LoopState.CLOSING, LoopEvent.FRAME), "the loop closes at a frame only"
    if state.brakes and after not in sending:
        assert event in (LoopEvent.STANDSTILL, LoopEvent.BRAKING_TAKES_TOO_LONG)
    if after.enabled and not state.enabled:
        assert event is LoopEvent.ENABLE, "motion is asked for by nothing else"
    if event in (LoopEvent.DISABLE, LoopEvent.E_STOP, LoopEvent.HALT):
        assert not after.enabled
    if event in (LoopEvent.PROBLEM, LoopEvent.RESET):
        assert after not in (LoopState.MOVING, LoopState.CLOSING) or (event is LoopEvent.RESET and after is state)
    if event is LoopEvent.ALL_WELL:
        assert after is not LoopState.MOVING or state is after


def test_every_state_is_reached_and_left() -> None:
    reached = {LoopState.SILENT}
    for _ in LoopState:
        reached |= {next_state(state, event) for state in reached for event in LoopEvent}
    assert reached == set(LoopState) == set(TRANSITIONS)
    named = {event for row in TRANSITIONS.values() for event in row}
    assert named == set(LoopEvent), "every event matters somewhere"
    assert all(after is not state for state, row in TRANSITIONS.items() for after in row.values())


def walk(*events: LoopEvent) -> list[str]:
    """The states that events lead through, from the start of a node on."""
    states = [next_state(LoopState.SILENT, LoopEvent.START)]
    for event in events:
        states.append(next_state(states[-1], event))
    return [state.value for state in states]


def test_the_loop_closes_again_by_itself_after_a_problem_but_not_after_an_e_stop() -> None:
    event = LoopEvent
    close = (event.ALL_WELL, event.FRAME)
    assert walk(event.ENABLE, *close, event.PROBLEM, event.STANDSTILL, *close) == [
        "idle", "waiting", "closing", "moving", "braking", "waiting", "closing", "moving",
    ]  # fmt: skip
    assert walk(event.ENABLE, *close, event.PROBLEM, event.E_STOP, event.STANDSTILL, *close) == [
        "idle", "waiting", "closing", "moving", "braking", "stopping", "idle", "idle", "idle",
    ]  # fmt: skip
    assert walk(event.ENABLE, *close, event.HALT, event.BRAKING_TAKES_TOO_LONG, event.HALT)[-3:] == [
        "stopping", "idle", "silent",
    ]  # fmt: skip


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
