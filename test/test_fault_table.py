"""The faults of docs/faults.md, each over DDS with real nodes: stop within limits, silence, the reason, recovery.

Every command of every row is judged by `CommandJudge`: limits, largest step, largest change of velocity, never zeros.
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

pytest.importorskip("rclpy")

from conftest import joint_delta_space
from fault_bench import PANDA, FaultBench, picture
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_processes import ROOT
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.conversions import embedding_to_image, ns_to_stamp, rgb_to_image
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns

MAX_AGE_S = 0.4
"""The nodes' `max_input_age_s`."""

Frames, States = Iterable[Image], Iterable[JointState]


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest, checkpoint_path: Path) -> Iterator[FaultBench]:
    """Encoder and planner, with the system's clock and trajectories, or with a simulated clock and plain commands."""
    sim_time = getattr(request, "param", "system time") == "simulated time"
    bench = FaultBench(checkpoint_path, "commands" if sim_time else "joint_trajectory", sim_time)
    try:
        bench.start_encoder()
        bench.start_planner()
        bench.claim_checkpoint()
        yield bench
    finally:
        bench.close()


@pytest.fixture
def idle(session: FaultBench) -> Iterator[FaultBench]:
    """The bench, whatever the planner is doing; in the end, no command may have broken a limit."""
    session.judge.faults.clear()
    yield session
    session.mend()
    assert not session.judge.faults, "\n".join(session.judge.faults[:3])


@pytest.fixture
def bench(idle: FaultBench) -> FaultBench:
    """The bench, with the arm in motion."""
    if "planner_node" not in idle.status:
        idle.show_goal()
    idle.moves()
    return idle


simulated_time = pytest.mark.parametrize("session", ["simulated time"], indirect=True)


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
    joints: Callable[[JointState], States] | None = None
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
    return [JointState(header=state.header, name=["finger"], position=[0.04]), state]


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

HARMLESS = [
    Fault("image of another size and shape", camera=resized(36, 64)),
    Fault("joint order shuffled", joints=shuffled),
    Fault("gripper on joint_states", joints=gripper_too),
    Fault("ten times the rate", camera=ten_times, joints=ten_times),
    Fault("goal of another size", begin=lambda bench: bench.show_goal((48, 80), 2.0), end=FaultBench.show_goal),
]


def spoil(bench: FaultBench, fault: Fault) -> None:
    bench.camera, bench.joints = fault.camera or bench.camera, fault.joints or bench.joints
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


@pytest.mark.parametrize("fault", HARMLESS, ids=lambda fault: fault.name)
def test_arm_moves_on(bench: FaultBench, fault: Fault) -> None:
    since_s = time.monotonic()
    spoil(bench, fault)
    bench.goes_on(commands=15)
    bench.undisturbed(since_s)
    bench.mend()
    fault.end(bench)
