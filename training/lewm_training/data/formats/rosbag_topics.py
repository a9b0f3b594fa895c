"""The topics of a recording: what each message is worth to a row, read by the code of the live nodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.alignment import LONGEST_WAIT_NS, FramePairing, PairedFrames
from lewm_ros.observation.command_messages import (
    JointPath,
    gripper_command,
    joint_command,
    numbers_command,
    twist_command,
)
from lewm_ros.observation.images import compressed_to_rgb, image_to_rgb
from lewm_ros.observation.input_spec import fit_frame
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.observation import Frame
from lewm_ros.observation.selection import require_any_joint
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.observation.timeline import Figures, Held, Rule
from lewm_training.data import DatasetError
from lewm_training.data.formats.rosbag_channels import TopicChannel
from lewm_training.data.formats.rosbag_config import Moves, RecordingConfig
from lewm_training.data.formats.rosbag_types import check_channel
from lewm_training.data.spec import PROPRIO

Array = NDArray[np.float64]

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINT_STATE_TYPES = ("sensor_msgs/msg/JointState",)
TRAJECTORY_TYPE = "trajectory_msgs/msg/JointTrajectory"
NUMBERS_TYPE = "std_msgs/msg/Float64MultiArray"
COMMAND_TYPES = {
    Moves.JOINTS: (TRAJECTORY_TYPE, NUMBERS_TYPE),
    Moves.HAND: ("geometry_msgs/msg/TwistStamped",),
    Moves.NUMBERS: (NUMBERS_TYPE,),
}
GRIPPER_TYPES = ("std_msgs/msg/Float64",)


class Source(Protocol):
    """What one track of the timeline takes from the recording."""

    topics: Sequence[str]
    rule: Rule

    def receive(self, topic: str, message: Any, received_ns: int) -> Sequence[Held]:
        """What a message brings, and when it is in force.

        Raises:
            Skipped: it changes nothing.
            ClockJump: its stamp goes back.
            ValueError: its stamp is zero.
        """
        ...

    def value(self, held: Held, time_ns: int) -> Any:
        """What is held at a time; raises ValueError, which names the topic, if it cannot be used."""
        ...


class StampedTopic:
    """Messages that are read only if a row holds them.

    Args:
        topic: of the messages.
        rule: when they may be held.
        read: a message to its value.
        select: raises Skipped for a message that changes nothing.
    """

    def __init__(
        self,
        topic: str,
        rule: Rule,
        read: Callable[[Any], NDArray[Any]],
        select: Callable[[Any], Any] = lambda message: None,
    ) -> None:
        self.topics, self.rule, self._read, self._select = (topic,), rule, read, select

    def receive(self, topic: str, message: Any, received_ns: int) -> Sequence[Held]:
        self._select(message)
        # Float64 and Float64MultiArray have no header: they are in force from when they were recorded.
        stamp_ns = stamp_to_ns(message.header.stamp) if hasattr(message, "header") else received_ns
        return [Held(stamp_ns, stamp_ns, message)]

    def value(self, held: Held, time_ns: int) -> NDArray[Any]:
        try:
            return self._read(held.value)
        except ValueError as error:
            raise ValueError(f"{self.topics[0]}: {error}") from None


class TrajectoryTopic:
    """Joint trajectories, each of which goes on from where the one before it was when it came."""

    def __init__(self, topic: str, rule: Rule, joint_names: tuple[str, ...], continuous: tuple[str, ...]) -> None:
        self.topics, self.rule, self._joint_names, self._continuous = (topic,), rule, joint_names, continuous
        self._path: JointPath | None = None

    def receive(self, topic: str, message: Any, received_ns: int) -> Sequence[Held]:
        stamp_ns = stamp_to_ns(message.header.stamp) or received_ns
        before = None if self._path is None else self._path.state(stamp_ns)
        self._path = JointPath(message, self._joint_names, stamp_ns, before, self._continuous)
        return [Held(stamp_ns, max(stamp_ns, self._path.end_ns), self._path)]

    def value(self, held: Held, time_ns: int) -> Array:
        return held.value.at(time_ns)


class RecordedCamera:
    """Messages of a camera to frames (image_size, image_size, 3), all from images of one size.

    Args:
        image_size: height and width of the frames.
        bare: what images are that say no more than an OpenCV type; None: they are refused.
    """

    def __init__(self, image_size: int, bare: str | None) -> None:
        self.size: tuple[int, ...] | None = None
        self._image_size, self._bare = image_size, bare

    def __call__(self, message: Any) -> Frame:
        to_rgb = compressed_to_rgb if hasattr(message, "format") else image_to_rgb
        rgb = to_rgb(message, self._bare)
        size = rgb.shape[1::-1]
        if self.size is not None and size != self.size:
            raise ValueError(f"an image of {size[0]} x {size[1]}, those before are {self.size[0]} x {self.size[1]}")
        self.size = size
        return fit_frame(rgb, self._image_size)


class CameraTopics:
    """The frames of all cameras that belong to one time, which is the leading one's.

    Args:
        config: names the topics; the first one leads.
        rule: when frames may be held.
        cameras: read the messages, by name.
    """

    def __init__(self, config: RecordingConfig, rule: Rule, cameras: dict[str, RecordedCamera]) -> None:
        self.topics, self.rule, self.label = tuple(config.camera_topics.values()), rule, config.frames_label
        self._pairing = FramePairing(self.topics, config.pair_tolerance_s)
        self._tolerance_s = config.pair_tolerance_s
        self._names, self._cameras = {topic: name for name, topic in config.camera_topics.items()}, cameras

    @property
    def patience_s(self) -> float:
        """How long frames may wait for one another."""
        return LONGEST_WAIT_NS / NS_PER_S if len(self.topics) > 1 else 0.0

    def receive(self, topic: str, message: Any, received_ns: int) -> Sequence[Held]:
        stamp_ns = stamp_to_ns(message.header.stamp)
        return _held(self._pairing.push(topic, Held(stamp_ns, stamp_ns, message)))

    def finish(self) -> Sequence[Held]:
        """What is left when no more messages come."""
        return _held(self._pairing.finish())

    def restart(self) -> None:
        """Forget all messages, as when a clock jumps."""
        self._pairing.restart()

    def value(self, held: Held, time_ns: int) -> dict[str, Frame]:
        frames = {}
        for topic, frame in held.value.frames.items():
            name = self._names[topic]
            try:
                frames[name] = self._cameras[name](frame.value)
            except ValueError as error:
                raise ValueError(f"{topic}: {error}") from None
        return frames

    def use(self, held: Held, time_ns: int) -> None:
        """Note that a row holds these frames."""
        for topic, arrivals in self._pairing.arrivals.items():
            arrivals.use(held.value.frames[topic], time_ns)

    def figures(self, together: Figures) -> dict[str, Figures]:
        """Of every topic, and of what was paired.

        Args:
            together: of the track of paired frames.
        """
        unpaired = {f"without {topic}": count for topic, count in self._pairing.unpaired.items()}
        reasons = dict.fromkeys(unpaired, f"no frame within {self._tolerance_s:g} s")
        together = replace(
            together,
            received=together.received + sum(unpaired.values()),
            dropped=together.dropped + Counter(unpaired),
            first_reasons=together.first_reasons | reasons,
        )
        alone = {topic: arrivals.figures for topic, arrivals in self._pairing.arrivals.items()}
        return alone | {self.label: together}


def _held(paired: Iterable[PairedFrames]) -> Sequence[Held]:
    return [Held(frames.stamp_ns, frames.stamp_ns, frames) for frames in paired]


class Sources:
    """All that an import takes from a recording, by the label of its track: the topic, or the topics side by side.

    Args:
        config: names the topics.
        recorded: the channels of the recorded topics, by name.
        cameras: read the images.

    Raises:
        DatasetError: a topic was not recorded, has another type or is encoded in a way that cannot be read.
    """

    def __init__(
        self, config: RecordingConfig, recorded: dict[str, list[TopicChannel]], cameras: dict[str, RecordedCamera]
    ) -> None:
        def expect(key: str, topic: str, types: tuple[str, ...]) -> str:
            return _expect(f"{key} topic '{topic}'", recorded.get(topic, []), types, recorded)

        gap_s = config.max_age_s if config.gap_s is None else config.gap_s
        observed = Rule(config.max_age_s, gap_s)
        # The command sent at the beginning of a control step is that step's, not the one's before it.
        commanded = Rule(config.max_age_s, gap_s, ahead_ns=-1)
        in_force = Rule(math.inf, math.inf, ahead_ns=-1)

        for name, topic in config.camera_topics.items():
            expect("image" if config.image else f"camera {name}:", topic, IMAGE_TYPES)
        framed = Rule(config.max_age_s, gap_s, ahead_ns=round(config.jitter_s * NS_PER_S))
        self.cameras = CameraTopics(config, framed, cameras)
        self.tracks: dict[str, Source] = {self.cameras.label: self.cameras}
        self.vectors: dict[str, str] = {}
        """The label of every vector."""
        if config.joint_states:
            expect("joint_states", config.joint_states, JOINT_STATE_TYPES)
        for vector, joints in config.joint_vectors.items():
            # Each by itself, since the arm and its gripper may send messages of their own.
            label = config.joint_states if vector == PROPRIO else f"{config.joint_states} ({vector})"
            self.vectors[vector] = label
            self.tracks[label] = StampedTopic(
                config.joint_states, observed, partial(joint_positions, names=joints), _naming(joints)
            )
        if config.command:
            kind = expect("command", config.command, COMMAND_TYPES[config.moves])
            self.tracks[config.command] = _command(config, kind, commanded)
        if config.gripper:
            expect("gripper", config.gripper, GRIPPER_TYPES)
            self.tracks[config.gripper] = StampedTopic(config.gripper, in_force, _gripper, gripper_command)

    def of_topic(self) -> dict[str, list[str]]:
        """The labels of the tracks that take messages of a topic, by topic."""
        labels: dict[str, list[str]] = {}
        for label, source in self.tracks.items():
            for topic in source.topics:
                labels.setdefault(topic, []).append(label)
        return labels


def _command(config: RecordingConfig, kind: str, rule: Rule) -> Source:
    if config.moves is Moves.HAND:
        return StampedTopic(config.command, rule, partial(_twist, frame=config.twist_frame), twist_command)
    if kind == TRAJECTORY_TYPE:
        return TrajectoryTopic(config.command, rule, config.joint_names, config.continuous_joints)
    if config.moves is Moves.JOINTS:
        command = partial(joint_command, joints=len(config.joint_names))
    else:
        command = partial(numbers_command, size=config.space.dim)
    return StampedTopic(config.command, rule, command, command)


def _naming(joints: tuple[str, ...]) -> Callable[[Any], None]:
    return lambda message: require_any_joint(message.name, joints)


def _expect(
    what: str, channels: Sequence[TopicChannel], types: Sequence[str], recorded: dict[str, list[TopicChannel]]
) -> str:
    """The type of a topic's channels, which must be one of `types` and readable."""
    right = " or ".join(types)
    if not channels:
        fitting = [topic for topic, others in sorted(recorded.items()) if any(c.kind in types for c in others)]
        raise DatasetError(f"{what} was not recorded; topics of {right}: {', '.join(fitting) or 'none'}")
    kinds = sorted({channel.kind for channel in channels})
    if len(kinds) > 1 or kinds[0] not in types:
        raise DatasetError(f"{what} is {' and '.join(kinds)}; it must be {right}")
    for channel in channels:
        try:
            check_channel(channel)
        except ValueError as error:
            raise DatasetError(f"{what}: {error}") from None
    return kinds[0]


def _twist(message: Any, frame: str) -> Array:
    if frame and message.header.frame_id != frame:
        raise ValueError(f"the twist is in frame '{message.header.frame_id}', expected '{frame}'")
    return twist_command(message)


def _gripper(message: Any) -> Array:
    closed = gripper_command(message)
    if not -1.0 <= closed <= 1.0:
        raise ValueError(f"gripper command {closed} is not between -1 (open) and +1 (closed)")
    return np.array([closed])
