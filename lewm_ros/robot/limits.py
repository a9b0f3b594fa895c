"""How far and how fast the joints of an arm may move: from a YAML file, or from the robot's own description (URDF)."""

from __future__ import annotations

import contextlib
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lewm_ros.config import ConfigError, check_settings, load
from lewm_ros.robot.urdf import WHERE, joints_of, numbers

ASSETS = Path(__file__).parents[1] / "assets"
SHIPPED = ("panda", "fr3")
URDF_ACCELERATION_RAD_S2 = 2.5
URDF_JERK_RAD_S3 = 250.0
"""What is assumed for a robot description, which has no such limits: a stop from 1 rad/s takes 0.4 s."""

LARGEST = {
    "lower_rad": 4.0 * math.pi,
    "upper_rad": 4.0 * math.pi,
    "velocity_rad_s": 20.0,
    "acceleration_rad_s2": 1e3,
    "jerk_rad_s3": 1e6,
}
"""No arm's joint turns further or faster: limits beyond are degrees, or mean 'unlimited', and would limit nothing."""


@dataclass(frozen=True)
class JointLimits:
    """What every joint may do at most; one number per joint, in the order of `joint_names`.

    `braking_rad_s2` is the deceleration with which a joint must be able to stop before a position limit, for arms
    that want more room there than their acceleration needs; empty: the acceleration.
    """

    joint_names: tuple[str, ...]
    lower_rad: tuple[float, ...]
    upper_rad: tuple[float, ...]
    velocity_rad_s: tuple[float, ...]
    acceleration_rad_s2: tuple[float, ...]
    jerk_rad_s3: tuple[float, ...]
    braking_rad_s2: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        joints = len(self.joint_names)
        if not joints or len(set(self.joint_names)) != joints:
            raise ConfigError("joint_names: must be at least one name, each only once")
        if not self.braking_rad_s2:
            object.__setattr__(self, "braking_rad_s2", self.acceleration_rad_s2)
        check_settings(self)
        for name in (item.name for item in fields(self)):
            values = getattr(self, name)
            if len(values) != joints:
                raise ConfigError(f"{name}: must be {joints} numbers, one per joint, got {len(values)}")
            if name not in ("joint_names", "lower_rad", "upper_rad"):
                self._require(name, [value > 0.0 for value in values], "above 0")
        self._require("upper_rad", _pairs(self.lower_rad, self.upper_rad), "above lower_rad")
        self._require("jerk_rad_s3", _pairs(self.acceleration_rad_s2, self.jerk_rad_s3), "above the acceleration")
        braking = [b <= a for b, a in zip(self.braking_rad_s2, self.acceleration_rad_s2, strict=True)]
        self._require("braking_rad_s2", braking, "at most the acceleration")

    def _require(self, key: str, holds: Sequence[bool], right: str) -> None:
        for joint, (name, good) in enumerate(zip(self.joint_names, holds, strict=True)):
            if not good:
                raise ConfigError(f"{key}: must be {right}, but is {getattr(self, key)[joint]} for joint '{name}'")

    def require_plausible(self) -> None:
        """Raise ConfigError if an arm cannot have such limits; for what comes from outside."""
        for name, largest in LARGEST.items():
            holds = [abs(value) <= largest for value in getattr(self, name)]
            self._require(name, holds, f"within {largest:.4g} (are these degrees?)")

    def ordered(self, joint_names: Sequence[str]) -> JointLimits:
        """The limits of these joints, in this order.

        Raises:
            ConfigError: a joint has no limits here.
        """
        missing = [name for name in joint_names if name not in self.joint_names]
        if missing:
            raise ConfigError(f"no limits for joint '{missing[0]}'; there are limits for {', '.join(self.joint_names)}")
        places = [self.joint_names.index(name) for name in joint_names]
        return replace(
            self, **{item.name: tuple(getattr(self, item.name)[place] for place in places) for item in fields(self)}
        )


def load_limits(name: str | Path) -> JointLimits:
    """The limits in a YAML file; "panda" and "fr3" name the shipped ones.

    Raises:
        ConfigError: the file cannot be read, or a value in it is missing or impossible.
    """
    path = ASSETS / f"limits_{name}.yaml" if name in SHIPPED else Path(name)
    limits = load(JointLimits, path)
    with _named(str(path)):
        limits.require_plausible()
    return limits


def limits_from_urdf(
    urdf: str,
    joint_names: Sequence[str],
    acceleration_rad_s2: float = URDF_ACCELERATION_RAD_S2,
    jerk_rad_s3: float = URDF_JERK_RAD_S3,
) -> JointLimits:
    """The limits of the named joints in a robot description, narrowed by its soft limits if it has some.

    Args:
        urdf: what the topic `robot_description` carries.
        joint_names: the joints, in the order wanted.
        acceleration_rad_s2: for all joints, since URDF has no such limit.
        jerk_rad_s3: for all joints, likewise.

    Raises:
        ConfigError: it is not XML, or one of the joints is missing, not revolute or without limits.
    """
    joints = joints_of(urdf)
    ranges = [_range(joints.get(name), name) for name in joint_names]
    lower, upper, velocity = zip(*ranges, strict=True) if ranges else ((), (), ())
    everywhere = len(ranges)
    with _named(WHERE):
        limits = JointLimits(
            joint_names=tuple(joint_names),
            lower_rad=lower,
            upper_rad=upper,
            velocity_rad_s=velocity,
            acceleration_rad_s2=(acceleration_rad_s2,) * everywhere,
            jerk_rad_s3=(jerk_rad_s3,) * everywhere,
        )
        limits.require_plausible()
    return limits


@contextlib.contextmanager
def _named(source: str) -> Iterator[None]:
    """Name the source of what is wrong."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _range(joint: ET.Element | None, name: str) -> tuple[float, float, float]:
    """Lower and upper position and the velocity of a URDF joint."""
    if joint is None:
        raise ConfigError(f"{WHERE}: joint '{name}' is missing")
    if joint.get("type") != "revolute":
        raise ConfigError(
            f"{WHERE}: joint '{name}' is {joint.get('type')}; only revolute joints have the limits that are needed; "
            "give limits as a YAML file (parameter limits)"
        )
    limit, soft = joint.find("limit"), joint.find("safety_controller")
    if limit is None:
        raise ConfigError(f"{WHERE}: joint '{name}' has no <limit>")
    lower, upper, velocity = (numbers(limit, key, 1, name)[0] for key in ("lower", "upper", "velocity"))
    if soft is not None and soft.get("soft_lower_limit") is not None:
        lower = max(lower, *numbers(soft, "soft_lower_limit", 1, name))
    if soft is not None and soft.get("soft_upper_limit") is not None:
        upper = min(upper, *numbers(soft, "soft_upper_limit", 1, name))
    return lower, upper, velocity


def _pairs(smaller: Sequence[float], larger: Sequence[float]) -> list[bool]:
    return [low < high for low, high in zip(smaller, larger, strict=True)]
