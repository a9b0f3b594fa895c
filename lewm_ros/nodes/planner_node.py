"""planner_node: embeddings and joint states in, 7-DoF commands out, in a closed loop."""

from __future__ import annotations

import sys
import time
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import Float64, Header
from std_srvs.srv import SetBool, Trigger

from lewm_ros.config import ConfigError, PlannerConfig
from lewm_ros.model.checkpoint import CheckpointError, load_checkpoint
from lewm_ros.nodes.commands import ACTION_SPACE_OF, make_output
from lewm_ros.nodes.control_loop import ControlLoop
from lewm_ros.nodes.conversions import ns_to_stamp
from lewm_ros.nodes.diagnostics import Diagnostics, Report, percentiles
from lewm_ros.nodes.inference import Worker, declare_device
from lewm_ros.nodes.parameters import Parameters
from lewm_ros.nodes.planner_inputs import PlannerInputs, Vector
from lewm_ros.nodes.qos import RELIABLE
from lewm_ros.nodes.runner import run
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.planning.planner import Decision
from lewm_ros.robot.arm import PANDA

Observation = tuple[ControlLoop, Vector, Vector, NDArray[np.float64]]
"""The loop that it belongs to, the embeddings (D,) of the frame and the goal, and the measured joint positions (7,)."""

MIN_TIMER_NS = 1_000_000


