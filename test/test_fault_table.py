"""The faults of docs/faults.md, each over DDS with real nodes: stop within limits, silence, the reason, recovery.

Every trajectory of every row is judged by what a controller of 1 kHz makes of it: position, velocity, acceleration and
jerk, between the points and from one message to the next. Plain commands are judged by `CommandJudge`: limits, largest
step, largest change of velocity, never zeros.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from conftest import small_model_config, two_cameras
from fault_bench import CONTROL_HZ, PANDA, CommandJudge, FaultBench, picture
from faults import (
    CAMERA_HZ,
    FROZEN_FRAMES,
    HARMLESS,
    IN_MOTION,
    MAX_AGE_S,
    OF_SEVERAL,
    OF_SEVERAL_HARMLESS,
    OF_SIMULATED_TIME,
    STANDS_STILL_S,
    STOPPING,
    Fault,
    Reason,
    at,
    freeze,
    move_by_hand,
    planner,
    silent,
    spoil,
    thinned,
)
from lifecycle_msgs.msg import Transition
from ros_processes import ROOT
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.config import PolicyConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.model.policy import LEVELS, make_policy
from lewm_ros.nodes.conversions import matrix_to_image, rgb_to_image
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.observation.observation import Observation
from lewm_ros.robot.arm_actions import joint_delta
from lewm_ros.robot.limits import load_limits

GRIP_S = 1.5
"""A gripper must have been told the same for a second to have arrived, or not to follow."""
OPEN, CLOSED = 1.0, 2.0
"""Phases of the goals for which `grasping_path` opens and closes the gripper."""


@pytest.fixture(scope="module")
def grasping_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two cameras, joints and a finger whose policy drifts, and opens or closes as the goal says."""
    torch.manual_seed(0)
    model = LeWorldModel(replace(small_model_config(), action_dim=40), two_cameras()).eval()
    space = joint_delta(PANDA.joint_names, (0.05,) * 7, CONTROL_HZ, gripper=True)
    space = replace(space, action_block=5, std=(0.015,) * 7 + (1.0,))
    policy = make_policy(PolicyConfig(width=32, depth=1), model, space)
    checkpoint = Checkpoint(model, space, policy=policy)
    vectors = {vector.name: np.array(vector.mean) for vector in model.inputs.vectors}
    states = []
    for phase in (OPEN, CLOSED):
        frames = {c.name: picture(PANDA.home_rad + phase + place) for place, c in enumerate(model.inputs.cameras)}
        states.append(checkpoint.encode(Observation(frames, vectors)))
    goals = torch.stack(states)[:, list(checkpoint.goal_tokens)].flatten(1)
    start, end = states[0].numel(), states[0].numel() + goals.shape[1]
    moving, steps = 2 * space.action_block * len(PANDA.joint_names), space.action_block
    with torch.no_grad():
        linear = policy.body[0][0]
        linear.weight[:, :start], linear.weight[:, end:] = 0.0, 0.0
        opened, closed = policy.body(torch.nn.functional.pad(goals, (start, linear.in_features - end)))
        weight, bias = policy.head.weight[moving:-1], policy.head.bias[moving:-1]
        levels, offsets = weight.unflatten(0, (steps, LEVELS)), bias.unflatten(0, (steps, LEVELS))
        levels.zero_()
        offsets.fill_(-1e6)
        offsets[:, 0] = 0.0
        levels[:, -1] = 100.0 * (closed - opened) / (closed - opened).norm()
        offsets[:, -1] = -levels[:, -1] @ (closed + opened) / 2.0
    return save_checkpoint(checkpoint, tmp_path_factory.mktemp("checkpoint") / "grasping")


