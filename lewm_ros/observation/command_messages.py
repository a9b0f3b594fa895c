"""Command messages to arrays, as the controllers that take them understand them.

A message that its controller does not follow raises Rejected with one line that says why.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.selection import Rejected, Skipped, places
from lewm_ros.observation.stamps import NS_PER_S, Header, stamp_to_ns
from lewm_ros.robot.continuous import follow_turns

Array = NDArray[np.float64]


class NumbersMessage(Protocol):
    """std_msgs/Float64MultiArray."""

    data: Sequence[float] | Array


class NumberMessage(Protocol):
    """std_msgs/Float64."""

    data: float


class TwistMessage(Protocol):
    """geometry_msgs/TwistStamped."""

    header: Header
    twist: Any


class JointTrajectoryMessage(Protocol):
    """trajectory_msgs/JointTrajectory."""

    header: Header
    joint_names: Sequence[str]
    points: Sequence[Any]


def joint_command(message: NumbersMessage, joints: int) -> Array:
    """Commanded joint positions (J,), as forward_command_controller takes them.

    Raises:
        Rejected: there are not J finite numbers.
    """
    return numbers_command(message, joints, "joint positions")


def numbers_command(message: NumbersMessage, size: int, what: str = "numbers") -> Array:
    """Commanded numbers (size,), one per channel of an action space.

    Raises:
        Rejected: they are not so many, or not finite.
    """
    values = np.asarray(message.data, dtype=np.float64)
    if values.shape != (size,) or not np.isfinite(values).all():
        raise Rejected(f"expected {size} finite {what}, got {values.tolist()}")
    return values


def twist_command(message: TwistMessage) -> Array:
    """A twist (6,): m/s, then rad/s.

    Raises:
        Rejected: a number is not finite.
    """
    linear, angular = message.twist.linear, message.twist.angular
    twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    if not np.isfinite(twist).all():
        raise Rejected(f"twist is not finite: {twist.tolist()}")
    return twist


def gripper_command(message: NumberMessage) -> float:
    """A gripper command, by agreement from -1 (open) to +1 (closed).

    Raises:
        Rejected: it is not finite.
    """
    if not np.isfinite(message.data):
        raise Rejected(f"gripper command is {message.data}")
    return message.data


class JointPath:
    """What joint_trajectory_controller follows: cubic splines where velocities are given, straight lines otherwise.

    Args:
        message: begins at its stamp, or on arrival if that is zero; it may name more joints.
        names: of the J joints, in the order of the positions.
        arrival_ns: when the message arrived.
        start_rad: commanded positions (J,) at that time, from which it goes on; None: at rest at the first point.
        start_rad_s: commanded velocities (J,) at that time; None: at rest.
        continuous: which of the joints turn without end and go the shortest way from point to point.

    Raises:
        OtherJoints: none of the joints is named.
        Rejected: a joint is missing, there is no point, a size is wrong or the times do not increase.
    """

    def __init__(
        self,
        message: JointTrajectoryMessage,
        names: Sequence[str],
        arrival_ns: int,
        start_rad: Array | None = None,
        start_rad_s: Array | None = None,
        continuous: Collection[str] = (),
    ) -> None:
        try:
            order = places(message.joint_names, names)
        except Skipped:
            raise
        except ValueError as error:
            raise Rejected(str(error)) from None
        points = message.points
        positions, velocities = [point.positions for point in points], [point.velocities for point in points]
        _require_points(positions, velocities, len(message.joint_names))
        durations_ns = [stamp_to_ns(point.time_from_start) for point in points]
        if any(later <= earlier for earlier, later in pairwise(durations_ns)):
            raise Rejected("time_from_start must increase strictly from point to point")
        start_ns = stamp_to_ns(message.header.stamp) or arrival_ns
        self._times_ns = [arrival_ns, *(start_ns + duration for duration in durations_ns)]
        targets = np.array(positions)[:, order]
        knots = np.vstack([targets[0] if start_rad is None else start_rad, targets])
        self._positions = follow_turns(knots, names, continuous)
        self._velocities: Array | None = None
        if all(len(row) for row in velocities):
            start_rad_s = np.zeros(len(names)) if start_rad_s is None else start_rad_s
            self._velocities = np.vstack([start_rad_s, np.array(velocities)[:, order]])

    @property
    def end_ns(self) -> int:
        """When the last point is reached; after that the path rests there."""
        return self._times_ns[-1]

    def at(self, time_ns: int) -> Array:
        """Commanded positions (J,) at a time; before the arrival, the start."""
        times, time_ns = self._times_ns, max(time_ns, self._times_ns[0])
        after = int(np.searchsorted(times[1:], time_ns, side="right")) + 1
        if after == len(times):
            return self._positions[-1]
        duration_s = (times[after] - times[after - 1]) / NS_PER_S
        u = (time_ns - times[after - 1]) / NS_PER_S / duration_s
        start, end = self._positions[after - 1 : after + 1]
        if self._velocities is None:
            return start + (end - start) * u
        v0, v1 = self._velocities[after - 1 : after + 1] * duration_s
        # Cubic Hermite basis.
        return (
            (2 * u**3 - 3 * u**2 + 1) * start + (u**3 - 2 * u**2 + u) * v0
            + (3 * u**2 - 2 * u**3) * end + (u**3 - u**2) * v1
        )  # fmt: skip


def _require_points(positions: Sequence[Any], velocities: Sequence[Any], joints: int) -> None:
    """Raise Rejected unless there are points, all with finite positions, and velocities or none, of all joints."""
    if not positions or any(len(row) != joints or not np.isfinite(row).all() for row in positions):
        raise Rejected(f"every point needs {joints} finite positions, and there must be one")
    if any(len(row) not in (0, joints) or not np.isfinite(row).all() for row in velocities):
        raise Rejected(f"every point needs {joints} finite velocities or none")
