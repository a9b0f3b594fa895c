"""The simulated arm's controllers: where the newest command wants the joints to be."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import numpy as np
from geometry_msgs.msg import TwistStamped
from numpy.typing import NDArray
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.conversions import NS_PER_S, stamp_to_ns
from lewm_ros.robot.arm import PANDA
from lewm_ros.sim import SimArm

Array = NDArray[np.float64]

JOINTS = len(PANDA.joint_names)
TWIST_TIMEOUT_NS = 200_000_000


class Command(Protocol):
    """What a controller does with its newest command."""

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        """Joint positions (7,) to command so that the arm gets there at `time_ns`."""
        ...


class Hold:
    """Stays at joint positions (7,)."""

    def __init__(self, positions_rad: Array) -> None:
        self._positions_rad = positions_rad

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        return self._positions_rad

    @classmethod
    def from_message(cls, message: Float64MultiArray) -> Hold:
        """What forward_command_controller does.

        Raises:
            ValueError: there are not seven finite numbers.
        """
        positions = np.asarray(message.data, dtype=np.float64)
        if positions.shape != (JOINTS,) or not np.isfinite(positions).all():
            raise ValueError(f"commands: expected {JOINTS} finite joint positions, got {positions.tolist()}")
        return cls(positions)


class Trajectory:
    """What joint_trajectory_controller does: cubic splines where velocities are given, straight lines otherwise.

    Args:
        message: begins at its stamp, or on arrival if that is zero.
        time_ns: when it arrived.
        start_rad: commanded positions (7,) at that time, from which it goes on.
        start_rad_s: commanded velocities (7,) at that time.

    Raises:
        ValueError: a joint is unknown or missing, a size is wrong or the times do not increase.
    """

    def __init__(self, message: JointTrajectory, time_ns: int, start_rad: Array, start_rad_s: Array) -> None:
        names = list(message.joint_names)
        if sorted(names) != sorted(PANDA.joint_names):
            raise ValueError(
                f"joint_trajectory: expected joints {', '.join(PANDA.joint_names)}, got {', '.join(names)}"
            )
        order = [names.index(name) for name in PANDA.joint_names]
        rows = [point.positions for point in message.points]
        if not rows or any(len(row) != JOINTS or not np.isfinite(row).all() for row in rows):
            raise ValueError(f"joint_trajectory: every point needs {JOINTS} finite positions, and there must be one")
        start_ns = stamp_to_ns(message.header.stamp) or time_ns
        durations_ns = [p.time_from_start.sec * NS_PER_S + p.time_from_start.nanosec for p in message.points]
        self._times_ns = [time_ns, *(start_ns + duration for duration in durations_ns)]
        if any(later <= earlier for earlier, later in pairwise(durations_ns)):
            raise ValueError("joint_trajectory: time_from_start must increase strictly from point to point")
        self._positions = np.vstack([start_rad, np.array(rows)[:, order]])
        velocities = [point.velocities for point in message.points]
        self._velocities: Array | None = None
        if all(len(row) == JOINTS for row in velocities):
            self._velocities = np.vstack([start_rad_s, np.array(velocities)[:, order]])

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        times = self._times_ns
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


class Twist:
    """What MoveIt Servo does: follows a twist in the base frame until it is old."""

    def __init__(self, message: TwistStamped, time_ns: int) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        self._twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        if not np.isfinite(self._twist).all():
            raise ValueError("twist: not finite")
        self._until_ns = time_ns + TWIST_TIMEOUT_NS

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        if time_ns > self._until_ns:
            return arm.target_rad
        return arm.solve_twist(self._twist / arm.control_hz)
