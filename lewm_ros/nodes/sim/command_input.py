"""The simulated arm's controllers: where the newest command wants the joints to be."""

from __future__ import annotations

from typing import Protocol

from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.environments.panda import SimArm
from lewm_ros.observation.command_messages import JointPath, joint_command, twist_command
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
    """What joint_trajectory_controller does; arguments and errors as in `JointPath`."""

    def __init__(self, message: JointTrajectory, time_ns: int, start_rad: Array, start_rad_s: Array) -> None:
        self._path = JointPath(message, PANDA.joint_names, time_ns, start_rad, start_rad_s)

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        return self._path.at(time_ns)


class Twist:
    """What MoveIt Servo does: follows a twist in the base frame until it is old."""

    def __init__(self, message: TwistStamped, time_ns: int) -> None:
        self._twist = twist_command(message)
        self._until_ns = time_ns + TWIST_TIMEOUT_NS

    def target_rad(self, arm: SimArm, time_ns: int) -> Array:
        if time_ns > self._until_ns:
            return arm.target_rad
        return arm.solve_twist(self._twist / arm.control_hz)
