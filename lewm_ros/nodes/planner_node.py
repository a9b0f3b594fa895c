"""planner_node: embeddings and joint states in, commands of an arm out, in a closed loop."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from lewm_ros.config import ConfigError
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint
from lewm_ros.nodes.diagnostics import Status
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.planner.command_output import make_output
from lewm_ros.nodes.planner.driver import Driver
from lewm_ros.nodes.planner.latency import LatencyTrace
from lewm_ros.nodes.planner.markers import PlanMarkers
from lewm_ros.nodes.planner.motion import Motion
from lewm_ros.nodes.planner.planner_inputs import Embedding, PlannerInputs
from lewm_ros.nodes.planner.planning_thread import PlanningThread
from lewm_ros.nodes.planner.settings import FROM_DESCRIPTION, PlannerSettings
from lewm_ros.nodes.planner.watchdogs import FollowWatch, GripperWatch, JointGuard
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME
from lewm_ros.robot.arm_actions import ArmChannels
from lewm_ros.robot.kinematics import Kinematics, franka_kinematics, kinematics_from_urdf
from lewm_ros.robot.limits import SHIPPED, JointLimits, limits_from_urdf, load_limits
from lewm_ros.robot.workspace import Workspace


class PlannerNode(ManagedNode):
    """Drives an arm towards a goal image; see `Driver` for when it moves and when it stops."""

    def __init__(self) -> None:
        super().__init__("planner_node")
        self._settings = PlannerSettings(self.parameters)
        self.parameters.seal()
        self._planning: PlanningThread | None = None

    # Lifecycle

    def configure(self) -> None:
        settings, interface = self._settings, self._settings.command_interface()
        device = settings.device()
        checkpoint = load_checkpoint(settings.checkpoint(), device)
        names = tuple(filter(None, settings.joint_names()))
        checkpoint = with_joint_names(checkpoint, names)
        limits = None if settings.limits() == FROM_DESCRIPTION else load_limits(settings.limits())
        self._joint_names = joint_names_of(checkpoint, names or (limits.joint_names if limits else ()))
        trace_file = settings.trace_file()
        if trace_file and not os.access(Path(trace_file).absolute().parent, os.W_OK):
            raise ConfigError(f"parameter trace_file: the folder of {trace_file} cannot be written to")
        self.diagnostics.hardware_id = checkpoint.identity
        self._space = checkpoint.action_space
        self._trace, self._guard = LatencyTrace(), JointGuard(None)
        self._output = make_output(
            self, interface, self._space, self._joint_names, settings.dry_run(), settings.base_frame()
        )
        self._markers = PlanMarkers(self, self._space, settings.base_frame(), settings.show_paths)
        if limits is None:
            if self._output.needs_ik:
                raise ConfigError(
                    f"parameter limits: to turn ee_delta into {interface} they must be of a known arm "
                    f"({' or '.join(SHIPPED)}, or a YAML file for its joints), not {FROM_DESCRIPTION}"
                )
            self.create_subscription(String, FROM_DESCRIPTION, self._on_description, LATCHED)
        else:
            self._use_limits(limits.ordered(self._joint_names))
        self._planning = PlanningThread(
            self,
            checkpoint,
            self._joint_names,
            settings,
            self._output,
            self._markers,
            self._trace,
            lambda: self._inputs.goal.value,
        )
        self._inputs = PlannerInputs(
            self,
            checkpoint,
            self._joint_names,
            self._guard,
            settings.max_input_age_s,
            settings.max_goal_strangeness,
            settings.frozen_frames(),
            self._trace,
            self._on_embedding,
        )
        self._motion = Motion(self._output, self._planning.timeline, settings.ramp_s, settings.lookahead_steps())
        self._driver = Driver(
            self,
            self._space.control_hz,
            self._inputs,
            self._motion,
            self._output,
            self._planning,
            FollowWatch(self._joint_names),
            GripperWatch(self._inputs.finger),
            self._trace,
        )
        # Reliable or not, latched or not: whatever an e-stop is published with, one of the two hears it.
        self.create_subscription(Bool, "~/estop", self._on_estop, LATCHED)
        self.create_subscription(Bool, "~/estop", self._on_estop, NEWEST_FRAME)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/reset", self._on_reset)

    def activate(self) -> None:
        self._driver.start()
        if self._settings.enable_on_activate():
            self._driver.enable()

    def deactivate(self) -> None:
        self._driver.halt()

    def cleanup(self) -> None:
        if self._planning is None:
            return
        self._planning.close()
        self._planning = None
        summary = self._trace.summary()
        if summary:
            self.get_logger().info(f"seconds from image on: {json.dumps(summary)}")
        if self._settings.trace_file():
            self._trace.save(Path(self._settings.trace_file()))

    # Limits

    def _on_description(self, message: String) -> None:
        """Take the limits from the first robot description that has them."""
        if self._guard.limits is not None:
            return
        try:
            self._use_limits(limits_from_urdf(message.data, self._joint_names), message.data)
        except ConfigError as error:
            self.get_logger().error(str(error))

    def _use_limits(self, limits: JointLimits, urdf: str = "") -> None:
        margin_rad, max_lead_rad = self._settings.limit_margin_rad(), self._settings.max_lead_rad()
        self._output.use_limits(limits, margin_rad, max_lead_rad, self._workspace(urdf))
        self._guard.limits = limits
        try:
            self._markers.kinematics = self._kinematics(urdf)
        except ConfigError as error:
            self.get_logger().info(f"no ~/paths: {error}")

    def _workspace(self, urdf: str) -> Workspace | None:
        """The box for the end effector, if one is wanted."""
        settings = self._settings
        low, high = tuple(settings.workspace_low_m()), tuple(settings.workspace_high_m())
        if all(low_m == -inf and high_m == inf for low_m, high_m in zip(low, high, strict=True)):
            return None
        return Workspace(self._kinematics(urdf), low, high)

    def _kinematics(self, urdf: str) -> Kinematics:
        """Where the end effector is, by the robot description if there is one."""
        if urdf:
            return kinematics_from_urdf(urdf, self._joint_names, self._settings.tip_link())
        if self._settings.limits() in SHIPPED:
            return franka_kinematics()
        raise ConfigError(f"a workspace or ~/paths needs limits from {' or '.join(SHIPPED)} or {FROM_DESCRIPTION}")

    # Inputs and services

    def _on_embedding(self, stamp_ns: int, embedding: Embedding | None) -> None:
        if self.state == "active":
            self._driver.on_embedding(stamp_ns, embedding)

    def _on_estop(self, message: Bool) -> None:
        self._driver.emergency_stop(message.data)
        self.diagnostics.refresh()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if not request.data:
            response.success, response.message = True, self._stop()
            return response
        problem = self._driver.problem() if self.state == "active" else f"the node is {self.state}"
        if problem:
            response.message = f"refused: {problem}"
        elif self._driver.state.enabled:
            response.success, response.message = True, "was enabled already"
        else:
            self._forget_figures()
            self._planning.begin_goals_anew()
            self._driver.enable()
            response.success, response.message = True, "the loop closes at the next frame"
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, self._stop()
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._driver.restart()
        self._planning.begin_goals_anew()
        self._forget_figures()
        response.success = True
        response.message = "history, schedule and figures forgotten; " + (
            "the loop closes again at the next frame" if self._driver.state.enabled else "not enabled"
        )
        return response

    def _stop(self) -> str:
        was_enabled = self._driver.state.enabled
        self._driver.disable("")
        self.diagnostics.refresh()
        return "stopped; the arm holds its position" if was_enabled else "was not enabled"

    # Diagnostics

    def _forget_figures(self) -> None:
        self._motion.forget_figures()
        self._planning.forget_figures()

    def status(self) -> Status:
        driver, problem = self._driver, self._driver.problem()
        if driver.stopped:
            return Status.error(f"stopped: {driver.stopped}")
        if self._inputs.unsound or (driver.state.enabled and problem):
            return Status.error(problem)
        if not driver.state.enabled:
            return Status.ok(f"idle: {problem or 'ready to be enabled'}")
        warning = self._planning.warning()
        if self.count_publishers(self._output.topic) > 1:
            warning = f"another node publishes on {self._output.topic} too"
        return Status.warn(f"{driver.state.value}: {warning}") if warning else Status.ok(driver.state.value)

    def values(self) -> dict[str, Any]:
        figures = {"state": self._driver.state.value, "cycles": self._motion.cycles}
        figures |= {"missed_cycles": self._motion.missed_cycles, "speed_scale": f"{self._motion.scale:.2f}"}
        changed = self._output.counts
        figures |= {"clamps": sum(changed.values())} | {f"changed_{rule}": count for rule, count in changed.items()}
        now_ns = self.get_clock().now().nanoseconds
        return figures | self._planning.report() | self._inputs.report(now_ns)


def with_joint_names(checkpoint: Checkpoint, names: Sequence[str]) -> Checkpoint:
    """The checkpoint for an arm that has other names for the same joints; unchanged without names, or for twists.

    Raises:
        ConfigError: there are not as many names as joints, or no arm carries out the checkpoint's actions.
    """
    space = checkpoint.action_space
    own = [space.channels[place].name for place in ArmChannels.of(space).joints]
    if not names or not own:
        return checkpoint
    if len(names) != len(own):
        raise ConfigError(f"parameter joint_names: must be {len(own)} names, for {', '.join(own)}")
    return replace(checkpoint, action_space=space.renamed(dict(zip(own, names, strict=True))))


def joint_names_of(checkpoint: Checkpoint, known: Sequence[str]) -> tuple[str, ...]:
    """The joints that the checkpoint moves; of one that moves the hand, those that are known otherwise.

    Raises:
        ConfigError: nothing names them.
    """
    space = checkpoint.action_space
    names = tuple(space.channels[place].name for place in ArmChannels.of(space).joints) or tuple(known)
    if not names:
        raise ConfigError("parameter joint_names: must name the joints, since neither checkpoint nor limits do")
    return names
