"""A camera and an arm that follows its commands, played to an encoder and a planner that run as processes."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from ros_processes import SMALL_SEARCH, Probe, Processes, node_command
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64, Float64MultiArray, Header, String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.nodes.conversions import matrix_to_image, ns_to_stamp, rgb_to_image
from lewm_ros.nodes.image_transport import camera_topics
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.observation.trajectory_judge import TrajectoryJudge
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.limits import JointLimits, load_limits

Array = NDArray[np.float64]

CONTROL_HZ = 20.0
TICK_S = 0.0125
TICKS_PER_STATE = 2
TICKS_PER_FRAME = 4
PHASE_NS = 10_000_000
"""How much later than the first camera the second one takes its frames."""
RAMP_S = 0.3
LATELY_S = 0.2
SEARCH = SMALL_SEARCH | {"planner__horizon": 5}
"""As far ahead as the shipped search, so that plans may be late."""
DELAY_S = 0.2
"""By how much the arm is late when it is `delayed`."""
GOAL_PERIOD_S = 0.02
PAUSE_S = 0.12
MAX_LATENESS_S = 0.2
REASON_S = 0.5
MOTION_RAD = 0.02
FAR_RAD = 0.6
FINGER_M = 0.04
"""How far the finger opens."""
ROUNDING = 1e-6


class MotionJudge(Protocol):
    """What the bench asks of a judge of commands.

    Attributes:
        faults: whatever broke a limit, a line for each.
        times_s: when commands were sent, on the system's clock.
    """

    faults: list[str]
    times_s: list[float]

    @property
    def target_rad(self) -> Array:
        """Where the arm is commanded to be (7,)."""
        ...

    @property
    def standing(self) -> bool:
        """Whether the newest command was to stand still."""
        ...

    def place(self, positions_rad: Array) -> None:
        """The arm was put somewhere (7,), and is held there."""

    def finish(self) -> None:
        """Judge all that is left."""


class PathJudge:
    """Judges trajectories by what a controller of 1 kHz makes of them, and by how many there are."""

    def __init__(self, limits: JointLimits, control_hz: float) -> None:
        self.controller = TrajectoryJudge(limits)
        self.faults, self.times_s = self.controller.faults, []
        self._sequence = 0
        self._per_second, self.place, self.finish = control_hz + 5, self.controller.hold, self.controller.finish

    @property
    def target_rad(self) -> Array:
        return self.controller.state(time.time_ns())[0]

    @property
    def standing(self) -> bool:
        return self.controller.stands(time.time_ns())

    def saw(self, message: JointTrajectory, sent_ns: int, sequence: int) -> None:
        """Take in a trajectory that was sent, and so arrived, at a time of the system's clock.

        Faults say how long after its stamp, and how many messages of its sender were lost before it.
        """
        known = len(self.faults)
        self.controller.saw(message, sent_ns)
        after_s = (sent_ns - stamp_to_ns(message.header.stamp)) / NS_PER_S
        sent = f"sent {after_s:.4f} s after its stamp, {max(0, sequence - self._sequence - 1)} lost before it"
        self.faults[known:] = [f"{fault}; {sent}" for fault in self.faults[known:]]
        self._sequence = sequence
        self.times_s.append(sent_ns / NS_PER_S)
        if any(message.points[-1].velocities):
            self.faults.append(f"a trajectory that does not end at rest: {message.points[-1]}")
        if too_many(self.times_s, self._per_second):
            self.faults.append(f"too many commands in a second, the last at {self.times_s[-1]}")


class CommandJudge:
    """Judges plain commands by the arm's limits.

    A command must continue the one before it, or, after a pause, start from where the arm is.
    """

    def __init__(self, limits: JointLimits, control_hz: float) -> None:
        self._low, self._high = np.array(limits.lower_rad), np.array(limits.upper_rad)
        self._step = np.array(limits.velocity_rad_s) / control_hz
        self._change = np.array(limits.acceleration_rad_s2) / control_hz**2
        self._per_second = control_hz + 5
        self.faults: list[str] = []
        self.times_s: list[float] = []
        self._sequence = -1
        self._last: Array | None = None
        self._placed = np.array(PANDA.home_rad)
        self._moves = [np.zeros(7)]

    @property
    def target_rad(self) -> Array:
        return self._placed

    @property
    def standing(self) -> bool:
        return bool(np.all(np.abs(self._moves) < ROUNDING))

    def place(self, positions_rad: Array) -> None:
        self._placed = positions_rad

    def finish(self) -> None:
        pass

    def saw(self, position_rad: Array, measured_rad: Array, sequence: int, sent_s: float) -> None:
        """Take in a command (7,).

        Args:
            position_rad: what is commanded.
            measured_rad: where the arm was in the time in which this command can have been made (m, 7).
            sequence: the sender's number of the message, which shows whether one was lost.
            sent_s: when it was sent, on the system's clock.
        """
        if position_rad.shape != (7,) or not np.isfinite(position_rad).all():
            self.faults.append(f"not a command for seven joints: {position_rad}")
            return
        self._require(position_rad.any(), "zeros", position_rad)
        inside = np.all((self._low <= position_rad) & (position_rad <= self._high))
        self._require(inside, "outside position limits", position_rad)
        self._require_continuation(position_rad, measured_rad, sequence, sent_s)
        self._placed = position_rad
        self.times_s.append(sent_s)
        self._require(not too_many(self.times_s, self._per_second), "too many commands in a second", sent_s)

    def _require_continuation(self, first: Array, measured: Array, sequence: int, sent_s: float) -> None:
        paused = self._last is None or sent_s - self.times_s[-1] > PAUSE_S
        steps = max(1, sequence - self._sequence) if self._last is not None else 1
        move = np.zeros(7) if self._last is None else first - self._last
        # What follows a pause begins anew, from where the arm is; or goes on, if the sender was late; or may be either.
        starts = paused and bool(np.any(np.all(np.abs(first - measured) <= self._change + ROUNDING, axis=1)))
        continues = self._last is not None and bool(np.all(np.abs(move) <= steps * self._step + ROUNDING))
        self._require(starts or continues, f"a jump (paused: {paused})", (self._last, measured[-1], first))
        if not paused and steps == 1:
            smooth = any(np.all(np.abs(move - before) <= self._change + ROUNDING) for before in self._moves)
            self._require(smooth, "a jump in velocity", (self._moves, move))
        self._last, self._sequence = first, sequence
        self._moves = [np.zeros(7)] * starts + [move / steps] * (continues or not starts)

    def _require(self, holds: object, what: str, shown: object) -> None:
        if not holds:
            self.faults.append(f"{what}: {shown}")


def too_many(times_s: list[float], per_second: float) -> bool:
    """Whether more commands than that were sent in the last second."""
    return sum(times_s[-1] - earlier_s < 1.0 for earlier_s in times_s[-100:]) > per_second


class Heard(NamedTuple):
    """A status as it arrived, by a steady clock."""

    time_s: float
    name: str
    level: bytes
    message: str


class FaultBench(Probe):
    """Publishes frames at 20 Hz and joint states at 40 Hz, follows the commands, and spoils on request what it sends.

    The finger goes at once where it is told on `gripper`.

    Args:
        checkpoint: of both nodes.
        interface: joint_trajectory or commands.
        sim_time: whether the nodes follow the bench's own clock.
    """

    def __init__(self, checkpoint: Path, interface: str, sim_time: bool) -> None:
        self.processes = Processes()
        super().__init__(self.processes)
        self._checkpoint, self._interface, self._sim_time = checkpoint, interface, sim_time
        create = self.node.create_publisher
        inputs = load_checkpoint(checkpoint).inputs
        cameras, self._has_finger = [camera.name for camera in inputs.cameras], bool(inputs.vectors)
        topics = list(camera_topics(cameras).values())
        self.images, *self._partners = [create(Image, topic, 10) for topic in topics]
        goals = [create(Image, topic, LATCHED) for topic in camera_topics(cameras, "goal_image").values()]
        self.goals, *self._partner_goals = goals
        self.joint_states, self.model_info = (
            create(JointState, "joint_states", 10),
            create(String, "model_info", LATCHED),
        )
        self._clock, self._estop = create(Clock, "/clock", 10), create(Bool, "planner_node/estop", 10)
        self._other_camera, self._other_arm = create(Image, topics[0], 10), create(JointState, "joint_states", 10)
        self._other_encoder = create(Image, "embedding", 10)
        limits = load_limits("panda")
        self.judge: MotionJudge
        if interface == "joint_trajectory":
            self.judge = PathJudge(limits, CONTROL_HZ)
            self.node.create_subscription(JointTrajectory, interface, self._on_trajectory, 100)
        else:
            self.judge = CommandJudge(limits, CONTROL_HZ)
            self.node.create_subscription(Float64MultiArray, interface, self._on_command, 100)
        self.grip, self.finger_m = 0.0, FINGER_M
        self.node.create_subscription(Float64, "gripper", self._on_gripper, 100)
        self.statuses: list[Heard] = []
        self._late: list[tuple[float, float]] = []
        self._calls, self._ticks, self._last_tick_s = 0, 0, time.monotonic()
        self.clock_offset_ns = 0
        self._paused_ns: int | None = None
        self.mend()
        self.place(PANDA.home_rad)
        self.node.create_timer(TICK_S, self._tick)
        self.node.create_timer(GOAL_PERIOD_S, self._change_goal)

    # Processes

    def stop(self, *names: str) -> None:
        """Have nodes do nothing until all is mended, as SIGSTOP does."""
        for name in names:
            self.process(name).send_signal(signal.SIGSTOP)

    def start_encoder(self) -> None:
        self._start("encoder_node")

    def start_planner(self) -> None:
        self._start("planner_node", command_interface=self._interface, ramp_s=RAMP_S, **SEARCH)

    def process(self, name: str) -> Any:
        """The process of a node."""
        return next(process for process in self.processes.running if process.args[3] == name)

    def kill(self, name: str) -> None:
        """End a node as SIGKILL does, without a word."""
        process = self.process(name)
        self.processes.running.remove(process)
        process.kill()
        process.communicate()

    def close(self) -> None:
        self.processes.interrupt()
        super().close()

    def _start(self, name: str, **parameters: object) -> None:
        shared = {"checkpoint": self._checkpoint, "device": "cpu", "use_sim_time": self._sim_time}
        self.processes.start(node_command(name, **shared, **parameters))

    # What can be spoiled

    def mend(self) -> None:
        """End every fault of what the bench sends."""
        self.camera: Callable[[Image], Iterable[Image]] = lambda frame: [frame]
        self.partner: Callable[[Image], Iterable[Image]] = lambda frame: [frame]
        self.joints: Callable[[JointState], Iterable[JointState]] = lambda state: [state]
        self.finger: Callable[[JointState], Iterable[JointState]] = lambda state: [state]
        self.other_camera = self.other_arm = self.delayed = self.goal_floods = False
        self.slowness = 1
        self.scene_rad: Array | None = None
        self.other_encoder: Array | None = None
        self.follows = self.clock_goes = True
        for process in self.processes.running:
            process.send_signal(signal.SIGCONT)
        if self._paused_ns is not None:
            self.clock_offset_ns, self._paused_ns = self._paused_ns - time.time_ns(), None

    def place(self, positions_rad: Array) -> None:
        """Put the arm somewhere (7,), where its controller holds it."""
        self.displace(positions_rad)
        self.judge.place(self.position_rad)

    def displace(self, positions_rad: Array) -> None:
        """Have the arm be somewhere else (7,) than its controller knows."""
        self.position_rad = np.array(positions_rad, dtype=np.float64)
        self._lately_rad = deque([self.position_rad], maxlen=round(LATELY_S / TICK_S))
        self._targets_rad = deque([self.position_rad], maxlen=1 + round(DELAY_S / TICK_S))

    def pause(self) -> None:
        """Stop the clock, and with it all that is sent."""
        self._paused_ns = self.now_ns()

    def jump(self, seconds: float) -> None:
        """Have the clock be so much later from one moment to the next."""
        self.clock_offset_ns += round(seconds * NS_PER_S)

    def press_estop(self, pressed: bool) -> None:
        self._estop.publish(Bool(data=pressed))

    def claim_checkpoint(self, identity: str = "") -> None:
        """Say which checkpoint the embeddings are from; by default the truth."""
        identity = identity or load_checkpoint(self._checkpoint).identity
        self.model_info.publish(String(data=f'{{"checkpoint": "{identity}"}}'))

    def show_goal(self, size: tuple[int, int] = (32, 32), phase: float = 1.0) -> None:
        """A picture of this height and width as the goal."""
        header = self.header()
        for place, goals in enumerate((self.goals, *self._partner_goals)):
            goals.publish(rgb_to_image(picture(PANDA.home_rad + phase + place, *size), header))

    def withdraw_goal(self) -> None:
        self.goals.publish(Image(header=self.header()))

    def now_ns(self) -> int:
        return time.time_ns() + self.clock_offset_ns if self._paused_ns is None else self._paused_ns

    def header(self) -> Header:
        return Header(stamp=ns_to_stamp(self.now_ns()), frame_id="camera")

    # What is seen

    def lateness_s(self, since_s: float) -> float:
        """How long the bench itself was late since then: what it sends and hears is late by as much."""
        return sum(late_s for at_s, late_s in self._late if at_s >= since_s)

    def wait_for_reason(self, name: str, words: str, since_s: float, after_s: float = 0.0) -> None:
        """Fail unless a node says these words, as something that is wrong, within half a second.

        Args:
            name: of the node.
            words: in its status.
            since_s: when the fault began.
            after_s: how much later it can be known.
        """

        def told() -> list[Heard]:
            heard = (h for h in self.statuses if h.time_s >= since_s and h.name == name)
            return [h for h in heard if words in h.message and h.level != DiagnosticStatus.OK]

        self.wait(told, f"{name} to say '{words}'", timeout_s=20.0)
        took_s, allowed_s = told()[0].time_s - since_s, after_s + REASON_S + self.lateness_s(since_s)
        assert took_s <= allowed_s, f"{name} said '{words}' after {took_s:.2f} s instead of {allowed_s:.2f} s"

    def moves(self) -> None:
        """Return once the arm has been seen to move, on several commands; enables the planner if need be."""
        if self.far:
            self.call("planner_node/stop")
            self.rests()
            self.place(PANDA.home_rad)
        self.allow()
        self.goes_on()

    @property
    def far(self) -> bool:
        """Whether the arm has gone so far from home that it might come near its limits."""
        return bool(np.abs(self.position_rad - PANDA.home_rad).max() > FAR_RAD)

    def allow(self) -> None:
        """Enable the planner as soon as it can be."""
        self.wait(lambda: self.enable().success, "the planner to be enabled")

    def goes_on(self, commands: int = 5) -> None:
        """Return once the arm moves on, without being enabled."""
        sent, start_rad = len(self.judge.times_s), self.position_rad
        self.wait(
            lambda: (
                len(self.judge.times_s) >= sent + commands and np.abs(self.position_rad - start_rad).max() > MOTION_RAD
            ),
            "commands and motion",
            timeout_s=30.0,
        )

    def undisturbed(self, since_s: float) -> None:
        """Fail if the planner has complained or paused since a moment; skip the test if the bench itself was late."""
        late_s = self.lateness_s(since_s)
        if late_s > MAX_LATENESS_S:
            pytest.skip(f"the bench was late by {late_s:.2f} s, which may be what the planner complains of")
        heard = [h for h in self.statuses if h.time_s >= since_s and h.name == "planner_node"]
        complaints = [h.message for h in heard if h.level == DiagnosticStatus.ERROR]
        assert not complaints, complaints

    def rests(self, silence_s: float = 0.4, smoothly: bool = True) -> None:
        """Return once commands have ended, the last one with the arm at rest if `smoothly`, and nothing follows."""
        self.wait(
            lambda: (self.judge.standing or not smoothly) and time.time() - self.judge.times_s[-1] > 2 * PAUSE_S,
            "the stop to end",
            timeout_s=20.0,
        )
        sent = len(self.judge.times_s)
        self.spin(silence_s)
        assert len(self.judge.times_s) == sent, "commands were sent after the stop had ended"

    def set_parameter(self, name: str, value: object) -> SetParametersResult:
        """What the planner answers to a change of a parameter."""
        client = AsyncParameterClient(self.node, "planner_node")
        self.wait(client.services_are_ready, "the planner's parameters")
        future = client.set_parameters([Parameter(name, value=value)])
        self.wait(future.done, "an answer about a parameter")
        return future.result().results[0]

    def change_state(self, transition: int) -> bool:
        """Ask the planner for a lifecycle transition; returns whether it succeeded."""
        client = self.node.create_client(ChangeState, "planner_node/change_state")
        self.wait(client.service_is_ready, "the planner's lifecycle")
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self.wait(future.done, "the transition")
        self.node.destroy_client(client)
        return future.result().success

    @property
    def lead_rad(self) -> float:
        """How far what is commanded is ahead of the arm."""
        return float(np.abs(self.judge.target_rad - self.position_rad).max())

    @property
    def lately_rad(self) -> tuple[Array, Array]:
        """The lowest and the highest position (7,) of each joint in the last `LATELY_S`, which may not be known yet."""
        return np.min(self._lately_rad, axis=0), np.max(self._lately_rad, axis=0)

    # Machinery

    def enable(self, enabled: bool = True) -> Any:
        return self.call("planner_node/enable", SetBool.Request(data=enabled))

    def _tick(self) -> None:
        now_s = time.monotonic()
        self._late.append((now_s, max(0.0, now_s - self._last_tick_s - TICK_S)))
        # With a slow clock the whole world is slow.
        elapsed_s, self._last_tick_s, self._calls = now_s - self._last_tick_s, now_s, self._calls + 1
        self.clock_offset_ns -= round(elapsed_s * (1.0 - 1.0 / self.slowness) * NS_PER_S)
        if self._paused_ns is not None or self._calls % self.slowness:
            return
        self._ticks += 1
        self._targets_rad.append(self.judge.target_rad)
        if self.follows:
            most = PANDA.velocity_rad_s * TICK_S
            target_rad = self._targets_rad[0 if self.delayed else -1]
            self.position_rad = self.position_rad + np.clip(target_rad - self.position_rad, -most, most)
            self._lately_rad.append(self.position_rad)
        if self._sim_time and self.clock_goes:
            self._clock.publish(Clock(clock=ns_to_stamp(self.now_ns())))
        # Other publishers come in between, since the nodes take only the newest of messages that come at once.
        if self._ticks % TICKS_PER_STATE == 0:
            for state in self.joints(self._joint_state(self.position_rad)):
                self.joint_states.publish(state)
            if self._has_finger:
                for state in self.finger(JointState(header=self.header(), name=["finger"], position=[self.finger_m])):
                    self.joint_states.publish(state)
        elif self.other_arm:
            self._other_arm.publish(self._joint_state(self.position_rad + 0.5))
        if self._ticks % TICKS_PER_FRAME == 0:
            scene_rad = self.position_rad if self.scene_rad is None else self.scene_rad
            header = self.header()
            for frame in self.camera(rgb_to_image(picture(scene_rad), header)):
                self.images.publish(frame)
            for partner in self._partners:
                later = Header(stamp=ns_to_stamp(stamp_to_ns(header.stamp) + PHASE_NS), frame_id="partner")
                for frame in self.partner(rgb_to_image(picture(self.position_rad + 1.0), later)):
                    partner.publish(frame)
        elif self._ticks % TICKS_PER_FRAME == TICKS_PER_FRAME // 2:
            if self.other_camera:
                self._other_camera.publish(rgb_to_image(picture(self.position_rad + 1.0), self.header()))
            if self.other_encoder is not None:
                self._other_encoder.publish(matrix_to_image(self.other_encoder[np.newaxis], self.header()))

    def _change_goal(self) -> None:
        if self.goal_floods:
            self.show_goal(phase=1.0 + 0.3 * math.sin(time.monotonic()))

    def _joint_state(self, positions_rad: Array) -> JointState:
        return JointState(header=self.header(), name=list(PANDA.joint_names), position=positions_rad.tolist())

    def _on_trajectory(self, message: JointTrajectory, info: dict[str, Any]) -> None:
        self.judge.saw(message, info["source_timestamp"], info["publication_sequence_number"])

    def _on_command(self, message: Float64MultiArray, info: dict[str, Any]) -> None:
        lately_rad, sent_s = np.array(self._lately_rad), info["source_timestamp"] / NS_PER_S
        self.judge.saw(np.array(message.data), lately_rad, info["publication_sequence_number"], sent_s)

    def _on_gripper(self, message: Float64) -> None:
        self.grip, self.finger_m = message.data, FINGER_M * (1.0 - message.data) / 2.0

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        super()._on_diagnostics(message)
        now_s = time.monotonic()
        self.statuses += [Heard(now_s, s.name, s.level, s.message) for s in message.status]


def picture(positions_rad: Array, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """A frame (height, width, 3) in which every joint can be seen."""
    rows, columns = np.linspace(0.0, 2.0, height), np.linspace(0.0, 2.0, width)
    waves = np.add.outer(rows * (1.0 + positions_rad[3]), columns * (1.0 + positions_rad[1]))
    phases = np.array([positions_rad[0] + positions_rad[4], positions_rad[2] + positions_rad[5], positions_rad[6]])
    return (127.5 + 120.0 * np.sin(3.0 * waves[..., np.newaxis] + 2.0 * phases)).astype(np.uint8)
