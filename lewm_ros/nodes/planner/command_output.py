"""The command interfaces of an arm: actions of control steps in, filtered messages for its controller out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
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
from lewm_ros.nodes.conversions import matrix_to_image, ns_to_stamp
from lewm_ros.nodes.qos import NEWEST, RELIABLE
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm_actions import ArmChannels
from lewm_ros.robot.command_curve import KNOTS_BEFORE, CommandCurve
from lewm_ros.robot.differential_ik import DifferentialIK, franka_ik
from lewm_ros.robot.limits import JointLimits
from lewm_ros.robot.safety import SafetyFilter
from lewm_ros.robot.spline import SHAPED_BEFORE, rest_to_rest_s
from lewm_ros.robot.twist import AXES, TwistLimits
from lewm_ros.robot.workspace import Workspace

Array = NDArray[np.float64]

MAX_LAG = 0.1
"""How far the target may run ahead of what the filter lets through: rad for joints, m and rad for the hand."""

TRANSIT_NS, TRANSIT_SHARE = 8_000_000, 6
"""What a message may take to the controller, on a busy machine; at most one of so many parts of a control step."""

START_OFFSET_RAD = 0.005
"""How far from the measured position a controller may hold the arm, if nothing is known of it."""


class CommandOutput(ABC):
    """Adds actions to a target, and sends what the safety filter makes of it. Actions are (n, dim), one per step.

    Targets and paths are positions of the J joints, or displacements of the hand along and about J = 6 axes. What
    actions hold for the gripper goes out on `gripper`, -1 open to +1 closed, unless they say 'as it is'; a gripper acts
    at once, so that it is told `lead_steps` after the arm.

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
        lead_steps: control steps by which a command has to come before its own step begins.
        commanded_grip: what the gripper was told last, -1 open to +1 closed; None if it was told nothing.
        in_time: whether the newest command could be sent in time.

    Raises:
        ConfigError: such actions cannot be carried out.
    """

    command_type: type
    plan_type: type
    moves_joints = True
    lead_steps = 0

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
        self._clock_jumped = False
        self.in_time = True
        self.commanded_grip: float | None = None
        self._grips: deque[tuple[int, float]] = deque()
        self._channels = ArmChannels.of(space)
        if self._channels.joints and not self.moves_joints:
            raise ConfigError(
                f"command_interface {interface}: it takes twists, the checkpoint acts in {space.describe()}"
            )
        self._joint_names, self._control_hz = list(joint_names), space.control_hz
        self._control_ns = round(NS_PER_S / space.control_hz)
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
    def _publish(self, step_ns: int, before: Array, targets: Array, scale: float) -> None:
        """Send the filter's newest command.

        Args:
            step_ns: when its control step begins.
            before: the command (J,) before it.
            targets: of the control steps after it (n, J).
            scale: of the speed.
        """

    @property
    def counts(self) -> dict[str, int]:
        """How often each rule of the filter has changed a command."""
        return dict(self._filter.counts) if self._filter else {}

    @property
    def commanded_rad(self) -> Array | None:
        """The newest joint positions (J,) that an arm was told to go to; None if none was told such."""
        return None

    def clock_jumped(self) -> None:
        """Note that times of steps, past and to come, are no longer those of the controller's clock."""
        self._clock_jumped = True

    def forget_counts(self) -> None:
        """Count from zero again."""
        if self._filter is not None:
            self._filter.counts.clear()

    def latest_ns(self, step_ns: int) -> int:
        """When the command of the control step that begins at `step_ns` must have been sent; later, `skip` the step."""
        return step_ns + self._control_ns

    def begin(self, measured_rad: Array) -> None:
        """Start from the measured joint positions (J,).

        Raises:
            ValueError: the arm cannot be moved from there.
        """
        self._grips.clear()
        self._filter.begin(self._measured(measured_rad))
        self._target = self._filter.aim_rad
        self._executed = self._space.rest()

    def send(self, step_ns: int, action: Array, ahead: Array, measured_rad: Array, scale: float) -> Array:
        """Command the action of one control step, given those scheduled after it.

        Args:
            step_ns: when the step begins. Steps follow one another; they are sent at most `lead_steps` + 2 steps before
                it, until `latest_ns`, and skipped after that.
            action: (dim,).
            ahead: (n, dim), scheduled after it; where the interface can, they are sent along, unless the arm lags.
            measured_rad: joint positions (J,).
            scale: of the speed, 0 to 1.

        Returns:
            the action (dim,) that is carried out.
        """
        before = self._filter.position_rad
        wanted = self._after(self._target, scale * action[np.newaxis])[-1]
        filtered = self._filter.filter(wanted, self._measured(measured_rad), scale)
        if "lead" in filtered.interventions:
            ahead = ahead[:0]  # they would lead on without regard to where the arm is
        aim = self._filter.aim_rad
        self._target = np.clip(wanted, aim - MAX_LAG, aim + MAX_LAG)
        self.in_time = True
        self._publish(step_ns, before, self._after(self._target, scale * ahead), scale)
        grip = np.nan if self._channels.gripper is None else action[self._channels.gripper]
        if np.isfinite(grip):
            self._grips.append((step_ns, float(np.clip(grip, -1.0, 1.0))))
        self._tell_gripper(step_ns - self.lead_steps * self._control_ns)
        return self._carried_out(before, np.clip(grip, -1.0, 1.0))

    @abstractmethod
    def skip(self, step_ns: int) -> Array:
        """Note that nothing was sent in time for a control step; returns the action (dim,) that is carried out."""

    def brake(self, step_ns: int, measured_rad: Array | None) -> bool:
        """Command the next step of a smooth stop; returns whether the arm has been told to stand still.

        Args:
            step_ns: when the step begins.
            measured_rad: joint positions (J,); None if they are not known.
        """
        before = self._filter.position_rad
        self._filter.brake(None if measured_rad is None else self._measured(measured_rad))
        self._publish(step_ns, before, np.empty((0, len(self._target))), scale=1.0)
        return self._filter.standing

    def _tell_gripper(self, step_ns: int) -> None:
        """Tell the gripper what it was to do by the control step that begins at `step_ns`."""
        while self._grips and self._grips[0][0] <= step_ns:
            _, grip = self._grips.popleft()
            if not self._dry_run:
                self.commanded_grip = grip
                self._grip(Float64(data=grip))

    def _carried_out(self, before: Array, grip: float) -> Array:
        """The action (dim,) that led from a command (J,) to the newest one, and moved the gripper, NaN: as it is."""
        action = self._space.rest(self._executed)
        action[self._channels.moving] = self._motion(before, self._filter.position_rad)
        if np.isfinite(grip):
            action[self._channels.gripper] = grip
        self._executed = action
        return action

    def _motion(self, start: Array, end: Array) -> Array:
        """What the moving channels are between two commands (J,)."""
        return end - start

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

    @property
    def commanded_rad(self) -> Array | None:
        return None if self._dry_run or self._filter is None else self._filter.position_rad

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
        path = np.clip(self._after(start, actions), self._low, self._high)
        points = [JointTrajectoryPoint(positions=positions.tolist()) for positions in path]
        self._plan.publish(self._trajectory(header, points, first=1))

    def _after(self, start: Array, actions: Array) -> Array:
        return self._ik.follow(start, actions[:, self._channels.twist]) if self._ik else super()._after(start, actions)

    def _motion(self, start: Array, end: Array) -> Array:
        return self._ik.motion(start, end) if self._ik else super()._motion(start, end)

    def _trajectory(self, header: Header, points: Sequence[JointTrajectoryPoint], first: int = 0) -> JointTrajectory:
        """Points that are a control step apart, the first of them so many steps after the header's stamp."""
        for index, point in enumerate(points, first):
            point.time_from_start = _duration(index * self._control_ns)
        return JointTrajectory(header=header, joint_names=self._joint_names, points=points)