@pytest.fixture(scope="module")
def session(
    request: pytest.FixtureRequest, checkpoint_path: Path, two_camera_path: Path, grasping_path: Path
) -> Iterator[FaultBench]:
    """Encoder and planner, with the system's clock and trajectories, or with a simulated clock and plain commands.

    With two cameras, the model takes joints and a finger too; with a gripper, a policy moves that finger.
    """
    kind = getattr(request, "param", "system time")
    sim_time = kind == "simulated time"
    path = {"two cameras": two_camera_path, "gripper": grasping_path}.get(kind, checkpoint_path)
    bench = FaultBench(path, "commands" if sim_time else "joint_trajectory", sim_time)
    try:
        bench.start_encoder()
        bench.start_planner()
        bench.claim_checkpoint()
        yield bench
        bench.judge.finish()
        assert not bench.judge.faults, "\n".join(bench.judge.faults[:3])
    finally:
        bench.close()


@pytest.fixture
def idle(session: FaultBench) -> Iterator[FaultBench]:
    """The bench, whatever the planner is doing; in the end, no command may have broken a limit."""
    yield session
    session.mend()
    faults = list(session.judge.faults)
    session.judge.faults.clear()
    assert not faults, "\n".join(faults[:3])


@pytest.fixture
def bench(idle: FaultBench) -> FaultBench:
    """The bench, with the arm in motion."""
    if "planner_node" not in idle.status:
        idle.show_goal()
    idle.moves()
    return idle


simulated_time = pytest.mark.parametrize("session", ["simulated time"], indirect=True)
with_two_cameras = pytest.mark.parametrize("session", ["two cameras"], indirect=True)
with_gripper = pytest.mark.parametrize("session", ["gripper"], indirect=True)


def stops(bench: FaultBench, since_s: float, *reasons: Reason) -> None:
    """The reasons come in time, commands end, and none follow."""
    for reason in reasons:
        bench.wait_for_reason(reason.node, reason.words, since_s, reason.after_s)
    bench.rests()


@pytest.mark.parametrize("fault", STOPPING, ids=lambda fault: fault.name)
def test_arm_stops_says_why_and_goes_on_by_itself(bench: FaultBench, fault: Fault) -> None:
    since_s = time.monotonic()
    spoil(bench, fault)
    stops(bench, since_s, *fault.reasons)
    bench.mend()
    fault.end(bench)
    bench.goes_on()


@with_two_cameras
@pytest.mark.parametrize("fault", OF_SEVERAL, ids=lambda fault: fault.name)
def test_one_of_several_inputs_fails(bench: FaultBench, fault: Fault) -> None:
    test_arm_stops_says_why_and_goes_on_by_itself(bench, fault)


@with_two_cameras
@pytest.mark.parametrize("fault", OF_SEVERAL_HARMLESS, ids=lambda fault: fault.name)
def test_arm_moves_on_with_one_of_several(bench: FaultBench, fault: Fault) -> None:
    test_arm_moves_on(bench, fault)


@with_two_cameras
def test_one_of_several_cameras_freezes(bench: FaultBench) -> None:
    since_s, start_rad, shown = time.monotonic(), bench.position_rad, picture(bench.position_rad)
    bench.partner = lambda frame: [rgb_to_image(shown, frame.header)]
    bench.wait(
        lambda: (
            time.monotonic() - since_s > (FROZEN_FRAMES + 1) / CAMERA_HZ
            and np.abs(bench.position_rad - start_rad).max() > 0.05
        ),
        "equal frames and 0.05 rad of motion",
    )
    stops(bench, since_s, Reason("planner_node", "camera wrist has frozen", time.monotonic() - since_s))
    bench.mend()
    bench.goes_on()


@with_two_cameras
def test_one_of_several_cameras_is_not_there(bench: FaultBench) -> None:
    bench.kill("encoder_node")
    bench.partner = silent
    bench.start_encoder()
    bench.wait(lambda: "nothing received on wrist/image" in bench.messages()["encoder_node"], "the camera to be missed")
    bench.rests()
    assert bench.call("planner_node/stop").success
    assert bench.enable().message.startswith("refused: embedding: nothing new for")
    bench.mend()
    bench.moves()


