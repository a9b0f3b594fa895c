"""Where the end effector of an arm is: forward kinematics of a chain of revolute joints."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError, require
from lewm_ros.robot.urdf import WHERE, joints_of, numbers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Kinematics:
    """A chain of revolute joints, each about the z axis of its frame.

    Args:
        origins: pose (J, 4, 4) of each joint's frame in the one before it, at position 0.
        tool: pose (4, 4) of the end effector in the last joint's frame.

    Raises:
        ConfigError: a number is not finite.
    """

    origins: Array
    tool: Array

    def __post_init__(self) -> None:
        for name in ("origins", "tool"):
            require(bool(np.isfinite(getattr(self, name)).all()), f"kinematics: {name}", "finite")

    def poses(self, positions_rad: Array) -> Array:
        """Poses (..., 4, 4) of the end effector in the base frame at joint positions (..., J)."""
        cosine, sine = np.cos(positions_rad), np.sin(positions_rad)
        # origin @ rotation about z mixes the origin's first two columns.
        links = np.broadcast_to(self.origins, (*cosine.shape, 4, 4)).copy()
        x, y = self.origins[:, :, 0], self.origins[:, :, 1]
        links[..., 0] = cosine[..., np.newaxis] * x + sine[..., np.newaxis] * y
        links[..., 1] = cosine[..., np.newaxis] * y - sine[..., np.newaxis] * x
        pose = links[..., 0, :, :]
        for joint in range(1, links.shape[-3]):
            pose = pose @ links[..., joint, :, :]
        return pose @ self.tool

    def tip_positions_m(self, positions_rad: Array) -> Array:
        """Positions (..., 3) of the end effector in the base frame at joint positions (..., J)."""
        return self.poses(positions_rad)[..., :3, 3]


def franka_kinematics(tool_m: float = 0.1034, tool_yaw_rad: float = -np.pi / 4) -> Kinematics:
    """A Panda or FR3: they differ in their limits, not in their lengths.

    Modified Denavit-Hartenberg parameters (Craig) of the Franka Control Interface documentation,
    https://frankarobotics.github.io/docs/robot_specifications.html

    Args:
        tool_m: distance of the end effector from the flange; by default between the finger tips of the Hand.
        tool_yaw_rad: rotation of the end effector about the flange's z axis; by default that of the Hand.
    """
    a_m = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
    d_m = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
    quarter_turns = (0, -1, 1, 1, -1, 1, 1)
    flange_m = 0.107
    origins = [_modified_dh(a, turns * np.pi / 2, d) for a, turns, d in zip(a_m, quarter_turns, d_m, strict=True)]
    tool = np.eye(4)
    cosine, sine = np.cos(tool_yaw_rad), np.sin(tool_yaw_rad)
    tool[:2, :2] = [[cosine, -sine], [sine, cosine]]
    tool[2, 3] = flange_m + tool_m
    return Kinematics(np.stack(origins), tool)


def kinematics_from_urdf(urdf: str, joint_names: Sequence[str], tip_link: str) -> Kinematics:
    """The chain of the named joints in a robot description, from the link that carries the first one to a tip link.

    Other joints on the way, fixed or not, are taken to be at position 0.

    Raises:
        ConfigError: it is not XML, a number is missing, or the named joints do not lead to the tip link in this order.
    """
    joints = joints_of(urdf)
    above = {_link(joint, "child"): name for name, joint in joints.items()}
    chain, link = [], tip_link
    while link in above and above[link] not in chain:
        chain.append(above[link])
        link = _link(joints[chain[-1]], "parent")
    found = [name for name in reversed(chain) if name in joint_names]
    if not found or found != list(joint_names):
        leading = ", ".join(found) or "none of them"
        raise ConfigError(
            f"{WHERE}: link '{tip_link}' must hang on the joints {', '.join(joint_names)}, in this order; "
            f"on the way to it: {leading}"
        )
    origins, pose = [], np.eye(4)
    for name in chain[chain.index(found[0]) :: -1]:
        pose = pose @ _origin(joints[name], name)
        if name in found:
            axis = joints[name].find("axis")
            direction = [1.0, 0.0, 0.0] if axis is None else numbers(axis, "xyz", 3, name)
            if not any(direction):
                raise ConfigError(f"{WHERE}: joint '{name}': <axis> must not be zero")
            turn = _turn_z_to(direction)
            origins.append(pose @ turn)
            pose = turn.T
    return Kinematics(np.stack(origins), pose)


def _link(joint: ET.Element, role: str) -> str:
    element = joint.find(role)
    return "" if element is None else element.get("link", "")


def _origin(joint: ET.Element, name: str) -> Array:
    """The pose (4, 4) of a URDF joint in its parent link: a shift, then roll, pitch and yaw about fixed axes."""
    pose, origin = np.eye(4), joint.find("origin")
    if origin is not None and origin.get("xyz") is not None:
        pose[:3, 3] = numbers(origin, "xyz", 3, name)
    if origin is not None and origin.get("rpy") is not None:
        (cr, cp, cy), (sr, sp, sy) = (f(numbers(origin, "rpy", 3, name)) for f in (np.cos, np.sin))
        pose[:3, :3] = [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    return pose


def _turn_z_to(axis: Sequence[float]) -> Array:
    """A rotation (4, 4) whose z axis is `axis`."""
    z = np.array(axis) / math.hypot(*axis)  # which neither overflows nor underflows
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x /= np.linalg.norm(x)
    turn = np.eye(4)
    turn[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    return turn


def _modified_dh(a_m: float, alpha_rad: float, d_m: float) -> Array:
    """Rotation about x by alpha, shift along x by a, shift along the new z by d."""
    cosine, sine = np.cos(alpha_rad), np.sin(alpha_rad)
    return np.array(
        [
            [1.0, 0.0, 0.0, a_m],
            [0.0, cosine, -sine, -sine * d_m],
            [0.0, sine, cosine, cosine * d_m],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
