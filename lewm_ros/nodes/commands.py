"""The command interfaces of an arm: actions of control steps in, messages for its controller out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import TwistStamped
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lewm_ros.nodes.conversions import NS_PER_S, matrix_to_image
from lewm_ros.nodes.qos import NEWEST, RELIABLE
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm import ArmSpec

Array = NDArray[np.float64]

ACTION_SPACE_OF = {"joint_trajectory": "joint_delta", "commands": "joint_delta", "twist": "ee_delta"}
"""Which action space each command interface expresses."""


class CommandOutput(Protocol):
    """What the planner node needs of a command interface. Actions are (n, 7), one row per control step."""

    clamps: int

    def begin(self, measured_rad: Array) -> None:
        """Start from the measured joint positions (7,)."""
        ...

    def send(self, due: Array, ahead: Array, measured_rad: Array) -> None:
        """Command the actions that are due, given those scheduled after them and the measured positions (7,)."""
        ...

    def hold(self) -> None:
        """Command rest where the arm was last sent."""
        ...

    def publish_plan(self, header: Header, before: Array, actions: Array) -> None:
        """Show planned actions that begin at the header's stamp, after the actions `before` have been executed."""
        ...


def make_output(interface: str, node: Node, space: ActionSpace, arm: ArmSpec, max_lead_rad: float) -> CommandOutput:
    """The output named by `interface`, one of `ACTION_SPACE_OF`."""
    if interface == "twist":
        return TwistOutput(node, space)
    make = JointTrajectoryOutput if interface == "joint_trajectory" else JointCommandOutput
    return make(node, space, arm, max_lead_rad)


class JointOutput(ABC):
    """Sums joint changes up to a target that stays inside the joint limits and near the measured positions.

    Args:
        node: publishes.
        space: gives joint names and control rate.
        arm: gives the joint limits.
        max_lead_rad: how far the target may be from the measured position of a joint.
    """

    def __init__(self, node: Node, space: ActionSpace, arm: ArmSpec, max_lead_rad: float) -> None:
        self.clamps = 0
        self._arm, self._max_lead_rad = arm, max_lead_rad
        self._joint_names, self._control_hz = list(space.joint_names), space.control_hz
        self._target = arm.home_rad
        self._plan = node.create_publisher(JointTrajectory, "~/plan", RELIABLE)

    def begin(self, measured_rad: Array) -> None:
        self._target = measured_rad

    def send(self, due: Array, ahead: Array, measured_rad: Array) -> None:
        wanted = self._target + due.sum(0)
        near = np.clip(self._arm.clamp(wanted), measured_rad - self._max_lead_rad, measured_rad + self._max_lead_rad)
        self.clamps += int(np.any(near != wanted))
        previous, self._target = self._target, near
        following = self._arm.clamp(near + np.cumsum(ahead, axis=0))
        self._publish(np.vstack([previous, near, following]))

    def hold(self) -> None:
        self._publish(np.vstack([self._target, self._target]))

    def publish_plan(self, header: Header, before: Array, actions: Array) -> None:
        start = self._arm.clamp(self._target + before.sum(0))
        path = np.vstack([start, self._arm.clamp(start + np.cumsum(actions, axis=0))])
        self._plan.publish(self._trajectory(path, header))

    @abstractmethod
    def _publish(self, path: Array) -> None:
        """Send positions (1 + n, 7), a control step apart; the arm was last sent to the first one."""

    def _trajectory(self, path: Array, header: Header) -> JointTrajectory:
        """Positions (1 + n, 7), a control step apart, as a trajectory of n points; the first one is where it starts."""
        velocities = np.zeros_like(path)
        velocities[1:-1] = (path[2:] - path[:-2]) * self._control_hz / 2.0
        points = [
            JointTrajectoryPoint(
                positions=path[index].tolist(),
                velocities=velocities[index].tolist(),
                time_from_start=_duration(index / self._control_hz),
            )
            for index in range(1, len(path))
        ]
        return JointTrajectory(header=header, joint_names=self._joint_names, points=points)


class JointTrajectoryOutput(JointOutput):
    """`joint_trajectory`, for joint_trajectory_controller: the scheduled path ahead, ending at rest."""

    def __init__(self, node: Node, space: ActionSpace, arm: ArmSpec, max_lead_rad: float) -> None:
        super().__init__(node, space, arm, max_lead_rad)
        self._trajectories = node.create_publisher(JointTrajectory, "joint_trajectory", NEWEST)

    def _publish(self, path: Array) -> None:
        # A stamp of zero means: start at once.
        self._trajectories.publish(self._trajectory(path, Header()))


class JointCommandOutput(JointOutput):
    """`commands`, for forward_command_controller: the next joint positions."""

    def __init__(self, node: Node, space: ActionSpace, arm: ArmSpec, max_lead_rad: float) -> None:
        super().__init__(node, space, arm, max_lead_rad)
        self._commands = node.create_publisher(Float64MultiArray, "commands", NEWEST)

    def _publish(self, path: Array) -> None:
        self._commands.publish(Float64MultiArray(data=path[1].tolist()))


class TwistOutput:
    """`twist` (m/s, rad/s, base frame) and `gripper` (-1 open to +1 closed), for MoveIt Servo."""

    def __init__(self, node: Node, space: ActionSpace, frame: str = "panda_link0") -> None:
        self.clamps = 0
        self._node, self._control_hz, self._frame = node, space.control_hz, frame
        self._twist = node.create_publisher(TwistStamped, "twist", NEWEST)
        self._gripper = node.create_publisher(Float64, "gripper", NEWEST)
        self._plan = node.create_publisher(Image, "~/plan", RELIABLE)

    def begin(self, measured_rad: Array) -> None:
        """A twist needs no starting point."""

    def send(self, due: Array, ahead: Array, measured_rad: Array) -> None:
        self._publish(due[-1, :6] * self._control_hz)
        self._gripper.publish(Float64(data=float(due[-1, 6])))

    def hold(self) -> None:
        self._publish(np.zeros(6))

    def publish_plan(self, header: Header, before: Array, actions: Array) -> None:
        self._plan.publish(matrix_to_image(actions.astype(np.float32), header))

    def _publish(self, twist: Array) -> None:
        message = TwistStamped()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._frame
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = twist.tolist()
        self._twist.publish(message)


def _duration(seconds: float) -> Duration:
    time_ns = round(seconds * NS_PER_S)
    return Duration(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)