class PlannerNode(Node):
    """Drives the arm towards the goal image while enabled and while every input is sound and fresh.

    The loop closes at the first frame taken after `~/enable`. If an input fails, it opens: the arm is told to hold and
    nothing more is sent; it closes again, from the measured positions, as soon as all inputs are sound.
    """

    def __init__(self) -> None:
        super().__init__("planner_node")
        parameters = Parameters(self)
        path = parameters.declare("checkpoint", "default", "'default' or the path of a checkpoint's NAME.json")
        self._device = declare_device(parameters)
        interface = parameters.declare(
            "command_interface", "joint_trajectory", "how the arm is commanded", choices=tuple(ACTION_SPACE_OF)
        )
        max_age_s = parameters.declare(
            "max_input_age_s", 0.5, "oldest usable input, s, by its stamp", low=0.01, high=60.0
        )
        max_lead_rad = parameters.declare(
            "max_lead_rad",
            0.3,
            "largest distance of a joint's target from its measured position, rad",
            low=0.01,
            high=3.0,
        )
        self._lookahead = parameters.declare(
            "lookahead_steps", 5, "scheduled control steps sent beyond the next one", low=0, high=100
        )
        self._enabled = parameters.declare("autostart", False, "enabled from the start")
        self._seed = parameters.declare("seed", 0, "of the search", low=0, high=2**31 - 1)
        self._config = parameters.declare_config("planner", PlannerConfig)
        parameters.refuse_unknown()

        self._checkpoint = load_checkpoint(path, self._device)
        self._checkpoint.require_action_space(ACTION_SPACE_OF[interface])
        self._space = self._checkpoint.action_space
        if self._space.joint_names != PANDA.joint_names:
            raise CheckpointError(
                f"checkpoint {path}: it moves joints {', '.join(self._space.joint_names) or 'without names'}, "
                f"but limits are known only of {', '.join(PANDA.joint_names)}"
            )
        self._warm_up()
        self._output = make_output(interface, self, self._space, PANDA, max_lead_rad)

        self._enabled_ns = 0
        self._loop: ControlLoop | None = None
        self._forget_figures()

        self._cost = self.create_publisher(Float64, "~/plan_cost", RELIABLE)
        self._surprise = self.create_publisher(Float64, "~/surprise", RELIABLE)
        self._worker: Worker[int, Observation] = Worker(self._plan, self.context.try_shutdown)
        self._inputs = PlannerInputs(self, self._checkpoint, max_age_s, self._on_embedding)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._timer = self.create_timer(1.0 / self._space.control_hz, self._step)
        self._timer.cancel()
        self._diagnostics = Diagnostics(self, self._checkpoint.identity, self._report)

    def destroy_node(self) -> None:
        self._open("the node ends")
        self._worker.close()
        super().destroy_node()

    # The loop

    def _on_embedding(self, stamp_ns: int, embedding: Vector | None) -> None:
        """Close the loop at a new frame, if it may be closed, and plan from the frame, if a block begins there."""
        if self._loop is not None and stamp_ns < self._loop.t0_ns:
            self._enabled = False
            self._open("time went back; enable again")
        if self._enabled and self._loop is None:
            self._close(stamp_ns)
        goal, joints = self._inputs.goal.value, self._inputs.joints.value
        if self._loop is None or embedding is None or goal is None or joints is None:
            return
        block = self._loop.observed_boundary(stamp_ns)
        if block is not None:
            self._worker.put(block, (self._loop, embedding, goal, joints))

    def _close(self, t0_ns: int) -> None:
        """Close the loop at a frame, if the frame and the joint states are newer than the request and all is sound."""
        now_ns = self._now_ns()
        if self._inputs.problem(now_ns) or min(t0_ns, self._inputs.joints.stamp_ns) < self._enabled_ns:
            return
        self._output.begin(self._inputs.joints.value)
        self._loop = ControlLoop(self._make_planner(), t0_ns, now_ns)
        self._arm_timer(self._loop, now_ns)

    def _open(self, reason: str) -> None:
        """End the motion, if there is any, and say why."""
        if self._loop is None:
            return
        self._timer.cancel()
        self._output.hold()
        self._cycles += self._loop.cycles
        self._missed_cycles += self._loop.missed_cycles
        self._loop = None
        self.get_logger().info(f"holding: {reason}")
        self._diagnostics.publish()

    def _step(self) -> None:
        """Send the commands that are due."""
        now_ns = self._now_ns()
        problem = self._inputs.problem(now_ns)
        if problem:
            self._open(problem)
            return
        due = self._loop.due(now_ns)
        if len(due):
            self._output.send(due, self._loop.ahead(self._lookahead), self._inputs.joints.value)
        self._arm_timer(self._loop, self._now_ns())

    def _arm_timer(self, loop: ControlLoop, now_ns: int) -> None:
        """Wake at the start of the next control step, so that commands keep the phase of the frames."""
        self._timer.timer_period_ns = max(loop.next_step_ns() - now_ns, MIN_TIMER_NS)
        self._timer.reset()

    def _plan(self, pending: dict[int, Observation]) -> None:
        """Observe every pending boundary and decide at the newest; runs in the inference thread."""
        loop = self._loop
        started_s = time.monotonic()
        current = sorted(block for block, (of, *_) in pending.items() if of is loop)
        if loop is None or not current:
            return
        for block in current:
            _, embedding, goal, joints = pending[block]
            surprise = loop.planner.observe(block, torch.from_numpy(embedding))
        decision = loop.planner.decide(block, torch.from_numpy(goal), joints)
        executing = loop.block_at(self._now_ns())
        loop.planner.adopt(decision, executing + 1)
        self._latencies_s.append(time.monotonic() - started_s)
        self._late_plans += executing >= decision.block
        self._show(loop, decision, surprise)

    def _show(self, loop: ControlLoop, decision: Decision, surprise: float | None) -> None:
        header = Header(stamp=ns_to_stamp(loop.t0_ns + decision.block * loop.block_ns))
        self._output.publish_plan(header, loop.until(decision.block), decision.actions.reshape(-1, 7))
        self._cost.publish(Float64(data=decision.cost))
        if surprise is not None:
            self._surprise.publish(Float64(data=surprise))

    def _make_planner(self) -> RecedingHorizonPlanner:
        model = self._checkpoint.model
        try:
            return RecedingHorizonPlanner(
                model,
                self._config,
                self._space,
                model.config.history,
                self._device,
                self._seed,
                self._checkpoint.proposal,
            )
        except ValueError as error:
            raise ConfigError(f"parameters planner: {error}") from None

    def _warm_up(self) -> None:
        """Plan once, so that the first plan of a loop is as fast as the others."""
        planner, nothing = self._make_planner(), torch.zeros(self._checkpoint.model.config.embedding_dim)
        planner.observe(0, nothing)
        planner.decide(0, nothing)

    # Services

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if not request.data:
            response.success, response.message = True, self._disable()
            return response
        problem = self._inputs.problem(self._now_ns())
        if problem:
            response.message = f"refused: {problem}"
        elif self._enabled:
            response.success, response.message = True, "was enabled already"
        else:
            self._enabled, self._enabled_ns = True, self._now_ns()
            self._forget_figures()
            response.success, response.message = True, "the loop closes at the next frame"
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, self._disable()
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._open("reset")
        self._enabled_ns = self._now_ns()
        self._forget_figures()
        response.success = True
        response.message = "history, schedule and figures forgotten; " + (
            "the loop closes again at the next frame" if self._enabled else "not enabled"
        )
        return response

    def _disable(self) -> str:
        was_enabled, self._enabled = self._enabled, False
        self._open("stopped")
        return "stopped; the arm holds its position" if was_enabled else "was not enabled"

    # Diagnostics

    def _forget_figures(self) -> None:
        self._cycles = self._missed_cycles = self._late_plans = 0
        self._output.clamps = 0
        self._latencies_s: deque[float] = deque(maxlen=10_000)

    def _report(self) -> Report:
        now_ns = self._now_ns()
        loop, problem = self._loop, self._inputs.problem(now_ns)
        state = "running" if loop else "waiting" if self._enabled else "idle"
        values = {"state": state, "plans": len(self._latencies_s), "late_plans": self._late_plans}
        values["cycles"] = self._cycles + (loop.cycles if loop else 0)
        values["missed_cycles"] = self._missed_cycles + (loop.missed_cycles if loop else 0)
        values["clamps"] = self._output.clamps
        values |= percentiles("plan_latency", self._latencies_s)
        values |= self._inputs.report(now_ns)
        if self._inputs.unsound or (self._enabled and problem):
            return Report.error(problem, values)
        return Report.ok(state if self._enabled else f"idle: {problem or 'ready to be enabled'}", values)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def main(args: list[str] | None = None) -> int:
    """Run the node; returns the exit status."""
    return run("planner_node", PlannerNode, args)


if __name__ == "__main__":
    sys.exit(main())
