"""The topics of a recording: what each message is worth to a row, read by the code of the live nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_ros.model.pixels import fit_frame
from lewm_ros.observation.commands import JointPath, gripper_command, joint_command, twist_command
from lewm_ros.observation.images import compressed_to_rgb, image_to_rgb
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.selection import require_any_joint
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.observation.timeline import Held, Rule
from lewm_training.data import DatasetError
from lewm_training.data.formats.rosbag_channels import Channel
from lewm_training.data.formats.rosbag_config import RecordingConfig
from lewm_training.data.formats.rosbag_types import check_channel

Array = NDArray[np.float64]

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINT_STATE_TYPES = ("sensor_msgs/msg/JointState",)
TRAJECTORY_TYPE = "trajectory_msgs/msg/JointTrajectory"
COMMAND_TYPES = {
    "joint_delta": (TRAJECTORY_TYPE, "std_msgs/msg/Float64MultiArray"),
    "ee_delta": ("geometry_msgs/msg/TwistStamped",),
}
GRIPPER_TYPES = ("std_msgs/msg/Float64",)


class Topic(Protocol):
    """A topic of the recording."""

    rule: Rule

    def receive(self, message: Any, received_ns: int) -> Held:
        """The message and when it is in force; raises Skipped if it changes nothing."""
        ...

    def value(self, held: Held, time_ns: int) -> NDArray[Any]:
        """What the message is worth at a time; raises ValueError if it cannot be used."""
        ...


class StampedTopic:
    """Messages that are read only if a row holds them.

    Args:
        rule: when they may be held.
        read: a message to its value.
        select: raises Skipped for a message that changes nothing.
    """

    def __init__(
        self, rule: Rule, read: Callable[[Any], NDArray[Any]], select: Callable[[Any], Any] = lambda message: None
    ) -> None:
        self.rule, self._read, self._select = rule, read, select

    def receive(self, message: Any, received_ns: int) -> Held:
        self._select(message)
        # Float64 and Float64MultiArray have no header: they are in force from when they were recorded.
        stamp_ns = stamp_to_ns(message.header.stamp) if hasattr(message, "header") else received_ns
        return Held(stamp_ns, stamp_ns, message)

    def value(self, held: Held, time_ns: int) -> NDArray[Any]:
        return self._read(held.value)


class TrajectoryTopic:
    """Joint trajectories, each of which goes on from where the one before it was when it came."""

    def __init__(self, rule: Rule, joint_names: tuple[str, ...], continuous: tuple[str, ...]) -> None:
        self.rule, self._joint_names, self._continuous = rule, joint_names, continuous
        self._path: JointPath | None = None

    def receive(self, message: Any, received_ns: int) -> Held:
        stamp_ns = stamp_to_ns(message.header.stamp) or received_ns
        self._path = JointPath(message, self._joint_names, stamp_ns, *self._state(stamp_ns), self._continuous)
        return Held(stamp_ns, max(stamp_ns, self._path.end_ns), self._path)

    def value(self, held: Held, time_ns: int) -> Array:
        return held.value.at(time_ns)

    def _state(self, time_ns: int) -> tuple[Array, Array] | tuple[None, None]:
        """Commanded positions and velocities (J,) at a time, if they are known."""
        if self._path is None:
            return None, None
        step_ns = NS_PER_S // 1000
        now_rad = self._path.at(time_ns)
        return now_rad, (now_rad - self._path.at(time_ns - step_ns)) * (NS_PER_S / step_ns)


class Camera:
    """Camera messages to frames (image_size, image_size, 3), all from images of one size.

    Args:
        image_size: height and width of the frames.
        bare: what images are that say no more than an OpenCV type; None: they are refused.
    """

    def __init__(self, image_size: int, bare: str | None) -> None:
        self.size: tuple[int, ...] | None = None
        self._image_size, self._bare = image_size, bare

    def __call__(self, message: Any) -> NDArray[np.uint8]:
        to_rgb = compressed_to_rgb if hasattr(message, "format") else image_to_rgb
        rgb = to_rgb(message, self._bare)
        size = rgb.shape[1::-1]
        if self.size is not None and size != self.size:
            raise ValueError(f"an image of {size[0]} x {size[1]}, those before are {self.size[0]} x {self.size[1]}")
        self.size = size
        return fit_frame(rgb, self._image_size)


def make_topics(config: RecordingConfig, recorded: dict[str, list[Channel]], camera: Camera) -> dict[str, Topic]:
    """The topics that the configuration names, by name.

    Args:
        config: names the topics.
        recorded: the channels of the recorded topics, by name.
        camera: reads the images.

    Raises:
        DatasetError: a topic was not recorded, has another type or is encoded in a way that cannot be read.
    """
    gap_s = config.max_age_s if config.gap_s is None else config.gap_s
    observed = Rule(config.max_age_s, gap_s)
    # The command sent at the beginning of a control step is that step's, not the one's before it.
    commanded = Rule(config.max_age_s, gap_s, ahead_ns=-1)
    in_force = Rule(math.inf, math.inf, ahead_ns=-1)
    names, space = config.joint_names, config.action_space

    def expect(key: str, types: tuple[str, ...]) -> str:
        return _expect(f"{key} topic '{getattr(config, key)}'", recorded.get(getattr(config, key), []), types, recorded)

    expect("image", IMAGE_TYPES)
    expect("joint_states", JOINT_STATE_TYPES)
    topics: dict[str, Topic] = {
        config.image: StampedTopic(Rule(config.max_age_s, gap_s, ahead_ns=round(config.jitter_s * NS_PER_S)), camera),
        config.joint_states: StampedTopic(
            observed,
            lambda message: joint_positions(message, names),
            select=lambda message: require_any_joint(message.name, names),
        ),
    }
    if config.command and space == "ee_delta":
        expect("command", COMMAND_TYPES[space])
        topics[config.command] = StampedTopic(
            commanded, lambda message: _twist(message, config.twist_frame), select=twist_command
        )
    elif config.command:
        if expect("command", COMMAND_TYPES[space]) == TRAJECTORY_TYPE:
            topics[config.command] = TrajectoryTopic(commanded, names, config.continuous_joints)
        else:
            command = partial(joint_command, joints=len(names))
            topics[config.command] = StampedTopic(commanded, command, select=command)
    if config.gripper:
        expect("gripper", GRIPPER_TYPES)
        topics[config.gripper] = StampedTopic(in_force, _gripper, select=gripper_command)
    return topics


def _expect(what: str, channels: Sequence[Channel], types: Sequence[str], recorded: dict[str, list[Channel]]) -> str:
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
