"""The faults of docs/faults.md: what is spoiled, and what must be said about it."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from fault_bench import PANDA, FaultBench, picture
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from lewm_ros.nodes.conversions import ns_to_stamp, rgb_to_image
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns

CAMERA_HZ = 20.0
MAX_AGE_S = 0.4
FROZEN_FRAMES = 6
"""The nodes' `max_input_age_s` and `frozen_frames`."""
STANDS_STILL_S = 2.0
"""An arm must be away from where it is told to be, and be so for a second, before it is said not to follow."""

Frames, States = Iterable[Image], Iterable[JointState]


@dataclass(frozen=True)
class Reason:
    """Who must say what; `after_s` until the fault can be known."""

    node: str
    words: str
    after_s: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A fault of what the bench sends, with what must be said about it; nothing if the arm is to move on.

    `of` is what is spoiled. `mute`: the arm stops although nobody can say why. `hides`: nodes that say nothing of
    other faults meanwhile. `in_motion`: it shows only while the arm is told to move. `enable`: motion has to be asked
    for afterwards. `resumes_s`: so long motion may take to come back, once it may.
    """

    name: str
    reasons: tuple[Reason, ...] = ()
    of: str = "view"
    mute: bool = False
    hides: tuple[str, ...] = ()
    in_motion: bool = False
    enable: bool = False
    resumes_s: float = 5.0
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


def flag(name: str) -> Callable[[FaultBench], object]:
    return lambda bench: setattr(bench, name, True)


def late(seconds: float) -> Callable[[Image], Frames]:
    """Frames that come so much after they were taken."""
    kept: deque[Image] = deque()

    def release(frame: Image) -> Frames:
        kept.append(frame)
        until_ns = stamp_to_ns(frame.header.stamp) - round(seconds * NS_PER_S)
        return [kept.popleft() for held in list(kept) if stamp_to_ns(held.header.stamp) <= until_ns]

    return release


def embedding(values: np.ndarray) -> Callable[[FaultBench], object]:
    """Another node's embeddings."""
    return lambda bench: setattr(bench, "other_encoder", values.astype(np.float32))


def encoder_and_planner(words: str) -> tuple[Reason, Reason]:
    """A frame that cannot be encoded: the encoder says why, and soon the planner says that nothing comes."""
    return Reason("encoder_node", words), Reason("planner_node", "embedding: nothing new for", MAX_AGE_S)


def planner(words: str, after_s: float = 0.0) -> tuple[Reason]:
    return (Reason("planner_node", words, after_s),)


def thinned(period_s: float) -> Callable[[Image], Frames]:
    """Frames at least so far apart."""
    shown: list[int] = []

    def thin(frame: Image) -> Frames:
        stamp_ns = stamp_to_ns(frame.header.stamp)
        if shown and stamp_ns - shown[-1] < period_s * NS_PER_S:
            return []
        shown.append(stamp_ns)
        return [frame]

    return thin


def freeze(bench: FaultBench) -> None:
    bench.scene_rad = bench.position_rad