@with_gripper
def test_finger_freezes(bench: FaultBench) -> None:
    bench.show_goal(phase=OPEN)
    bench.wait(lambda: bench.grip == -1.0, "the gripper to open")
    bench.spin(GRIP_S)
    bench.show_goal(phase=CLOSED)
    bench.wait(lambda: bench.grip == 1.0, "the gripper to close")
    since_s = time.monotonic()
    bench.spin(GRIP_S)
    bench.undisturbed(since_s)
    bench.finger = at(0, bench.finger_m)
    bench.show_goal(phase=OPEN)
    bench.wait(lambda: bench.grip == -1.0, "the gripper to open")
    words = "stopped: the gripper does not follow: joint 'finger' stays where it is while told to open"
    stops(bench, time.monotonic(), Reason("planner_node", words, GRIP_S))
    bench.mend()
    bench.rests(1.0)
    bench.moves()


@pytest.mark.parametrize("fault", HARMLESS, ids=lambda fault: fault.name)
def test_arm_moves_on(bench: FaultBench, fault: Fault) -> None:
    since_s = time.monotonic()
    spoil(bench, fault)
    bench.goes_on(commands=15)
    bench.undisturbed(since_s)
    bench.mend()
    fault.end(bench)


def test_camera_freezes_with_new_stamps(bench: FaultBench) -> None:
    since_s, start_rad = time.monotonic(), bench.position_rad
    freeze(bench)
    bench.wait(
        lambda: (
            time.monotonic() - since_s > (FROZEN_FRAMES + 1) / CAMERA_HZ
            and np.abs(bench.position_rad - start_rad).max() > 0.05
        ),
        "equal frames and 0.05 rad of motion",
    )
    known_after_s = time.monotonic() - since_s
    stops(bench, since_s, Reason("planner_node", "the camera has frozen", known_after_s))
    bench.mend()
    bench.goes_on()


