"""The faults of docs/faults.md, each over DDS with real nodes: stop within limits, silence, the reason, recovery.

Every trajectory of every row is judged by what a controller of 1 kHz makes of it: position, velocity, acceleration and
jerk, between the points and from one message to the next. Plain commands are judged by `CommandJudge`: limits, largest
step, largest change of velocity, never zeros.
"""

from __future__ import annotations

import math
import signal
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from fault_bench import PANDA, CommandJudge, FaultBench, picture
from lifecycle_msgs.msg import Transition
from ros_processes import ROOT
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.conversions import matrix_to_image, ns_to_stamp, rgb_to_image
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.robot.limits import load_limits

CAMERA_HZ = 20.0
MAX_AGE_S = 0.4
FROZEN_FRAMES = 6
"""The nodes' `max_input_age_s` and `frozen_frames`."""

Frames, States = Iterable[Image], Iterable[JointState]


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest, checkpoint_path: Path, two_camera_path: Path) -> Iterator[FaultBench]:
    """Encoder and planner, with the system's clock and trajectories, or with a simulated clock and plain commands.

    With two cameras, the model takes joints and a finger too.
    """
    kind = getattr(request, "param", "system time")
    sim_time = kind == "simulated time"
    path = two_camera_path if kind == "two cameras" else checkpoint_path
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


@dataclass(frozen=True)
class Reason:
    """Who must say what; `after_s` until the fault can be known."""

    node: str
    words: str
    after_s: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A fault of what the bench sends, with what must be said about it; nothing if the arm is to move on."""

    name: str
    reasons: tuple[Reason, ...] = ()
    camera: Callable[[Image], Frames] | None = None
    partner: Callable[[Image], Frames] | None = None
    joints: Callable[[JointState], States] | None = None
    finger: Callable[[JointState], States] | None = None
    begin: Callable[[FaultBench], object] = lambda bench: None
    end: Callable[[FaultBench], object] = lambda bench: None


def silent(_: object) -> list:
    return []


def changed(**fields: object) -> Callable[[Image], Frames]:
    """Frames with other fields."""

    def change(frame: Image) -> Frames:
        for name, value in fields.items():
            setattr(frame, name, value)
        return [frame]

    return change


def resized(height: int, width: int) -> Callable[[Image], Frames]:
    pixels = picture(PANDA.home_rad, height, width)
    return lambda frame: [rgb_to_image(np.roll(pixels, stamp_to_ns(frame.header.stamp) % 7, 0), frame.header)]


def black(frame: Image) -> Frames:
    return [rgb_to_image(np.zeros((32, 32, 3), np.uint8), frame.header)]


def shifted(message: Image | JointState, seconds: float) -> list:
    """A message whose stamp is so much later."""
    message.header.stamp = ns_to_stamp(stamp_to_ns(message.header.stamp) + round(seconds * NS_PER_S))
    return [message]


def unstamped(message: Image | JointState) -> list:
    message.header = Header()
    return [message]


def at(joint: int, position_rad: float) -> Callable[[JointState], States]:
    """Joint states with one joint elsewhere."""

    def move(state: JointState) -> States:
        state.position[joint] = position_rad
        return [state]

    return move


def without_last_joint(state: JointState) -> States:
    return [JointState(header=state.header, name=state.name[:6], position=state.position[:6])]


def too_few_positions(state: JointState) -> States:
    return [JointState(header=state.header, name=state.name, position=state.position[:6])]


def shuffled(state: JointState) -> States:
    order = [4, 0, 6, 2, 5, 1, 3]
    names = ["finger", *(state.name[joint] for joint in order)]
    return [JointState(header=state.header, name=names, position=[0.04, *(state.position[joint] for joint in order)])]


def gripper_too(state: JointState) -> States:
    finger = JointState(header=state.header, name=["finger"], position=[0.04])
    return [finger, state, finger, finger]


def ten_times(message: Image | JointState) -> list:
    """Ten messages for one, over the time until the next."""
    copies = []
    for part in range(10):
        copy = type(message)(**{name: getattr(message, name) for name in message.get_fields_and_field_types()})
        copy.header = Header(stamp=message.header.stamp, frame_id=message.header.frame_id)
        copies += shifted(copy, part * 0.0025)
    return copies


def toggle(name: str) -> dict[str, Callable[[FaultBench], object]]:
    return {"begin": lambda bench: setattr(bench, name, True)}


def embedding(values: np.ndarray) -> Callable[[FaultBench], object]:
    """Another node's embeddings."""
    return lambda bench: setattr(bench, "other_encoder", values.astype(np.float32))


