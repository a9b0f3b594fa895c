"""sim_node: a simulated arm that stands in for a real one, its controllers and its cameras."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.config import ConfigError
from lewm_ros.environments.panda import Disturbance, PandaEnvironment
from lewm_ros.environments.panda.actions import gripper_opening_m
from lewm_ros.environments.panda.environment import CAMERAS
from lewm_ros.environments.panda.problem import PandaProblem
from lewm_ros.environments.panda.tasks import TASKS
from lewm_ros.nodes.diagnostics import Status
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.qos import NEWEST, RELIABLE
from lewm_ros.nodes.sim.command_input import Command, Hold, Trajectory, Twist
from lewm_ros.nodes.sim.commands_since import was_published_before
from lewm_ros.nodes.sim.outputs import SimOutputs
from lewm_ros.nodes.subscriptions import Input
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.arm import PANDA

MAX_TICKS_AT_ONCE = 2
"""When behind: time goes at most twice as fast, which the other nodes can follow."""
MAX_BEHIND_S = 0.5
"""More than this is not caught up."""
LEAST_WAIT_S = 2e-4
LOG_PERIOD_S = 5.0


class SimNode(ManagedNode):
    """Simulates in real time: time starts at the wall clock's and goes on with physics, in ticks.

    While the machine keeps up, stamps fit the wall clock and /clock alike. If it falls behind too far, or while the
    node is inactive, simulated time slips; then only nodes with `use_sim_time` still find the stamps fresh.
    """

    def __init__(self) -> None:
        super().__init__("sim_node")
        declare = self.parameters.declare
        self._task_name = declare("task", "reach", "which task to set up", choices=tuple(TASKS))
        self._seed = declare("seed", 0, "of the sequence of problems", low=0, high=2**31 - 1)
        self._cameras = declare("cameras", [""], f"names of cameras: {', '.join(CAMERAS)}; '': the task's own")
        self._image_size = declare(
            "image_size", 96, "height and width of a camera frame", unit="pixels", low=16, high=2048
        )
        self._tick_rate_hz = declare(
            "tick_hz", 40.0, "rate of /clock, joint states and commands", unit="Hz", low=1.0, high=400.0
        )
        self._image_hz = declare(
            "image_hz", 20.0, "rate of the cameras; divides tick_hz", unit="Hz", low=0.1, high=400.0
        )
        self._goal_period_s = declare(
            "goal_period_s", 0.0, "time between goals; 0: a new one only by ~/reset", unit="s", low=0.0, high=3600.0
        )
        self._camera_offset_m = declare(
            "camera_offset_m", [0.0] * 3, "x, y, z by which every camera is off its place", unit="m", size=3, live=True
        )
        self._camera_turn_rad = declare(
            "camera_turn_rad",
            [0.0] * 3,
            "rotation vector by which every camera is turned",
            unit="rad",
            size=3,
            live=True,
        )
        self._obstacle_position_m = declare(
            "obstacle_position_m",
            list(Disturbance.obstacle_position_m),
            "x, y, z of a box that the cameras see; none if z is negative",
            unit="m",
            size=3,
            live=True,
        )
        self._brightness = declare("brightness", 1.0, "factor on all light", low=0.0, high=10.0, live=True)
        self.parameters.seal()
        self._environment: PandaEnvironment | None = None

    # Lifecycle

    def configure(self) -> None:
        tick_hz = self._tick_rate_hz()
        self._environment = PandaEnvironment(
            self._task_name(), tuple(filter(None, self._cameras())), self._image_size(), control_hz=tick_hz
        )
        self._arm = self._environment.arm
        self._ticks_per_image = ticks_per_image(tick_hz, self._image_hz())
        self._goal_period_ticks = round(self._goal_period_s() * tick_hz)
        self._tick_hz, self._tick_ns = tick_hz, round(NS_PER_S / tick_hz)
        self._problems = self._environment.problems(self._seed())
        self._index = -1
        self._hold(not_before_ns=0)
        self.diagnostics.hardware_id = f"MuJoCo {self._environment.name}"
        self._arm.frames()  # the first ones are slow

        self._outputs = SimOutputs(self, self._arm.cameras)
        self._inputs = {name: Input[Command](name) for name in ("joint_trajectory", "commands", "twist", "gripper")}
        self.create_subscription(JointTrajectory, "joint_trajectory", self._on_trajectory, RELIABLE)
        self.create_subscription(Float64MultiArray, "commands", self._on_commands, NEWEST)
        self.create_subscription(TwistStamped, "twist", self._on_twist, NEWEST)
        self.create_subscription(Float64, "gripper", self._on_gripper, NEWEST)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._ticks, self._origin_ns, self._started_s, self._slipped_s = 0, time.time_ns(), time.monotonic(), 0.0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(1.0 / tick_hz, self._catch_up, clock=steady, autostart=False)

    def activate(self) -> None:
        if self._ticks:
            self._slipped_s += self._behind_s()
        else:
            self._origin_ns, self._started_s = time.time_ns(), time.monotonic()
        if self._index < 0 and self._goal_period_ticks:
            self._show_next_goal()
        self._timer.reset()

    def deactivate(self) -> None:
        self._timer.cancel()
        self._hold(not_before_ns=0)

    def cleanup(self) -> None:
        if self._environment is not None:
            self._environment.close()
        self._environment = None

    @property
    def time_ns(self) -> int:
        """Simulated time."""
        return self._origin_ns + self._ticks * self._tick_ns

    # Physics

    def _behind_s(self) -> float:
        return time.monotonic() - self._started_s - self._slipped_s - self._ticks / self._tick_hz

    def _catch_up(self) -> None:
        if self.state != "active":
            return  # The timer was ready when it was cancelled.
        behind_s = self._behind_s()
        self._slipped_s += max(behind_s - MAX_BEHIND_S, 0.0)
        for _ in range(min(int(behind_s * self._tick_hz), MAX_TICKS_AT_ONCE)):
            self._tick()
        # Wake when the next tick is due, not a period after this one: a frame is not to be older than it must.
        due_s = 1.0 / self._tick_hz - self._behind_s()
        self._timer.timer_period_ns = round(max(due_s, LEAST_WAIT_S) * NS_PER_S)
        self._timer.reset()

    def _tick(self) -> None:
        target_rad = self._command.target_rad(self._arm, self.time_ns + self._tick_ns)
        self._arm.step(target_rad, self._gripper_m)
        self._environment.look()
        self._ticks += 1
        if self._goal_period_ticks and self._ticks % self._goal_period_ticks == 0:
            self._show_next_goal()
        self._publish_state()

    def _hold(self, not_before_ns: int) -> None:
        """Stay, and ignore commands published before a wall time."""
        self._command: Command = Hold(self._arm.target_rad)
        self._gripper_m: float | None = None
        self._not_before_ns = not_before_ns

    # Commands

    def _on_trajectory(self, message: JointTrajectory, info: dict[str, Any]) -> None:
        if self._inputs["joint_trajectory"].concerns(message.joint_names, PANDA.joint_names):
            self._take("joint_trajectory", info, lambda: self._follow(message))

    def _follow(self, message: JointTrajectory) -> Command:
        return Trajectory(message, self.time_ns, self._command.state(self._arm, self.time_ns))

    def _on_commands(self, message: Float64MultiArray, info: dict[str, Any]) -> None:
        self._take("commands", info, lambda: Hold.from_message(message))

    def _on_twist(self, message: TwistStamped, info: dict[str, Any]) -> None:
        self._take("twist", info, lambda: Twist(message, self.time_ns))

    def _on_gripper(self, message: Float64, info: dict[str, Any]) -> None:
        if not was_published_before(info, self._not_before_ns) and np.isfinite(message.data):
            self._inputs["gripper"].arrived(self.time_ns)
            self._gripper_m = gripper_opening_m(np.clip(message.data, -1.0, 1.0))

    def _take(self, name: str, info: dict[str, Any], parse: Callable[[], Command]) -> None:
        """Follow a command unless it is unsound or was published before the last reset."""
        if was_published_before(info, self._not_before_ns):
            return
        source = self._inputs[name]
        source.arrived(self.time_ns)
        command = source.read(parse)
        if command is None:
            self.get_logger().error(f"{name}: {source.error}", throttle_duration_sec=LOG_PERIOD_S)
        else:
            self._command = command

    # Problems

    def _next_problem(self) -> PandaProblem:
        self._index += 1
        return next(self._problems)

    def _show_next_goal(self) -> None:
        """Have the arm go on to the next goal from where it is."""
        self._environment.pursue(self._next_problem())
        self._outputs.show_goal(self._environment, self.time_ns)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Go to the start of the next problem and show its goal."""
        if self.state != "active":
            response.message = f"refused: the node is {self.state}"
            return response
        self._environment.reset(self._next_problem())
        self._hold(not_before_ns=time.time_ns())
        self._outputs.show_goal(self._environment, self.time_ns)
        response.success = True
        response.message = json.dumps(
            {
                "index": self._index,
                "start_distance_m": round(self._environment.score().value, 4),
                "goal_stamp_ns": self.time_ns,
                "budget_s": self._environment.budget_steps / self._tick_hz,
            }
        )
        return response

    def _publish_state(self) -> None:
        self._outputs.show_state(self._arm, self.time_ns)
        if self._index >= 0:
            self._outputs.show_score(self._environment.score())
        if self._ticks % self._ticks_per_image == 0:
            self._arm.disturbance = Disturbance(
                tuple(self._camera_offset_m()),
                tuple(self._camera_turn_rad()),
                tuple(self._obstacle_position_m()),
                self._brightness(),
            )
            self._outputs.show_views(self._arm, self.time_ns)

    # Diagnostics

    def status(self) -> Status:
        errors = [source.error for source in self._inputs.values() if source.error]
        if errors:
            return Status.error("; ".join(errors))
        if self._slipped_s > 0.0:
            return Status.warn("simulated time is behind the wall clock; set use_sim_time on the other nodes")
        return Status.ok("simulating")

    def values(self) -> dict[str, Any]:
        values = {
            "task": self._environment.name,
            "problem": self._index,
            "time_s": self.time_ns / NS_PER_S,
            "slipped_s": f"{self._slipped_s:.2f}",
        }
        if self._index >= 0:
            score = self._environment.score()
            values |= {"distance_m": f"{score.value:.4f}", "solved": score.success} | dict(score.stages)
        for source in self._inputs.values():
            values |= source.report(self.time_ns)
        return values


def ticks_per_image(tick_hz: float, image_hz: float) -> int:
    """How many ticks one frame takes.

    Raises:
        ConfigError: it is not a whole number.
    """
    ticks = round(tick_hz / image_hz)
    if not ticks or not math.isclose(ticks * image_hz, tick_hz, rel_tol=1e-6):
        raise ConfigError(f"parameter image_hz: must divide tick_hz {tick_hz:g}, got {image_hz:g}")
    return ticks