def test_camera_is_too_slow(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.camera = thinned(0.49)
    # The first of the frames that still come may come a period later.
    bench.wait_for_reason("planner_node", "embedding: nothing new for 0.4 s", since_s, 1.0 / CAMERA_HZ + MAX_AGE_S)
    assert bench.set_parameter("max_input_age_s", 1.5).successful
    bench.spin(0.5)
    since_s = time.monotonic()
    bench.goes_on(commands=20)
    bench.undisturbed(since_s)
    assert bench.set_parameter("max_input_age_s", MAX_AGE_S).successful


def test_joint_jumps(bench: FaultBench) -> None:
    since_s = time.monotonic()
    move_by_hand(bench)
    bench.wait_for_reason("planner_node", "joint 'panda_joint1' jumped further than it can move", since_s)
    bench.wait(lambda: bench.lead_rad > 0.7, "the stop to stay where the arm was")
    bench.wait(lambda: bench.lead_rad < 0.3, "commands from where the arm is")
    bench.mend()
    bench.goes_on()


def test_arm_stands_still_while_commanded(bench: FaultBench) -> None:
    """Commands stay near where the arm was last seen, but for those sent ahead, which hold where steps are missed."""
    since_s, missed = time.monotonic(), int(bench.value("planner_node", "missed_cycles"))
    bench.follows = False
    low_rad, high_rad = bench.lately_rad
    leads_rad = []

    def told() -> bool:
        leads_rad.append(np.maximum(bench.judge.target_rad - high_rad, low_rad - bench.judge.target_rad).max())
        return "the arm does not follow" in bench.messages()["planner_node"]

    bench.wait(told, "the planner to notice", timeout_s=30.0)
    stops(bench, since_s, Reason("planner_node", "stopped: the arm does not follow: joint", STANDS_STILL_S))
    missed = int(bench.value("planner_node", "missed_cycles")) - missed
    sent_ahead_rad = max(0, missed) * np.max(PANDA.velocity_rad_s) / CONTROL_HZ
    assert max(leads_rad) <= 0.3 + sent_ahead_rad + 1e-6, f"{missed} steps were missed"
    bench.mend()
    bench.rests(1.0)
    bench.moves()


def test_goal_at_50_hz(bench: FaultBench) -> None:
    """Plans come, and each is for a goal that was the newest when it began: the last goal of all is one of them."""
    since_s, made = time.monotonic(), int(bench.value("planner_node", "plans"))
    bench.goal_floods = True
    bench.goes_on(commands=15)
    bench.wait(lambda: int(bench.value("planner_node", "plans")) >= made + 5, "plans", timeout_s=30.0)
    bench.undisturbed(since_s)
    bench.mend()
    bench.show_goal()


def test_goal_changes_during_plans(bench: FaultBench) -> None:
    since_s = time.monotonic()
    for phase in np.linspace(0.0, 2.0, 10):
        bench.show_goal(phase=phase)
        bench.spin(0.1)
    bench.goes_on()
    bench.undisturbed(since_s)


def test_goal_that_cannot_be_read(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.goals.publish(Image(header=bench.header(), encoding="rgb888", height=1, width=1, step=3, data=[1, 2, 3]))
    bench.wait_for_reason("encoder_node", "goal_image: image encoding 'rgb888' is unknown", since_s)
    bench.goes_on()
    bench.undisturbed(since_s)
    bench.show_goal()


def test_goal_embedding_of_another_size(bench: FaultBench) -> None:
    other = bench.node.create_publisher(Image, "goal_embedding", LATCHED)
    bench.wait(other.get_subscription_count, "the planner to listen")
    since_s = time.monotonic()
    other.publish(matrix_to_image(np.zeros((1, 12), np.float32), bench.header()))
    stops(bench, since_s, Reason("planner_node", "goal_embedding: expected 32FC1 of 1 x 16"))
    bench.node.destroy_publisher(other)
    bench.show_goal()
    bench.goes_on()


def test_enable_without_a_goal(bench: FaultBench) -> None:
    assert bench.call("planner_node/stop").success
    bench.withdraw_goal()
    bench.wait(lambda: "no goal: it was withdrawn" in bench.messages()["planner_node"], "the planner to miss its goal")
    bench.rests()
    answer = bench.enable()
    assert not answer.success
    assert answer.message == "refused: no goal: it was withdrawn"
    bench.rests()
    bench.show_goal()
    bench.rests()
    bench.moves()


def test_two_publishers_of_commands(bench: FaultBench) -> None:
    since_s = time.monotonic()
    other = bench.node.create_publisher(JointTrajectory, "joint_trajectory", 1)
    bench.wait_for_reason("planner_node", "another node publishes on /joint_trajectory too", since_s)
    bench.goes_on()
    bench.node.destroy_publisher(other)
    bench.wait(lambda: bench.messages()["planner_node"] == "moving", "the warning to end")
    bench.undisturbed(since_s)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_input_age_s", -1.0, "out of range"),
        ("max_input_age_s", "soon", "Wrong parameter type"),
        ("on_surprise", "panic", "known: warn, stop, ignore"),
        ("planner.samples", 8, "fixed while configured"),
    ],
)
def test_parameter_out_of_range_at_run_time(bench: FaultBench, name: str, value: object, reason: str) -> None:
    since_s = time.monotonic()
    answer = bench.set_parameter(name, value)
    assert not answer.successful
    assert reason in answer.reason
    bench.goes_on()
    bench.undisturbed(since_s)


