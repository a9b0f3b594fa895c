"""environment_node: an environment whose actions are twists of a hand stands in for a real arm and its cameras.

It is for environments that advance by whole control steps, such as VLA-Arena; sim_node simulates an arm of its own in
finer steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from lewm_ros.config import ConfigError
from lewm_ros.environments import Environment, Score, make_environment
from lewm_ros.environments.environment import Array, check_observation, check_score
from lewm_ros.nodes.diagnostics import Status
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.qos import NEWEST
from lewm_ros.nodes.sim.commands_since import was_published_before
from lewm_ros.nodes.sim.world_outputs import WorldOutputs
from lewm_ros.nodes.subscriptions import Input
from lewm_ros.observation.command_messages import gripper_command, twist_command
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.arm_actions import ArmChannels

TICKS_PER_STEP = 2
"""Of /clock: between two steps of the environment, nodes that follow it can send and be heard."""

TWIST_TIMEOUT_NS = 200_000_000
LEAST_WAIT_S = 2e-4
LOG_PERIOD_S = 5.0


class EnvironmentNode(ManagedNode):
    """Simulated time goes on with the environment's steps: in real time, or slower where the environment is slower.

    Slower, too, where those who command it are: no step begins before there is a command after the step before. The
    other nodes need `use_sim_time`. An environment that is slower than real time leaves them more time to compute per
    step than a real arm would; the diagnostics say how slow it is. Time stands still while there is no problem, and
    while the node is inactive.
    """

    def __init__(self) -> None:
        super().__init__("environment_node")
        declare = self.parameters.declare
        self._task = declare("task", "", "which task to set up, as for `lewm eval --task`")
        self._seed = declare("seed", 0, "of the sequence of problems", low=0, high=2**31 - 1)
        self._cameras = declare("cameras", [""], "names of cameras; '': the task's own")
        self._image_size = declare(
            "image_size", 96, "height and width of a camera frame", unit="pixels", low=16, high=2048
        )
        self._speed = declare("speed", 1.0, "simulated time per wall time, at most", low=0.01, high=100.0, live=True)
        self._lockstep_s = declare(
            "lockstep_s",
            2.0,
            "longest wait of a step for a command after the step before; who sends none is not waited for; 0: never",
            unit="s",
            low=0.0,
            high=60.0,
            live=True,
        )
        self._endless = declare("endless", False, "go on to the next problem when one is over; false: only by ~/reset")
        self.parameters.seal()
        self._environment: Environment | None = None

    # Lifecycle

    def configure(self) -> None:
        cameras = tuple(filter(None, self._cameras()))
        self._environment = environment = make_environment(
            self._task(), image_size=self._image_size(), **({"cameras": cameras} if cameras else {})
        )
        space = environment.action_space
        self._channels = ArmChannels.of(space)
        if not self._channels.twist:
            raise ConfigError(f"task '{environment.name}' acts in {space.describe()}; here actions must be twists")
        self._step_ns = round(NS_PER_S / space.control_hz)
        self._problems, self._index, self._score = environment.problems(self._seed()), -1, Score(0.0, "", False)
        self._forget_commands(0)
        self.diagnostics.hardware_id = environment.name

        self._outputs = WorldOutputs(self, environment.cameras)
        self._inputs = {"twist": Input[Array]("twist"), "gripper": Input[float]("gripper")}
        self.create_subscription(TwistStamped, "twist", self._on_twist, NEWEST)
        self.create_subscription(Float64, "gripper", self._on_gripper, NEWEST)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._ticks = self._steps = 0
        self._origin_ns, self._due_s, self._step_s = time.time_ns(), 0.0, 0.0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(1.0 / space.control_hz, self._tick, clock=steady, autostart=False)

    def activate(self) -> None:
        if self._endless() and self._index < 0:
            self._begin()
        self._due_s = time.monotonic()
        self._timer.reset()

    def deactivate(self) -> None:
        self._timer.cancel()

    def cleanup(self) -> None:
        if self._environment is not None:
            self._environment.close()
        self._environment = None

    @property
    def time_ns(self) -> int:
        """Simulated time."""
        return self._origin_ns + self._ticks * self._step_ns // TICKS_PER_STEP

    # Steps

    def _tick(self) -> None:
        if self.state != "active":
            return  # The timer was ready when it was cancelled.
        tick_s = self._step_ns / NS_PER_S / TICKS_PER_STEP / self._speed()
        if self._index >= 0 and not self._awaits_command():
            self._ticks += 1
            if self._ticks % TICKS_PER_STEP == 0:
                self._advance()
            self._outputs.show_time(self.time_ns)
        # What cannot be kept up with is not caught up: time slips.
        self._due_s = max(self._due_s + tick_s, time.monotonic())
        self._timer.timer_period_ns = round(max(self._due_s - time.monotonic(), LEAST_WAIT_S) * NS_PER_S)
        self._timer.reset()

    def _awaits_command(self) -> bool:
        """Whether the next tick is a step, and who has commanded the one before has not yet commanded this one."""
        if (self._ticks + 1) % TICKS_PER_STEP or not self._commanded:
            return False
        return not self._answered and time.monotonic() - self._stepped_s < self._lockstep_s()

    def _advance(self) -> None:
        """A step, and what has come of it."""
        if self._endless() and (self._score.over or self._steps >= self._environment.budget_steps):
            self._begin()
            return
        started_s = time.monotonic()
        self._commanded, self._answered = self._answered, False
        self._environment.step(self._action())
        self._steps += 1
        self._show()
        self._stepped_s = time.monotonic()
        self._step_s = self._stepped_s - started_s

    def _action(self) -> Array:
        """What the newest commands ask for; without any, rest."""
        environment, space = self._environment, self._environment.action_space
        action = space.rest()
        if self._twist is not None and self.time_ns - self._twist_ns <= TWIST_TIMEOUT_NS:
            action[list(self._channels.twist)] = self._twist / space.control_hz
        if self._channels.gripper is not None and self._gripper is not None:
            action[self._channels.gripper] = self._gripper
        return environment.action_space.clip(action)

    def _show(self) -> None:
        environment, outputs, now_ns = self._environment, self._outputs, self.time_ns
        observation, labels = check_observation(environment, environment.observe()), environment.labels()
        self._score = check_score(environment, environment.score())
        outputs.show_time(now_ns)
        joints = {
            name: float(value)
            for vector, names in environment.vectors.items()
            for name, value in zip(names, observation.vectors[vector], strict=True)
        }
        outputs.show_joints(joints, {}, now_ns)
        if "ee_position" in labels and "ee_quaternion" in labels:
            outputs.show_hand(labels["ee_position"], labels["ee_quaternion"], now_ns)
        outputs.show_score(self._score)
        outputs.show_frames(observation.frames, now_ns)

    # Commands

    def _forget_commands(self, not_before_ns: int) -> None:
        """Rest, and ignore commands published before a wall time."""
        self._twist: Array | None = None
        self._twist_ns, self._not_before_ns = 0, not_before_ns
        self._gripper: float | None = None
        self._commanded = self._answered = False
        self._stepped_s = 0.0

    def _on_twist(self, message: TwistStamped, info: dict[str, Any]) -> None:
        if self._is_sound("twist", info, lambda: twist_command(message)):
            self._twist, self._twist_ns = self._inputs["twist"].value, self.time_ns
            self._answered = True

    def _on_gripper(self, message: Float64, info: dict[str, Any]) -> None:
        if self._is_sound("gripper", info, lambda: gripper_command(message)):
            self._gripper = self._inputs["gripper"].value

    def _is_sound(self, name: str, info: dict[str, Any], parse: Callable[[], Any]) -> bool:
        """Whether a command is to be followed: it is sound, and was not published before the last reset."""
        if was_published_before(info, self._not_before_ns):
            return False
        source = self._inputs[name]
        source.arrived(self.time_ns)
        if source.read(parse) is None:
            self.get_logger().error(f"{name}: {source.error}", throttle_duration_sec=LOG_PERIOD_S)
        return not source.error

    # Problems

    def _begin(self) -> None:
        """Go to the start of the next problem and show its goal."""
        problem = next(self._problems)
        self._environment.reset(problem)
        self._index, self._steps = self._index + 1, 0
        self._forget_commands(time.time_ns())
        self._outputs.show_goal_frames(self._environment.goals()[-1].frames, self.time_ns)
        self._show()

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin the next problem."""
        if self.state != "active":
            response.message = f"refused: the node is {self.state}"
            return response
        self._begin()
        response.success = True
        response.message = json.dumps(
            {
                "index": self._index,
                "start_distance_m": round(self._score.value, 4),
                "goal_stamp_ns": self.time_ns,
                "budget_s": self._environment.budget_steps * self._step_ns / NS_PER_S,
            }
        )
        return response

    # Diagnostics

    def status(self) -> Status:
        errors = [source.error for source in self._inputs.values() if source.error]
        if errors:
            return Status.error("; ".join(errors))
        if self._step_s > self._step_ns / NS_PER_S:
            return Status.warn("slower than real time; the other nodes need use_sim_time")
        return Status.ok("simulating" if self._index >= 0 else "waiting for ~/reset")

    def values(self) -> dict[str, Any]:
        values = {"task": self._environment.name, "problem": self._index, "time_s": self.time_ns / NS_PER_S}
        values |= {"step_s": f"{self._step_s:.3f}"}
        if self._index >= 0:
            score = self._score
            values |= {"distance": f"{score.value:.4f} {score.unit}", "solved": score.success} | dict(score.stages)
        for source in self._inputs.values():
            values |= source.report(self.time_ns)
        return values
