"""What `lewm import --from rosbag` reads from its YAML: which topics, and how they become rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

from lewm_ros.config import ConfigError, load
from lewm_ros.observation.images import ENCODINGS
from lewm_ros.observation.input_spec import UNNAMED
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.arm_actions import GRIPPER, declared_space
from lewm_ros.robot.kinematics import Kinematics, kinematics_from_urdf
from lewm_ros.robot.twist import AXES
from lewm_training.data.checks import RESERVED_NAMES, check_column_names
from lewm_training.data.spec import PROPRIO, DatasetSpec, camera_columns

EXAMPLE = "config/rosbag.yaml"
STAMPS = "frame_stamp_ns"
"""The column of the stamps of the leading camera's frames."""

HAND = ("ee_position", "ee_quaternion")
"""The columns of the hand's position, m, and its quaternion w, x, y, z, in the base frame."""

DURATION_S = (1e-6, 1e6)
RANGES = {
    "control_hz": (0.01, 1000.0),
    "image_size": (8, 2048),
    "pair_tolerance_s": (0.0, 1.0),
    "max_age_s": DURATION_S,
    "gap_s": DURATION_S,
    "min_episode_s": DURATION_S,
    "max_episode_s": DURATION_S,
}


class Moves(Enum):
    """What the commands of a recording move."""

    JOINTS = "joints"
    HAND = "hand"
    NUMBERS = "whatever the numbers stand for"


COMMANDS = {
    Moves.JOINTS: "JointTrajectory or Float64MultiArray",
    Moves.HAND: "TwistStamped",
    Moves.NUMBERS: "Float64MultiArray",
}