def test_estop_during_motion(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.press_estop(True)
    stops(bench, since_s, Reason("planner_node", "stopped: e-stop"))
    answer = bench.enable()
    assert not answer.success
    assert answer.message == "refused: e-stop"
    since_s = time.monotonic()
    bench.press_estop(False)
    stops(bench, since_s, Reason("planner_node", "the e-stop was released; enable again"))
    bench.moves()


def test_deactivated_during_motion(bench: FaultBench) -> None:
    assert bench.change_state(Transition.TRANSITION_DEACTIVATE)
    bench.rests()
    assert bench.messages()["planner_node"] == "inactive"
    assert bench.enable().message == "refused: the node is inactive"
    assert bench.change_state(Transition.TRANSITION_ACTIVATE)
    bench.rests()
    bench.moves()


@pytest.mark.parametrize("names", [("planner_node",), ("encoder_node", "planner_node")], ids=" and ".join)
def test_nodes_are_stopped_for_two_seconds(bench: FaultBench, names: tuple[str, ...]) -> None:
    bench.stop(*names)
    bench.rests(1.8, smoothly=False)
    bench.mend()
    bench.goes_on()


def test_planner_is_killed_and_joins_late(bench: FaultBench) -> None:
    bench.kill("planner_node")
    bench.rests(smoothly=False)
    since_s = time.monotonic()
    bench.start_planner()
    bench.wait(
        lambda: any(h.time_s > since_s and h.message == "idle: ready to be enabled" for h in bench.statuses),
        "the new planner to hear all it needs, the goal included",
    )
    bench.rests(smoothly=False)
    bench.moves()


@simulated_time
@pytest.mark.parametrize(("jump_s", "words"), [(-3600.0, "jumped back"), (20.0, "jumped forward")])
def test_clock_jumps(bench: FaultBench, jump_s: float, words: str) -> None:
    since_s = time.monotonic()
    bench.jump(jump_s)
    stops(bench, since_s, Reason("planner_node", f"the clock {words}"))
    bench.goes_on()


@simulated_time
def test_simulator_is_paused(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.pause()
    stops(bench, since_s, *planner("embedding: nothing new", MAX_AGE_S), *planner("joint_states: nothing", MAX_AGE_S))
    bench.mend()
    bench.goes_on()


@simulated_time
def test_clock_stands_still_while_sensors_go_on(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.clock_goes = False
    stops(bench, since_s, *planner("joint_states: stamped more than 0.2 s in the future", 0.2))
    bench.mend()
    bench.goes_on()


@simulated_time
def test_clock_at_half_speed(bench: FaultBench) -> None:
    """Motion goes on at half its pace: 10 commands per second."""
    since_s = time.monotonic()
    bench.slowness = 2
    bench.spin(0.5)
    sent, start_s = len(bench.judge.times_s), time.monotonic()
    bench.goes_on(commands=20)
    took_s, commands = time.monotonic() - start_s, len(bench.judge.times_s) - sent
    assert commands <= CONTROL_HZ / 2 * (took_s + 0.2) + 2
    bench.undisturbed(since_s)


@simulated_time
@pytest.mark.parametrize("name", ["camera stops", "position not a number", "joint stamp zero"])
def test_plain_commands_stop_too(bench: FaultBench, name: str) -> None:
    fault = next(fault for fault in STOPPING if fault.name == name)
    test_arm_stops_says_why_and_goes_on_by_itself(bench, fault)


def test_documentation_lists_every_fault() -> None:
    rows = (ROOT / "docs" / "faults.md").read_text()
    for fault in (*STOPPING, *OF_SEVERAL, *HARMLESS, *OF_SEVERAL_HARMLESS, *IN_MOTION, *OF_SIMULATED_TIME):
        [row] = [row for row in rows.splitlines() if row.startswith(f"| {fault.name} |")]
        assert not [reason.words for reason in fault.reasons if reason.words not in row]


def test_the_judge_finds_what_is_wrong() -> None:
    def faults(*moves_rad: float, pause_s: float = 0.05, scale: float = 1.0) -> str:
        """Of commands that move joint 1 from home, where the arm stays, by so much one after the other."""
        judge, path = CommandJudge(load_limits("panda"), 20.0), PANDA.home_rad
        for number, move_rad in enumerate(moves_rad):
            path = (path + move_rad * np.eye(7)[0]) * scale
            judge.saw(path, PANDA.home_rad[np.newaxis], number, pause_s * number)
        return "; ".join(judge.faults)

    # Joint 1 may go 2.175 rad/s, 0.109 rad in a step, and change its speed by 15 rad/s2, 0.0375 rad in a step.
    assert faults(0.0, 0.03, 0.06, 0.09, 0.108, 0.08, 0.05, 0.02, 0.0) == ""
    assert "a jump in velocity" in faults(0.0, 0.03, 0.07)
    assert "a jump (paused: False)" in faults(0.0, 0.03, 0.06, 0.09, 0.12)
    assert "a jump (paused: True)" in faults(0.0, 0.2, pause_s=1.0)
    assert "a jump" in faults(0.1), "the first command is away from the arm"
    assert "outside position limits" in faults(3.0)
    assert "zeros" in faults(0.0, scale=0.0)
    assert "not a command" in faults(float("nan"))
    assert "too many commands" in faults(*[0.0] * 30, pause_s=0.01)
