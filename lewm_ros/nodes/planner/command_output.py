"""The command interfaces of an arm: actions of control steps in, filtered messages for its controller out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import TwistStamped
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lewm_ros.config import ConfigError
from lewm_ros.nodes.conversions import matrix_to_image
from lewm_ros.nodes.qos import NEWEST, RELIABLE
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm_actions import ArmChannels
from lewm_ros.robot.differential_ik import DifferentialIK, franka_ik
from lewm_ros.robot.limits import JointLimits
from lewm_ros.robot.safety import SafetyFilter
from lewm_ros.robot.twist import AXES, TwistLimits
from lewm_ros.robot.workspace import Workspace

Array = NDArray[np.float64]

MAX_LAG = 0.1
"""How far the target may run ahead of what the filter lets through: rad for joints, m and rad for the hand."""


class CommandOutput(ABC):
    """Adds actions to a target, and sends what the safety filter makes of it. Actions are (n, dim), one per step.

    Targets and paths are positions of the J joints, or displacements of the hand along and about J = 6 axes. What
    actions hold for the gripper goes out on `gripper`, -1 open to +1 closed, unless they say 'as it is'.

    Args:
        node: publishes.
        interface: the topic of the commands.
        space: of the actions.
        joint_names: what the arm calls its joints.
        dry_run: publish nothing but plans.
        base_frame: of the arm, in which twists are given.

    Attributes:
        command_type, plan_type: messages of the commands and of `~/plan`.
        moves_joints: whether changes of joints can be carried out.

    Raises:
        ConfigError: such actions cannot be carried out.
    """

    command_type: type
    plan_type: type
    moves_joints = True

    def __init__(
        self,
        node: LifecycleNode,
        interface: str,
        space: ActionSpace,
        joint_names: Sequence[str],
        dry_run: bool,
        base_frame: str,
    ) -> None:
        self.topic = node.resolve_topic_name(interface)
        self._node, self._space, self._dry_run, self._base_frame = node, space, dry_run, base_frame
        self._filter: SafetyFilter | None = None
        self._channels = ArmChannels.of(space)
        if self._channels.joints and not self.moves_joints:
            raise ConfigError(
                f"command_interface {interface}: it takes twists, the checkpoint acts in {space.describe()}"
            )
        self._joint_names, self._control_hz = list(joint_names), space.control_hz
        self._send = self._sender(self.command_type, interface)
        self._grip = self._sender(Float64, "gripper") if self._channels.gripper is not None else None
        self._plan = node.create_lifecycle_publisher(self.plan_type, "~/plan", RELIABLE)

    @property
    def needs_ik(self) -> bool:
        """Whether motions of the hand have to become motions of the joints, for an arm whose lengths are known."""
        return False

    @abstractmethod
    def use_limits(
        self, limits: JointLimits, margin_rad: float, max_lead_rad: float, workspace: Workspace | None
    ) -> None:
        """Make the filter; see `SafetyFilter`.

        Raises:
            ConfigError: this interface cannot keep a limit.
        """

    @abstractmethod
    def publish_plan(self, header: Header, before: Array, actions: Array) -> None:
        """Show planned actions that begin at the header's stamp, after the actions `before` have been executed."""

    @abstractmethod
    def _publish(self, path: Array) -> None:
        """Send a path (1 + n, J), a step apart, ending at rest; its first point was sent last."""

    @property
    def counts(self) -> dict[str, int]:
        """How often each rule of the filter has changed a command."""
        return dict(self._filter.counts) if self._filter else {}

    def forget_counts(self) -> None:
        """Count from zero again."""
        if self._filter is not None:
            self._filter.counts.clear()

    def begin(self, measured_rad: Array) -> None:
        """Start from the measured joint positions (J,).

        Raises:
            ValueError: the arm cannot be moved from there.
        """
        self._filter.begin(self._measured(measured_rad))
        self._target = self._filter.aim_rad

    def send(self, due: Array, ahead: Array, measured_rad: Array, scale: float) -> None:
        """Command the actions that are due, given those scheduled after them.

        Args:
            due: since the last call, at least one.
            ahead: scheduled after them; they are sent along, since the next call may come late.
            measured_rad: joint positions (J,).
            scale: of the speed, 0 to 1.
        """
        before = self._filter.position_rad
        wanted = self._after(self._target, scale * due)[-1]
        sent = self._filter.filter(wanted, self._measured(measured_rad), scale)
        aim = self._filter.aim_rad
        self._target = np.clip(wanted, aim - MAX_LAG, aim + MAX_LAG)
        following = self._filter.preview(self._after(self._target, scale * ahead), scale)
        self._publish(np.array([before, sent.position_rad, *(f.position_rad for f in following)]))
        if self._grip is not None and np.isfinite(closed := due[-1, self._channels.gripper]):
            self._grip(Float64(data=float(np.clip(closed, -1.0, 1.0))))

    def brake(self, measured_rad: Array | None) -> bool:
        """Command the next step of a smooth stop; returns whether the arm has been told to stand still."""
        before = self._filter.position_rad
        sent = self._filter.brake(None if measured_rad is None else self._measured(measured_rad))
        following = self._filter.preview(np.empty((0, len(self._target))))
        self._publish(np.array([before, sent.position_rad, *(f.position_rad for f in following)]))
        return self._filter.standing

    def _after(self, start: Array, actions: Array) -> Array:
        """Targets (n, J) after each action, from a target (J,)."""
        return start + np.cumsum(actions[:, self._channels.moving], axis=0)

    def _measured(self, measured_rad: Array) -> Array:
        """What the filter compares its commands with."""
        return measured_rad

    def _sender(self, message: type, topic: str) -> Callable[[Any], None]:
        """What publishes commands, unless this is a dry run."""
        return (
            (lambda _: None) if self._dry_run else self._node.create_lifecycle_publisher(message, topic, NEWEST).publish
        )


