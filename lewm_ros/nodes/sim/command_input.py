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


class Hold:
    """Stays at joint positions (7,)."""

    def __init__(self, positions_rad: Array) -> None:
        self._positions_rad = positions_rad

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        return self._positions_rad

    @classmethod
    def from_message(cls, message: Float64MultiArray) -> Hold:
        """What forward_command_controller does; errors as in `joint_command`."""
        return cls(joint_command(message, len(PANDA.joint_names)))


class Trajectory:
    """What joint_trajectory_controller does; see `JointPath`.

    Args:
        message: what it is to follow.
        time_ns: when that arrived.
        before: the command that was followed until then; where it is no trajectory, the arm is held.
        held_rad: joint positions (7,) that were commanded last.

    Raises:
        OtherJoints, Rejected: as in `JointPath`; Rejected, too, if it does not end at rest.
    """

    def __init__(self, message: JointTrajectory, time_ns: int, before: Command, held_rad: Array) -> None:
        still = np.zeros_like(held_rad)
        start = before.path.state(time_ns) if isinstance(before, Trajectory) else np.array([held_rad, still, still])
        self.path = JointPath(message, PANDA.joint_names, time_ns, start)
        if any(message.points[-1].velocities):
            raise Rejected("the velocities of the last point must be zero")

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        return self.path.at(time_ns)


class Twist:
    """What MoveIt Servo does: follows a twist in the base frame until it is old."""

    def __init__(self, message: TwistStamped, time_ns: int) -> None:
        self._twist = twist_command(message)
        self._until_ns = time_ns + TWIST_TIMEOUT_NS

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        if time_ns > self._until_ns:
            return arm.target_rad
        return arm.solve_twist(self._twist / arm.control_hz)