def move_by_hand(bench: FaultBench) -> None:
    """The arm is suddenly 1 rad away, and stays there."""
    bench.follows = False
    bench.displace(bench.position_rad + np.eye(7)[0] * (1.0 if bench.position_rad[0] < 0.0 else -1.0))


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
    Fault("two cameras", encoder_and_planner("image: messages of several publishers mix"), begin=flag("other_camera")),
    Fault("two encoders", planner("embedding: messages of several publishers mix"), begin=embedding(np.zeros(16))),
    Fault("embedding not a number", planner("is not finite"), camera=silent, begin=embedding(np.full(16, np.nan))),
    Fault("embedding of another size", planner("32FC1 of 1 x 12"), camera=silent, begin=embedding(np.zeros(12))),
    Fault("joint states stop", planner("joint_states: nothing new for 0.4 s", MAX_AGE_S), of="joints", joints=silent),
    Fault("joint missing", planner("joint 'panda_joint7' is missing"), of="joints", joints=without_last_joint),
    Fault("position missing", planner("7 joint names but 6 positions"), of="joints", joints=too_few_positions),
    Fault("position not a number", planner("'panda_joint3': position is nan"), of="joints", joints=at(2, math.nan)),
    Fault("position infinite", planner("'panda_joint6': position is inf"), of="joints", joints=at(5, math.inf)),
    Fault("position outside limits", planner("'panda_joint4' is outside its limits"), of="joints", joints=at(3, 0.2)),
    Fault(
        "joint stamp in the future",
        planner("joint_states: stamped more than"),
        of="joints",
        joints=lambda m: shifted(m, 5.0),
    ),
    Fault(
        "joint stamp old", planner("joint_states: stamps are more than"), of="joints", joints=lambda m: shifted(m, -5.0)
    ),
    Fault("joint stamp zero", planner("joint_states: stamps are more than"), of="joints", joints=unstamped),
    Fault("two arms on joint_states", planner("are there several publishers?"), of="joints", begin=flag("other_arm")),
    Fault(
        "goal withdrawn",
        planner("no goal: it was withdrawn"),
        of="goal",
        begin=FaultBench.withdraw_goal,
        end=FaultBench.show_goal,
    ),
    Fault(
        "encoder of another checkpoint",
        planner("the encoder runs 'another-0123'"),
        of="model_info",
        begin=lambda bench: bench.claim_checkpoint("another-0123"),
        end=FaultBench.claim_checkpoint,
    ),
    Fault(
        "encoder hangs",
        planner("embedding: nothing new for 0.4 s", MAX_AGE_S),
        begin=lambda bench: bench.stop("encoder_node"),
    ),
    Fault(
        "encoder killed and restarted",
        planner("embedding: nothing new for 0.4 s", MAX_AGE_S),
        begin=lambda bench: bench.kill("encoder_node"),
        end=FaultBench.start_encoder,
        resumes_s=60.0,
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
    Fault(
        "another camera comes 1 s late",
        (
            Reason("encoder_node", "wrist/image: nothing new for 0.4 s", MAX_AGE_S),
            Reason("encoder_node", "camera wrist has no frame within 0.025 s of camera scene's", 1.2),
            *planner("embedding: nothing new for", MAX_AGE_S),
        ),
        begin=lambda bench: setattr(bench, "partner", late(1.0)),
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
    Fault("joint order shuffled", of="joints", joints=shuffled),
    Fault("gripper on joint_states", of="joints", joints=gripper_too),
    Fault("ten times the rate", camera=ten_times, joints=ten_times),
    Fault("camera comes 0.1 s late", begin=lambda bench: setattr(bench, "camera", late(0.1))),
    Fault("goal at 50 Hz", of="goal", begin=flag("goal_floods"), end=FaultBench.show_goal),
    Fault("arm follows 0.2 s late", of="arm", begin=flag("delayed")),
    Fault(
        "goal of another size", of="goal", begin=lambda bench: bench.show_goal((48, 80), 2.0), end=FaultBench.show_goal
    ),
]


OF_SEVERAL_HARMLESS = [
    Fault("another camera comes 0.1 s late", begin=lambda bench: setattr(bench, "partner", late(0.1))),
    Fault("another camera at 5 Hz", begin=lambda bench: setattr(bench, "partner", thinned(0.19))),
]
"""With two cameras, joints and a finger."""

IN_MOTION = [
    Fault(
        "camera repeats a frame under new stamps",
        planner("has frozen: equal frames", 1.5),
        in_motion=True,
        begin=freeze,
    ),
    Fault(
        "a joint jumps by 1 rad",
        planner("joint 'panda_joint1' jumped further than it can move"),
        of="joints",
        enable=True,
        begin=move_by_hand,
    ),
    Fault(
        "arm stands still while commanded",
        planner("the arm does not follow: joint", STANDS_STILL_S),
        of="joints",
        hides=("planner_node",),
        in_motion=True,
        enable=True,
        begin=lambda bench: setattr(bench, "follows", False),
    ),
    Fault(
        "e-stop during motion",
        planner("stopped: e-stop"),
        of="operator",
        hides=("planner_node",),
        enable=True,
        begin=lambda bench: bench.press_estop(True),
        end=lambda bench: bench.press_estop(False),
    ),
    Fault(
        "deactivated during motion",
        of="operator",
        mute=True,
        hides=("planner_node",),
        enable=True,
        begin=lambda bench: bench.change_state(Transition.TRANSITION_DEACTIVATE),
        end=lambda bench: bench.change_state(Transition.TRANSITION_ACTIVATE),
    ),
    Fault(
        "planner stopped for two seconds",
        of="planner",
        mute=True,
        hides=("planner_node",),
        begin=lambda bench: bench.stop("planner_node"),
    ),
    Fault(
        "both nodes stopped for two seconds",
        of="planner",
        mute=True,
        hides=("encoder_node", "planner_node"),
        begin=lambda bench: bench.stop("encoder_node", "planner_node"),
    ),
    Fault(
        "planner killed and restarted",
        of="planner",
        mute=True,
        hides=("planner_node",),
        enable=True,
        resumes_s=60.0,
        begin=lambda bench: bench.kill("planner_node"),
        end=FaultBench.start_planner,
    ),
]
"""What stops the arm in other ways than by an input that is spoiled once and for all."""

OF_SIMULATED_TIME = [
    Fault(
        f"the clock jumps {direction}",
        planner(f"the clock jumped {direction}"),
        of="clock",
        hides=("planner_node",),
        begin=lambda bench, jump_s=jump_s: bench.jump(jump_s),
    )
    for direction, jump_s in (("back", -3600.0), ("forward", 20.0))
] + [
    Fault(
        "the simulator is paused",
        (*planner("embedding: nothing new", MAX_AGE_S), *planner("joint_states: nothing", MAX_AGE_S)),
        of="clock",
        hides=("planner_node",),
        begin=FaultBench.pause,
    ),
    Fault(
        "the clock stands still, sensors go on",
        planner("joint_states: stamped more than 0.2 s in the future", 0.2),
        of="clock",
        hides=("planner_node",),
        begin=lambda bench: setattr(bench, "clock_goes", False),
    ),
]


def spoil(bench: FaultBench, fault: Fault) -> None:
    bench.camera, bench.partner = fault.camera or bench.camera, fault.partner or bench.partner
    bench.joints, bench.finger = fault.joints or bench.joints, fault.finger or bench.finger
    fault.begin(bench)