def encoder_and_planner(words: str) -> tuple[Reason, Reason]:
    """A frame that cannot be encoded: the encoder says why, and soon the planner says that nothing comes."""
    return Reason("encoder_node", words), Reason("planner_node", "embedding: nothing new for", MAX_AGE_S)


def planner(words: str, after_s: float = 0.0) -> tuple[Reason]:
    return (Reason("planner_node", words, after_s),)


STOPPING = [
    Fault("camera stops", planner("embedding: nothing new for 0.4 s", MAX_AGE_S), camera=silent),
    Fault("wrong encoding", encoder_and_planner("'rgb888' is unknown"), camera=changed(encoding="rgb888")),
    Fault("single pixel", encoder_and_planner("black or blank"), camera=resized(1, 1)),
    Fault("empty image", encoder_and_planner("is empty"), camera=changed(height=0, data=array("B"))),
    Fault("truncated image", encoder_and_planner("expected 3072"), camera=changed(data=array("B", bytes(100)))),
    Fault("step too small", encoder_and_planner("step is 95 bytes"), camera=changed(step=95)),
    Fault("black frame", encoder_and_planner("black or blank"), camera=black),
    Fault("image stamp in the future", planner("embedding: stamped more than"), camera=lambda m: shifted(m, 5.0)),
    Fault("image stamp old", planner("embedding: stamps are more than"), camera=lambda m: shifted(m, -5.0)),
    Fault("image stamp zero", planner("embedding: stamps are more than"), camera=unstamped),
    Fault("two cameras", encoder_and_planner("image: messages of several publishers mix"), **toggle("other_camera")),
    Fault("two encoders", planner("embedding: messages of several publishers mix"), begin=embedding(np.zeros(16))),
    Fault("embedding not a number", planner("is not finite"), camera=silent, begin=embedding(np.full(16, np.nan))),
    Fault("embedding of another size", planner("32FC1 of 1 x 12"), camera=silent, begin=embedding(np.zeros(12))),
    Fault("joint states stop", planner("joint_states: nothing new for 0.4 s", MAX_AGE_S), joints=silent),
    Fault("joint missing", planner("joint 'panda_joint7' is missing"), joints=without_last_joint),
    Fault("position missing", planner("7 joint names but 6 positions"), joints=too_few_positions),
    Fault("position not a number", planner("'panda_joint3': position is nan"), joints=at(2, math.nan)),
    Fault("position infinite", planner("'panda_joint6': position is inf"), joints=at(5, math.inf)),
    Fault("position outside limits", planner("'panda_joint4' is outside its limits"), joints=at(3, 0.2)),
    Fault("joint stamp in the future", planner("joint_states: stamped more than"), joints=lambda m: shifted(m, 5.0)),
    Fault("joint stamp old", planner("joint_states: stamps are more than"), joints=lambda m: shifted(m, -5.0)),
    Fault("joint stamp zero", planner("joint_states: stamps are more than"), joints=unstamped),
    Fault("two arms on joint_states", planner("are there several publishers?"), **toggle("other_arm")),
    Fault(
        "goal withdrawn",
        planner("no goal: it was withdrawn"),
        begin=FaultBench.withdraw_goal,
        end=FaultBench.show_goal,
    ),
    Fault(
        "encoder of another checkpoint",
        planner("the encoder runs 'another-0123'"),
        begin=lambda bench: bench.claim_checkpoint("another-0123"),
        end=FaultBench.claim_checkpoint,
    ),
]

