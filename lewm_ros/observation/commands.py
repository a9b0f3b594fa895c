"""Command messages to arrays, as the controllers that take them understand them.

A message that cannot be used raises ValueError with one line that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import NS_PER_S, Header, stamp_to_ns

Array = NDArray[np.float64]


class NumbersMessage(Protocol):
    """std_msgs/Float64MultiArray."""

    data: Sequence[float] | Array


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
        ValueError: there are not J finite numbers.
    """
    positions = np.asarray(message.data, dtype=np.float64)
    if positions.shape != (joints,) or not np.isfinite(positions).all():
        raise ValueError(f"expected {joints} finite joint positions, got {positions.tolist()}")
    return positions


def twist_command(message: TwistMessage) -> Array:
    """A twist (6,): m/s, then rad/s.

    Raises:
        ValueError: a number is not finite.
    """
    linear, angular = message.twist.linear, message.twist.angular
    twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    if not np.isfinite(twist).all():
        raise ValueError(f"twist is not finite: {twist.tolist()}")
    return twist


class JointPath:
    """What joint_trajectory_controller follows: cubic splines where velocities are given, straight lines otherwise.

    Args:
        message: begins at its stamp, or on arrival if that is zero.
        names: of the J joints, in the order of the positions.
        arrival_ns: when the message arrived.
        start_rad: commanded positions (J,) at that time, from which it goes on; None: at rest at the first point.
        start_rad_s: commanded velocities (J,) at that time; None: at rest.

    Raises:
        ValueError: a joint is unknown or missing, a size is wrong or the times do not increase.
    """

    def __init__(
        self,
        message: JointTrajectoryMessage,
        names: Sequence[str],
        arrival_ns: int,
        start_rad: Array | None = None,
        start_rad_s: Array | None = None,
    ) -> None:
        received = list(message.joint_names)
        if sorted(received) != sorted(names):
            raise ValueError(f"expected joints {', '.join(names)}, got {', '.join(received) or 'none'}")
        order = [received.index(name) for name in names]
        rows = [point.positions for point in message.points]
        if not rows or any(len(row) != len(names) or not np.isfinite(row).all() for row in rows):
            raise ValueError(f"every point needs {len(names)} finite positions, and there must be one")
        start_ns = stamp_to_ns(message.header.stamp) or arrival_ns
        durations_ns = [stamp_to_ns(point.time_from_start) for point in message.points]
        if any(later <= earlier for earlier, later in pairwise(durations_ns)):
            raise ValueError("time_from_start must increase strictly from point to point")
        self._times_ns = [arrival_ns, *(start_ns + duration for duration in durations_ns)]
        points = np.array(rows)[:, order]
        self._positions = np.vstack([points[0] if start_rad is None else start_rad, points])
        velocities = [point.velocities for point in message.points]
        self._velocities: Array | None = None
        if all(len(row) == len(names) for row in velocities):
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
