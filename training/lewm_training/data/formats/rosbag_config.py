"""What `lewm import --from rosbag` reads from its YAML: which topics, and how they become rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lewm_ros.config import ConfigError, load
from lewm_ros.observation.images import ENCODINGS
from lewm_ros.robot.action_space import ACTION_DIM, ARM_KINDS

EXAMPLE = "config/rosbag.yaml"
DURATION_S = (1e-6, 1e6)
RANGES = {
    "control_hz": (0.01, 1000.0),
    "image_size": (8, 2048),
    "max_age_s": DURATION_S,
    "gap_s": DURATION_S,
    "min_episode_s": DURATION_S,
    "max_episode_s": DURATION_S,
}


@dataclass(frozen=True)
class RecordingConfig:
    """Topics of a recording and the rate of its rows.

    Args:
        image: sensor_msgs/Image or CompressedImage.
        joint_states: sensor_msgs/JointState.
        joint_names: the seven joints, in the order of the dataset's columns; others are ignored.
        continuous_joints: those of them that turn without end; the others have two ends.
        limit: largest action (7,) per control step, in rad (joint_delta) or m, rad and gripper (ee_delta); a larger
            one is an error.
        command: what moved the arm: trajectory_msgs/JointTrajectory or std_msgs/Float64MultiArray (joint positions), or
            geometry_msgs/TwistStamped (m/s and rad/s in the base frame). Empty: actions are the changes of the measured
            joint positions.
        gripper: std_msgs/Float64, -1 open to +1 closed, beside a TwistStamped; in force until the next one.
        twist_frame: the frame that twists must be stamped with; empty: any.
        action_space: joint_delta or ee_delta.
        control_hz: rows per second.
        image_encoding: of images that say no more than an OpenCV type, such as 8UC3; None: there are none.
        image_size: height and width of the stored frames.
        max_age_s: oldest value that a row may hold.
        gap_s: a longer pause between messages of a topic ends the episode; None: max_age_s.
        jitter_s: a row may hold a frame stamped this much after it, for cameras whose rate is `control_hz`.
        min_episode_s: shorter stretches are left out.
        max_episode_s: longer ones are cut, which bounds the memory that an import needs.
    """

    image: str
    joint_states: str
    joint_names: tuple[str, ...]
    limit: tuple[float, ...]
    continuous_joints: tuple[str, ...] = ()
    command: str = ""
    gripper: str = ""
    twist_frame: str = ""
    action_space: str = "joint_delta"
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
        if len(self.joint_names) != ACTION_DIM or len(set(self.joint_names)) != ACTION_DIM:
            raise ConfigError(f"joint_names: must be {ACTION_DIM} different names, got {', '.join(self.joint_names)}")
        unknown = [name for name in self.continuous_joints if name not in self.joint_names]
        if unknown:
            raise ConfigError(f"continuous_joints: '{unknown[0]}' is none of joint_names")
        if len(self.limit) != ACTION_DIM or min(self.limit) <= 0.0:
            raise ConfigError(f"limit: must be {ACTION_DIM} numbers above 0")
        if self.image_encoding is not None and self.image_encoding not in ENCODINGS:
            raise ConfigError(f"image_encoding: must be one of {', '.join(ENCODINGS)}, got '{self.image_encoding}'")
        if self.action_space not in ARM_KINDS:
            raise ConfigError(f"action_space: must be one of {', '.join(ARM_KINDS)}, got '{self.action_space}'")
        if self.action_space == "ee_delta" and not (self.command and self.gripper):
            raise ConfigError("action_space ee_delta: needs the topics command (TwistStamped) and gripper (Float64)")
        if self.action_space == "joint_delta" and self.gripper:
            raise ConfigError("gripper: joint_delta has no gripper; leave it out or choose action_space ee_delta")
        named = [topic for topic in (self.image, self.joint_states, self.command, self.gripper) if topic]
        if len(set(named)) != len(named):
            raise ConfigError(f"topics: the same one is named twice: {', '.join(named)}")

    def meta(self) -> dict[str, Any]:
        """What the dataset's `meta` says for all its episodes."""
        return {
            "action_space": self.action_space,
            "limit": self.limit,
            "joint_names": self.joint_names,
            "continuous_joints": self.continuous_joints,
            "control_hz": self.control_hz,
        }


def load_config(path: Path | None) -> RecordingConfig:
    """Read the YAML.

    Raises:
        ConfigError: there is none, or it does not fit.
    """
    if path is None:
        raise ConfigError(f"--from rosbag needs --config FILE, which names the topics; {EXAMPLE} is an example")
    return load(RecordingConfig, path)
