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
from lewm_ros.robot.interpolation import MotionPoint, motion_along, polynomial_between

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
    """What joint_trajectory_controller follows from the arrival of a message on.

    If the first point is still ahead, that is a segment from the state on arrival to it; then those between the points,
    of which the ones that have passed count for nothing. A segment is quintic if both ends have accelerations, cubic if
    both have velocities, else straight. After the last point it rests there. (So does ros2_controllers, Jazzy, with
    `interpolate_from_desired_state`; see trajectory.cpp.)

    Args:
        message: begins at its stamp, or on arrival if that is zero; it may name more joints.
        names: of the J joints, in the order of the positions.
        arrival_ns: when the message arrived.
        start: commanded positions, velocities and accelerations (3, J) at that time, from which it goes on; None: at
            rest at the first point.
        continuous: which of the joints turn without end and go the shortest way from point to point.

    Raises:
        OtherJoints: none of the joints is named.
        Rejected: a joint is missing, there is no point, a size is wrong, the times do not increase, or it is over.
    """

    def __init__(
        self,
        message: JointTrajectoryMessage,
        names: Sequence[str],
        arrival_ns: int,
        start: Array | None = None,
        continuous: Collection[str] = (),
    ) -> None:
        try:
            order = places(message.joint_names, names)
        except Skipped:
            raise
        except ValueError as error:
            raise Rejected(str(error)) from None
        _require_points(message.points, len(message.joint_names))
        durations_ns = [stamp_to_ns(point.time_from_start) for point in message.points]
        if any(later <= earlier for earlier, later in pairwise(durations_ns)):
            raise Rejected("time_from_start must increase strictly from point to point")
        start_ns = stamp_to_ns(message.header.stamp) or arrival_ns
        times_ns = [start_ns + duration_ns for duration_ns in durations_ns]
        if times_ns[-1] < arrival_ns:
            raise Rejected(f"the trajectory ended {(arrival_ns - times_ns[-1]) / NS_PER_S:.3f} s before it came")
        positions = np.array([point.positions for point in message.points])[:, order]
        still = np.zeros(len(names))
        before = MotionPoint(*start) if start is not None else MotionPoint(positions[0], still, still)
        turned = follow_turns(np.vstack([before.position_rad, positions]), names, continuous)
        points = [
            MotionPoint(position, _of_joints(point.velocities, order), _of_joints(point.accelerations, order))
            for position, point in zip(turned[1:], message.points, strict=True)
        ]
        if times_ns[0] > arrival_ns:
            times_ns, points = [arrival_ns, *times_ns], [before, *points]
        self._arrival_ns, self._times_ns, self._points = arrival_ns, times_ns, points

    @property
    def end_ns(self) -> int:
        """When the last point is reached; after that the path rests there."""
        return self._times_ns[-1]

    def at(self, time_ns: int) -> Array:
        """Commanded positions (J,) at a time; before the arrival, the start."""
        return self.motion([time_ns])[0, 0]

    def state(self, time_ns: int) -> Array:
        """Commanded positions, velocities and accelerations (3, J) at a time."""
        return self.motion([time_ns])[:3, 0]

    def motion(self, times_ns: Sequence[int]) -> Array:
        """Commanded positions, velocities, accelerations and jerks (4, m, J) at times (m,) that do not decrease."""
        times = np.maximum(np.asarray(times_ns, dtype=np.int64), self._arrival_ns)
        segments = np.maximum(np.searchsorted(self._times_ns, times, side="right") - 1, 0)
        parts = []
        for segment in np.unique(segments):
            since_s = (times[segments == segment] - self._times_ns[segment]) / NS_PER_S
            parts.append(motion_along(self._polynomial(segment), since_s))
        return np.concatenate(parts, axis=1)

    def _polynomial(self, segment: int) -> Array:
        """From a point to the next one; after the last one, where that is."""
        if segment == len(self._points) - 1:
            last = MotionPoint(self._points[-1].position_rad)
            return polynomial_between(last, last, 1.0)
        duration_ns = self._times_ns[segment + 1] - self._times_ns[segment]
        return polynomial_between(*self._points[segment : segment + 2], duration_ns / NS_PER_S)


def _of_joints(values: Sequence[float] | Array, order: Sequence[int]) -> Array | None:
    """The values of the joints, if there are any."""
    return np.asarray(values, dtype=np.float64)[order] if len(values) else None


def _require_points(points: Sequence[Any], joints: int) -> None:
    """Raise Rejected unless there are points, all with finite positions, and velocities and so on or none, of all."""
    positions = [point.positions for point in points]
    if not positions or any(len(row) != joints or not np.isfinite(row).all() for row in positions):
        raise Rejected(f"every point needs {joints} finite positions, and there must be one")
    for what in ("velocities", "accelerations"):
        rows = [getattr(point, what) for point in points]
        if any(len(row) not in (0, joints) or not np.isfinite(row).all() for row in rows):
            raise Rejected(f"every point needs {joints} finite {what} or none")