class JointOutput(CommandOutput):
    """Joint positions; one of the two interfaces below. Motions of the hand become those of the joints by IK."""

    plan_type = JointTrajectory
    _ik: DifferentialIK | None = None

    @property
    def needs_ik(self) -> bool:
        return bool(self._channels.twist)

    def use_limits(
        self, limits: JointLimits, margin_rad: float, max_lead_rad: float, workspace: Workspace | None
    ) -> None:
        self._ik = franka_ik(limits, self._control_hz) if self.needs_ik else None
        self._low, self._high = np.array(limits.lower_rad), np.array(limits.upper_rad)
        self._filter = SafetyFilter(
            limits, self._control_hz, margin_rad=margin_rad, max_lead_rad=max_lead_rad, workspace=workspace
        )

    def publish_plan(self, header: Header, before: Array, actions: Array) -> None:
        start = [self._target, *self._after(self._target, before)][-1]
        path = np.clip([start, *self._after(start, actions)], self._low, self._high)
        self._plan.publish(self._trajectory(path, header))

    def _after(self, start: Array, actions: Array) -> Array:
        return self._ik.follow(start, actions[:, self._channels.twist]) if self._ik else super()._after(start, actions)

    def _trajectory(self, path: Array, header: Header) -> JointTrajectory:
        """Positions (1 + n, J), a control step apart, as a trajectory of n points; the first one is where it starts."""
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

    command_type = JointTrajectory

    def _publish(self, path: Array) -> None:
        # A stamp of zero means: start at once.
        self._send(self._trajectory(path, Header()))


class JointCommandOutput(JointOutput):
    """`commands`, for forward_command_controller: the next joint positions."""

    command_type = Float64MultiArray

    def _publish(self, path: Array) -> None:
        self._send(Float64MultiArray(data=path[1].tolist()))


class TwistOutput(CommandOutput):
    """`twist` (m/s, rad/s, in the base frame), for MoveIt Servo.

    The filter bounds the twist and its changes; joint limits and collisions are Servo's.
    """

    command_type, plan_type, moves_joints = TwistStamped, Image, False

    def use_limits(
        self, limits: JointLimits, margin_rad: float, max_lead_rad: float, workspace: Workspace | None
    ) -> None:
        if workspace is not None:
            raise ConfigError("command_interface twist: a workspace cannot be kept without joint commands")
        hz = self._space.control_hz
        most = np.maximum(-self._space.low, self._space.high)[list(self._channels.twist)]
        self._filter = TwistLimits(tuple(hz * most)).make_filter(hz)

    def begin(self, measured_rad: Array) -> None:
        self._filter.begin(np.zeros(len(AXES)))
        self._target = self._filter.aim_rad

    def publish_plan(self, header: Header, before: Array, actions: Array) -> None:
        self._plan.publish(matrix_to_image(actions.astype(np.float32), header))

    def _measured(self, measured_rad: Array) -> Array:
        # Twists are relative: what has been asked for is where the hand is taken to be.
        return self._filter.position_rad

    def _publish(self, path: Array) -> None:
        message = TwistStamped()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._base_frame
        linear, angular = message.twist.linear, message.twist.angular
        twist = (path[1] - path[0]) * self._space.control_hz
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = twist.tolist()
        self._send(message)


OUTPUTS = {"joint_trajectory": JointTrajectoryOutput, "commands": JointCommandOutput, "twist": TwistOutput}


def make_output(
    node: LifecycleNode,
    interface: str,
    space: ActionSpace,
    joint_names: Sequence[str],
    dry_run: bool,
    base_frame: str,
) -> CommandOutput:
    """The output named by `interface`, one of `OUTPUTS`; see `CommandOutput`.

    Raises:
        ConfigError: the interface, or any arm, cannot carry such actions out.
    """
    return OUTPUTS[interface](node, interface, space, joint_names, dry_run, base_frame)


def _duration(seconds: float) -> Duration:
    time_ns = round(seconds * NS_PER_S)
    return Duration(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)
