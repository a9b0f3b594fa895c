"""The simulated arm's controllers: where the newest command wants the joints to be."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.environments.panda import SimArm
from lewm_ros.observation.command_messages import JointPath, joint_command, twist_command
from lewm_ros.observation.selection import Rejected
from lewm_ros.robot.arm import PANDA, Array

TWIST_TIMEOUT_NS = 200_000_000


class Command(Protocol):
    """What a controller does with its newest command."""

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        """Joint positions (7,) to command so that the arm gets there at `time_ns`."""
        ...

    def state(self, arm: SimArm, time_ns: int) -> Array:
        """Commanded positions, velocities and accelerations (3, 7) at a time, from which another command goes on."""
        ...


class Hold:
    """Stays at joint positions (7,)."""

    def __init__(self, positions_rad: Array) -> None:
        self._positions_rad = positions_rad

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        return self._positions_rad

    def state(self, arm: SimArm, time_ns: int) -> Array:
        return at_rest(arm)

    @classmethod
    def from_message(cls, message: Float64MultiArray) -> Hold:
        """What forward_command_controller does; errors as in `joint_command`."""
        return cls(joint_command(message, len(PANDA.joint_names)))


class Trajectory:
    """What joint_trajectory_controller does; see `JointPath`.

    Args:
        message: what it is to follow.
        time_ns: when that arrived.
        start: commanded positions, velocities and accelerations (3, 7) at that time.

    Raises:
        OtherJoints, Rejected: as in `JointPath`; Rejected, too, if it does not end at rest.
    """

    def __init__(self, message: JointTrajectory, time_ns: int, start: Array) -> None:
        self._path = JointPath(message, PANDA.joint_names, time_ns, start)
        if any(message.points[-1].velocities):
            raise Rejected("the velocities of the last point must be zero")

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        return self._path.at(time_ns)

    def state(self, arm: SimArm, time_ns: int) -> Array:
        return self._path.state(time_ns)


class Twist:
    """What MoveIt Servo does: follows a twist in the base frame until it is old."""

    def __init__(self, message: TwistStamped, time_ns: int) -> None:
        self._twist = twist_command(message)
        self._until_ns = time_ns + TWIST_TIMEOUT_NS

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        if time_ns > self._until_ns:
            return arm.target_rad
        return arm.solve_twist(self._twist / arm.control_hz)

    def state(self, arm: SimArm, time_ns: int) -> Array:
        return at_rest(arm)


def at_rest(arm: SimArm) -> Array:
    """The state (3, 7) of an arm that is held where it was commanded to be."""
    still = np.zeros(len(PANDA.joint_names))
    return np.array([arm.target_rad, still, still])
