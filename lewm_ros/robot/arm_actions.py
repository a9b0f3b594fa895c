"""The action spaces of arms, by the names under which datasets and checkpoints know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lewm_ros.config import ConfigError
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.twist import AXES

GRIPPER = Channel("gripper", "absolute", low=-1.0, high=1.0, rest=None)
"""-1 open, +1 closed."""

TWIST = tuple(zip(AXES, ("m",) * 3 + ("rad",) * 3, strict=True))
"""Motion of the end effector in the base frame: a shift, then a rotation vector."""


def joint_delta(
    joint_names: Sequence[str], limit_rad: Sequence[float], control_hz: float, gripper: bool = False
) -> ActionSpace:
    """Changes of joint positions (rad per control step), and the gripper if there is one."""
    if len(joint_names) != len(limit_rad):
        raise ConfigError(f"limit: must have {len(joint_names)} numbers, one per joint, got {len(limit_rad)}")
    joints = [
        Channel(name, unit="rad", low=-most, high=most) for name, most in zip(joint_names, limit_rad, strict=True)
    ]
    return ActionSpace("joint_delta", (*joints, *([GRIPPER] if gripper else [])), control_hz)


def ee_delta(limit: Sequence[float], control_hz: float) -> ActionSpace:
    """The end effector's twist per control step, in the base frame, and the gripper.

    Args:
        limit: largest shift (3, m) and rotation (3, rad) per control step; one number more is that of the gripper.
        control_hz: actions per second.
    """
    size = len(TWIST)
    if len(limit) not in (size, size + 1):
        raise ConfigError(f"limit: must be {size} numbers of the twist, and one of the gripper; got {len(limit)}")
    twist = [Channel(n, unit=unit, low=-most, high=most) for (n, unit), most in zip(TWIST, limit[:size], strict=True)]
    most = limit[size] if len(limit) > size else GRIPPER.high
    return ActionSpace("ee_delta", (*twist, replace(GRIPPER, low=-most, high=most)), control_hz)


def other(limit: Sequence[float], control_hz: float) -> ActionSpace:
    """Numbers of which only the size is known."""
    channels = tuple(Channel(f"action_{i}", "velocity", low=-most, high=most) for i, most in enumerate(limit))
    return ActionSpace("other", channels, control_hz)


def named_space(name: str, limit: Sequence[float], control_hz: float, joint_names: Sequence[str] = ()) -> ActionSpace:
    """The space that a name and limits stand for; in `joint_delta` a limit more than joints is the gripper's.

    Raises:
        ConfigError: there is no such space, or the limits do not fit it.
    """
    if not limit or min(limit) <= 0.0:
        raise ConfigError("limit: must be numbers above 0")
    if name == "joint_delta":
        gripper = len(limit) == len(joint_names) + 1
        return joint_delta(joint_names, limit[: len(joint_names)] if gripper else limit, control_hz, gripper)
    if name == "ee_delta":
        return ee_delta(limit, control_hz)
    if name == "other":
        return other(limit, control_hz)
    raise ConfigError(f"action_space: '{name}' is unknown; known: joint_delta, ee_delta, other")


def declared_space(
    name: str,
    limit: Sequence[float],
    channels: Sequence[Channel],
    control_hz: float,
    joint_names: Sequence[str] = (),
) -> ActionSpace:
    """The space that a file declares: by a known name and limits, or by channels under a name of one's own.

    Raises:
        ConfigError: both or neither are given, or they do not fit.
    """
    if bool(limit) == bool(channels):
        raise ConfigError("limit: must be given, or `channels` in its place")
    if not channels:
        if name == "joint_delta" and not joint_names:
            raise ConfigError("joint_names: joint_delta needs the joints and their names")
        return named_space(name, limit, control_hz, joint_names)
    if name in ("joint_delta", "ee_delta"):
        raise ConfigError(f"channels: {name} has its own; leave them out or choose another name for action_space")
    return ActionSpace(name, tuple(channels), control_hz)


@dataclass(frozen=True)
class ArmChannels:
    """Where in an action stands what an arm carries out: joints or the axes of a twist, and perhaps a gripper."""

    joints: tuple[int, ...]
    twist: tuple[int, ...]
    gripper: int | None

    @classmethod
    def of(cls, space: ActionSpace) -> ArmChannels:
        """Sorted by name and kind.

        Raises:
            ConfigError: an arm cannot carry such actions out.
        """
        deltas = space.places("delta")
        twist = tuple(place for place in deltas if space.channels[place].name in AXES)
        joints = tuple(place for place in deltas if place not in twist and space.channels[place].unit == "rad")
        gripper = next((i for i in space.places("absolute") if space.channels[i].name == GRIPPER.name), None)
        strange = set(range(space.dim)) - {*joints, *twist, gripper}
        if strange:
            name = space.channels[min(strange)].name
            raise ConfigError(f"no arm carries out channel '{name}' of {space.describe()}")
        if bool(joints) == bool(twist) or len(twist) not in (0, len(AXES)):
            raise ConfigError(f"an arm takes changes of its joints, or a whole twist; there is {space.describe()}")
        return cls(joints, twist, gripper)

    @property
    def moving(self) -> list[int]:
        """Joints, or the axes of a twist."""
        return list(self.joints or self.twist)