class JointTrajectoryOutput(JointOutput):
    """`joint_trajectory`, for joint_trajectory_controller: one curve, which every message prolongs and none bends back.

    Commands are control points of a spline; see `lewm_ros.robot.spline`. The command of the control step from knot s to
    knot s + 1 is control point s + 1, which shapes the curve from knot s - 1 on, so it must arrive before that. Its
    message begins at knot s - 3, which has passed: a controller that finds the first point in its past takes the
    segment that it is in from the message, which is the one that it is in already. (If all points were still ahead, it
    would go to the first one from where it is, by default as measured, and leave the curve.) The message goes on
    through the schedule to a standstill, so that the arm stops if no other comes.

    Beginning is the exception: the controller holds some position, perhaps not quite the measured one, so the first
    point is the measured one, far enough ahead to be reached smoothly.
    """

    command_type = JointTrajectory
    lead_steps = SHAPED_BEFORE - 1
    _curve: CommandCurve | None = None
    _end_ns = 0

    def latest_ns(self, step_ns: int) -> int:
        return step_ns - self.lead_steps * self._control_ns - min(TRANSIT_NS, self._control_ns // TRANSIT_SHARE)

    def use_limits(
        self, limits: JointLimits, margin_rad: float, max_lead_rad: float, workspace: Workspace | None
    ) -> None:
        super().use_limits(limits, margin_rad, max_lead_rad, workspace)
        self._limits = limits

    def begin(self, measured_rad: Array) -> None:
        super().begin(measured_rad)
        start = self._filter.position_rad
        distance = np.full_like(start, START_OFFSET_RAD)
        if self._curve is not None:
            distance = np.maximum(distance, np.abs(start - self._curve.end_rad))
        self._curve = CommandCurve(self._filter, self._control_ns / NS_PER_S)
        self._settling_steps = math.ceil(rest_to_rest_s(distance, self._limits) * self._control_hz) + 1
        self._start_ns: int | None = None
        if self._clock_jumped:
            self._clock_jumped, self._end_ns = False, 0

    def send(self, step_ns: int, action: Array, ahead: Array, measured_rad: Array, scale: float) -> Array:
        self.in_time = not self._is_late(step_ns)
        if not self.in_time or self._ends_before():
            return self.skip(step_ns)
        if not self._settles(step_ns):
            return super().send(step_ns, action, ahead, measured_rad, scale)
        arrives_ns = self._start_ns - self._control_ns
        if self.latest_ns(step_ns) + self._control_ns < arrives_ns:
            still = [0.0] * len(self._joint_names)
            start = JointTrajectoryPoint(
                positions=list(self._filter.position_rad), velocities=still, accelerations=still
            )
            self._send(self._trajectory(_header(arrives_ns), [start]))
        return self._space.rest(self._executed)

    def skip(self, step_ns: int) -> Array:
        before = self._filter.position_rad
        self._curve.go_on()
        self._target = self._filter.aim_rad
        return self._carried_out(before, np.nan)

    def brake(self, step_ns: int, measured_rad: Array | None) -> bool:
        if self._is_late(step_ns):
            self.skip(step_ns)
            return self._curve.standing
        if self._start_ns is None or self._settles(step_ns):
            return True
        super().brake(step_ns, measured_rad)
        return self._curve.standing

    def _is_late(self, step_ns: int) -> bool:
        """Whether the controller may have passed what the step's command shapes: a message would make it jump."""
        # After a jump of the clock nothing would fit what was sent before, which ends at a standstill.
        return self._clock_jumped or self._node.get_clock().now().nanoseconds > self.latest_ns(step_ns)

    def _ends_before(self) -> bool:
        """Whether the controller still follows what was sent before the beginning."""
        return self._start_ns is None and self._node.get_clock().now().nanoseconds < self._end_ns

    def _settles(self, step_ns: int) -> bool:
        """Whether the step's command would shape the curve before it begins.

        That is a step after the arm is at its start, since the controller is a step before what a message shapes.
        """
        shaped_ns = step_ns - self.lead_steps * self._control_ns
        if self._start_ns is None:
            self._start_ns = shaped_ns + self._settling_steps * self._control_ns
        return shaped_ns < self._start_ns

    def _publish(self, step_ns: int, before: Array, targets: Array, scale: float) -> None:
        self._curve.append()
        knots = self._curve.foresee(targets, scale)
        rows = zip(knots.positions_rad, knots.velocities_rad_s, knots.accelerations_rad_s2, strict=True)
        points = [
            JointTrajectoryPoint(positions=p.tolist(), velocities=v.tolist(), accelerations=a.tolist())
            for p, v, a in rows
        ]
        first_ns = step_ns - (self.lead_steps + KNOTS_BEFORE) * self._control_ns
        message = self._trajectory(_header(first_ns), points)
        if self._is_late(step_ns):  # since all this takes a while, and others may have kept the processor meanwhile
            self._curve.take_back()
            self._target = self._filter.aim_rad
            self.in_time = False
            return
        self._end_ns = first_ns + (len(points) - 1) * self._control_ns
        self._send(message)


class JointCommandOutput(JointOutput):
    """`commands`, for forward_command_controller: the next joint positions, which it holds until others come."""

    command_type = Float64MultiArray

    def skip(self, step_ns: int) -> Array:
        return self._carried_out(self._filter.position_rad, np.nan)

    def _publish(self, step_ns: int, before: Array, targets: Array, scale: float) -> None:
        self._send(Float64MultiArray(data=self._filter.position_rad.tolist()))


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
        self._grips.clear()
        self._filter.begin(np.zeros(len(AXES)))
        self._target = self._filter.aim_rad
        self._executed = self._space.rest()

    def publish_plan(self, header: Header, before: Array, actions: Array) -> None:
        self._plan.publish(matrix_to_image(actions.astype(np.float32), header))

    def _measured(self, measured_rad: Array) -> Array:
        # Twists are relative: what has been asked for is where the hand is taken to be.
        return self._filter.position_rad

    def skip(self, step_ns: int) -> Array:
        # Servo goes on with a twist, for a time.
        return self._space.rest(self._executed) if self._filter.standing else self._executed

    def _publish(self, step_ns: int, before: Array, targets: Array, scale: float) -> None:
        message = TwistStamped()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._base_frame
        linear, angular = message.twist.linear, message.twist.angular
        twist = (self._filter.position_rad - before) * self._control_hz
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


def _header(stamp_ns: int) -> Header:
    return Header(stamp=ns_to_stamp(stamp_ns))


def _duration(time_ns: int) -> Duration:
    return Duration(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)