@dataclass(frozen=True)
class RecordingConfig:
    """Topics of a recording and the rate of its rows.

    Args:
        cameras: topic of every camera, sensor_msgs/Image or CompressedImage, as NAME: TOPIC; the first one leads.
        image: the topic of the only camera, in place of `cameras`.
        pair_tolerance_s: how far the stamps of the other cameras' frames may lie from the leading one's.
        joint_states: sensor_msgs/JointState; empty: there are none.
        joint_names: the arm's joints, in the order of the column `proprio`; others are ignored.
        continuous_joints: those of them that turn without end; the others have two ends.
        vectors: further vectors from `joint_states`, as NAME: joints, such as a gripper's.
        urdf: file with the robot's description, from which the hand's pose follows: the columns of `HAND`.
        hand: the link that is the hand, between the finger tips.
        action_space: joint_delta or ee_delta; any other name stands for what `command` holds, number by number.
        limit: largest action per control step, in rad (joint_delta) or m and rad (ee_delta), and one number more if
            there is a gripper; a larger action is an error.
        channels: of a space of one's own, in place of `limit`.
        command: what moved the robot: trajectory_msgs/JointTrajectory or std_msgs/Float64MultiArray (joint positions),
            for ee_delta geometry_msgs/TwistStamped (m/s and rad/s in the base frame), for other spaces
            std_msgs/Float64MultiArray. Empty: actions are the changes of the measured joint positions.
        gripper: std_msgs/Float64, -1 open to +1 closed, beside joints or twists; in force until the next one.
        twist_frame: the frame that twists must be stamped with; empty: any.
        control_hz: rows per second.
        image_encoding: of images that say no more than an OpenCV type, such as 8UC3; None: there are none.
        image_size: height and width of the stored frames.
        max_age_s: oldest value that a row may hold.
        gap_s: a longer pause between messages of a topic ends the episode; None: max_age_s.
        jitter_s: a row may hold a frame stamped this much after it, for cameras whose rate is `control_hz`.
        min_episode_s: shorter stretches are left out.
        max_episode_s: longer ones are cut, which bounds the memory that an import needs.
    """

    cameras: dict[str, str] = field(default_factory=dict)
    image: str = ""
    pair_tolerance_s: float = 0.025
    joint_states: str = ""
    joint_names: tuple[str, ...] = ()
    continuous_joints: tuple[str, ...] = ()
    vectors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    urdf: str = ""
    hand: str = ""
    action_space: str = "joint_delta"
    limit: tuple[float, ...] = ()
    channels: tuple[Channel, ...] = ()
    command: str = ""
    gripper: str = ""
    twist_frame: str = ""
    control_hz: float = 20.0
    image_encoding: str | None = None
    image_size: int = 96
    max_age_s: float = 0.2
    gap_s: float | None = None
    jitter_s: float = 0.0
    min_episode_s: float = 1.0
    max_episode_s: float = 60.0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name}: must be from {low:g} to {high:g}, got {value:g}")
        if self.max_episode_s < self.min_episode_s:
            raise ConfigError(f"max_episode_s: must be at least min_episode_s, {self.min_episode_s:g} s")
        if not 0.0 <= self.jitter_s < 0.5 / self.control_hz:
            raise ConfigError(f"jitter_s: must be from 0 to below half a control step, {0.5 / self.control_hz:g} s")
        if self.image_encoding is not None and self.image_encoding not in ENCODINGS:
            raise ConfigError(f"image_encoding: must be one of {', '.join(ENCODINGS)}, got '{self.image_encoding}'")
        self._check_columns()
        self._check_actions()
        topics = [topic for topic in (*self.camera_topics.values(), *self._other_topics) if topic]
        if len(set(topics)) != len(topics):
            raise ConfigError(f"topics: the same one is named twice: {', '.join(topics)}")

    def _check_columns(self) -> None:
        if bool(self.cameras) == bool(self.image) or not all(self.camera_topics.values()):
            raise ConfigError("cameras: must name the topics of the cameras, or `image` that of the only one")
        check_column_names("cameras", self.cameras, ())
        taken = {*RESERVED_NAMES, STAMPS, *HAND, *camera_columns(list(self.camera_topics)).values()}
        check_column_names("vectors", self.vectors, taken)
        if bool(self.joint_states) != bool(self.joint_vectors):
            raise ConfigError("joint_states: needs joint_names or vectors, and they need joint_states")
        for name, joints in self.joint_vectors.items():
            if not joints:
                raise ConfigError(f"vectors: '{name}' names no joints")
        named = Counter(joint for joints in self.joint_vectors.values() for joint in joints)
        twice = [joint for joint, count in named.items() if count > 1]
        if twice:
            raise ConfigError(f"joint_names, vectors: '{twice[0]}' is named twice")
        unknown = [name for name in self.continuous_joints if name not in self.joint_names]
        if unknown:
            raise ConfigError(f"continuous_joints: '{unknown[0]}' is none of joint_names")
        if bool(self.urdf) != bool(self.hand):
            raise ConfigError("hand: the link needs the robot's description, urdf: FILE, and that needs the link")
        _ = self.kinematics

    def _check_actions(self) -> None:
        space, moves = self.space, self.moves
        if moves is not Moves.JOINTS and not self.command:
            raise ConfigError(f"command: '{space.name}' needs the topic of its actions ({COMMANDS[moves]})")
        if moves is Moves.NUMBERS:
            if self.gripper:
                raise ConfigError(f"gripper: '{space.name}' has its gripper in `command`; leave the topic out")
        elif bool(self.gripper) != (GRIPPER.name in space.names):
            own = "has a number for one; name its topic" if not self.gripper else "has no number for one"
            raise ConfigError(f"gripper: the limit of '{space.name}' {own}")

    @property
    def camera_topics(self) -> dict[str, str]:
        """The topic of every camera, by name; the first one leads."""
        return self.cameras or {UNNAMED: self.image}

    @property
    def frames_label(self) -> str:
        """What reports call the frames of all cameras: the topic, or the topics side by side."""
        return " + ".join(self.camera_topics.values())

    @property
    def joint_vectors(self) -> dict[str, tuple[str, ...]]:
        """The joints of every vector, by name."""
        return ({PROPRIO: self.joint_names} if self.joint_names else {}) | self.vectors

    @cached_property
    def kinematics(self) -> Kinematics | None:
        """Of the hand; None if it is not asked for.

        Raises:
            ConfigError: the file cannot be read, or the link does not hang on the joints.
        """
        if not self.hand:
            return None
        try:
            urdf = Path(self.urdf).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"urdf '{self.urdf}': cannot be read ({error})") from None
        return kinematics_from_urdf(urdf, self.joint_names, self.hand)

    @property
    def space(self) -> ActionSpace:
        """Of the dataset.

        Raises:
            ConfigError: limit, channels and joints do not fit each other.
        """
        return declared_space(self.action_space, self.limit, self.channels, self.control_hz, self.joint_names)

    @property
    def moves(self) -> Moves:
        """What `command` moves, by the names of the channels that are changes."""
        space = self.space
        deltas = {space.channels[place].name for place in space.places("delta")}
        if deltas == set(AXES):
            return Moves.HAND
        return Moves.JOINTS if deltas and deltas <= set(self.joint_names) else Moves.NUMBERS

    def spec(self) -> DatasetSpec:
        """What the dataset holds."""
        cameras = camera_columns(list(self.camera_topics))
        return DatasetSpec(cameras, self.joint_vectors, self.space, self.continuous_joints)

    @property
    def _other_topics(self) -> tuple[str, ...]:
        return self.joint_states, self.command, self.gripper


def load_config(path: Path | None) -> RecordingConfig:
    """Read the YAML.

    Raises:
        ConfigError: there is none, or it does not fit.
    """
    if path is None:
        raise ConfigError(f"--from rosbag needs --config FILE, which names the topics; {EXAMPLE} is an example")
    return load(RecordingConfig, path)