OF_SEVERAL = [
    Fault(
        "the first camera stops",
        (
            Reason("encoder_node", "scene/image: nothing new for 0.4 s", MAX_AGE_S),
            *planner("embedding: nothing new for", MAX_AGE_S),
        ),
        camera=silent,
    ),
    Fault(
        "another camera stops",
        (
            Reason("encoder_node", "wrist/image: nothing new for 0.4 s", MAX_AGE_S),
            *planner("embedding: nothing new for", MAX_AGE_S),
        ),
        partner=silent,
    ),
    Fault(
        "another camera lags",
        encoder_and_planner("wrist/image: stamps are more than 0.4 s old"),
        partner=lambda m: shifted(m, -5.0),
    ),
    Fault(
        "another camera ahead",
        encoder_and_planner("camera wrist has no frame within 0.025 s of camera scene's"),
        partner=lambda m: shifted(m, 5.0),
    ),
    Fault("another camera unstamped", encoder_and_planner("wrist/image: the stamp is zero"), partner=unstamped),
    Fault(
        "another camera's encoding",
        encoder_and_planner("wrist/image: image encoding 'rgb888' is unknown"),
        partner=changed(encoding="rgb888"),
    ),
    Fault("another camera black", encoder_and_planner("wrist/image: the frame is black or blank"), partner=black),
    Fault(
        "finger stops",
        (
            Reason("encoder_node", "gripper: nothing new for 0.4 s", MAX_AGE_S),
            *planner("embedding: nothing new for", MAX_AGE_S),
        ),
        finger=silent,
    ),
    Fault(
        "finger not a number",
        encoder_and_planner("gripper: joint 'finger': position is nan"),
        finger=at(0, math.nan),
    ),
]
"""With two cameras, joints and a finger."""

HARMLESS = [
    Fault("image of another size and shape", camera=resized(36, 64)),
    Fault("joint order shuffled", joints=shuffled),
    Fault("gripper on joint_states", joints=gripper_too),
    Fault("ten times the rate", camera=ten_times, joints=ten_times),
    Fault("goal of another size", begin=lambda bench: bench.show_goal((48, 80), 2.0), end=FaultBench.show_goal),
]


def spoil(bench: FaultBench, fault: Fault) -> None:
    bench.camera, bench.partner = fault.camera or bench.camera, fault.partner or bench.partner
    bench.joints, bench.finger = fault.joints or bench.joints, fault.finger or bench.finger
    fault.begin(bench)


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
    bench.scene_rad = start_rad
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


def at_2_hz() -> Callable[[Image], Frames]:
    shown: list[int] = []

    def thin(frame: Image) -> Frames:
        stamp_ns = stamp_to_ns(frame.header.stamp)
        if shown and stamp_ns - shown[-1] < 0.49 * NS_PER_S:
            return []
        shown.append(stamp_ns)
        return [frame]

    return thin


def test_camera_is_too_slow(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.camera = at_2_hz()
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
    bench.follows = False
    bench.displace(bench.position_rad + np.eye(7)[0] * (1.0 if bench.position_rad[0] < 0.0 else -1.0))
    bench.wait_for_reason("planner_node", "joint 'panda_joint1' jumped further than it can move", since_s)
    bench.wait(lambda: bench.lead_rad > 0.7, "the stop to stay where the arm was")
    bench.wait(lambda: bench.lead_rad < 0.3, "commands from where the arm is")
    bench.mend()
    bench.goes_on()


def test_arm_does_not_follow(bench: FaultBench) -> None:
    bench.follows = False
    leads_rad = []
    sent = len(bench.judge.times_s)

    def twenty_more() -> bool:
        leads_rad.append(bench.lead_rad)
        return len(bench.judge.times_s) >= sent + 20

    bench.wait(twenty_more, "commands", timeout_s=30.0)
    assert max(leads_rad) <= 0.3 + 1e-6
    bench.mend()
    bench.goes_on()


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


def test_encoder_hangs(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.process("encoder_node").send_signal(signal.SIGSTOP)
    stops(bench, since_s, Reason("planner_node", "embedding: nothing new for 0.4 s", MAX_AGE_S))
    bench.mend()
    bench.goes_on()


def test_planner_hangs(bench: FaultBench) -> None:
    bench.process("planner_node").send_signal(signal.SIGSTOP)
    bench.rests(1.0, smoothly=False)
    bench.mend()
    bench.goes_on()


def test_encoder_is_killed_and_restarted(bench: FaultBench) -> None:
    since_s = time.monotonic()
    bench.kill("encoder_node")
    stops(bench, since_s, Reason("planner_node", "embedding: nothing new for 0.4 s", MAX_AGE_S))
    bench.start_encoder()
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
    bench.clock_offset_ns += round(jump_s * NS_PER_S)
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
@pytest.mark.parametrize("name", ["camera stops", "position not a number", "joint stamp zero"])
def test_plain_commands_stop_too(bench: FaultBench, name: str) -> None:
    fault = next(fault for fault in STOPPING if fault.name == name)
    test_arm_stops_says_why_and_goes_on_by_itself(bench, fault)


def test_documentation_lists_every_fault() -> None:
    rows = (ROOT / "docs" / "faults.md").read_text()
    for fault in (*STOPPING, *OF_SEVERAL, *HARMLESS):
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
