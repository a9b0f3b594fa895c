"""The planner's thread: frames at block boundaries in, adopted plans out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Header

from lewm_ros.config import ConfigError
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.nodes.conversions import matrix_to_image, ns_to_stamp
from lewm_ros.nodes.diagnostics import percentiles
from lewm_ros.nodes.inference import Worker
from lewm_ros.nodes.planner.command_output import CommandOutput
from lewm_ros.nodes.planner.control_loop import ControlLoop
from lewm_ros.nodes.planner.latency import LatencyTrace
from lewm_ros.nodes.planner.markers import PlanMarkers
from lewm_ros.nodes.planner.settings import PlannerSettings
from lewm_ros.nodes.qos import RELIABLE
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.planning.planner import Decision
from lewm_ros.planning.surprise import PredictionError, SurpriseWatch

Embedding = NDArray[np.float32]

KEPT_LATENCIES = 10_000


class EncodedObservation(NamedTuple):
    """What was seen at a block boundary: stamp and embedding (K, D), the goal (Kg, D), joint positions (J,).

    `judged` says whether the prediction error at this frame may count as a surprise.
    """

    loop: ControlLoop
    stamp_ns: int
    embedding: Embedding
    goal: Embedding
    positions_rad: NDArray[np.float64]
    judged: bool


class PlanningThread:
    """Plans for one loop at a time and publishes what it decides.

    Args:
        node: publishes.
        checkpoint: the model.
        joint_names: of the joint positions that are observed.
        settings: of the search and of surprise.
        output: shows plans.
        markers: shows where they lead the end effector.
        trace: is told when a plan is made and from when on it is in force.
        goal: gives the present goal; a plan for another one is thrown away.
    """

    def __init__(
        self,
        node: LifecycleNode,
        checkpoint: Checkpoint,
        joint_names: Sequence[str],
        settings: PlannerSettings,
        output: CommandOutput,
        markers: PlanMarkers,
        trace: LatencyTrace,
        goal: Callable[[], Embedding | None],
    ) -> None:
        self._node, self._checkpoint, self._joint_names, self._settings = node, checkpoint, joint_names, settings
        self._output, self._markers, self._trace, self._goal = output, markers, trace, goal
        self._search = settings.search()
        self._loop: ControlLoop | None = None
        self._planned_s = 0.0
        self._surprise = SurpriseWatch(settings.surprise_threshold(), settings.surprise_steps())
        self._cost_out = node.create_lifecycle_publisher(Float64, "~/plan_cost", RELIABLE)
        self._predicted_out = node.create_lifecycle_publisher(Image, "~/predicted_embedding", RELIABLE)
        self._surprise_out = node.create_lifecycle_publisher(Float64, "~/surprise", RELIABLE)
        self.forget_figures()
        self._warm_up()
        self._worker: Worker[int, EncodedObservation] = Worker(self._plan, node.get_logger().error)

    def close(self) -> None:
        """End the thread."""
        self._worker.close()

    def make_planner(self) -> RecedingHorizonPlanner:
        """A planner without history.

        Raises:
            ConfigError: the search does not fit the checkpoint.
        """
        try:
            return RecedingHorizonPlanner(self._checkpoint, self._search, self._settings.seed())
        except ValueError as error:
            raise ConfigError(f"parameters planner: {error}") from None

    def begin(self, loop: ControlLoop) -> None:
        """Plan for this loop from here on."""
        self.clear_failure()
        self._loop, self._planned_s = loop, time.monotonic()

    def end(self) -> None:
        """Plan no longer; a plan under way is thrown away."""
        self._loop = None

    def observe(self, block: int, observation: EncodedObservation) -> None:
        """Plan from the frame at the start of a block."""
        self._worker.put(block, observation)

    def problem(self) -> str:
        """Why the plans cannot be relied upon now; empty if they can."""
        max_age_s = self._settings.max_plan_age_s()
        if self._loop is not None and time.monotonic() - self._planned_s > max_age_s:
            return f"no new plan for {max_age_s:g} s"
        return self._worker.overdue(max_age_s)

    def reason_to_stop(self) -> str:
        """What the arm must not go on after by itself; empty if there is nothing."""
        if self._worker.failure:
            return f"inference failed: {self._worker.failure}"
        return self._surprise.problem if self._settings.on_surprise() == "stop" else ""

    def warning(self) -> str:
        """What an operator should know."""
        return self._surprise.problem if self._settings.on_surprise() == "warn" else ""

    def clear_failure(self) -> None:
        """Try again after a failed inference or a surprise."""
        self._worker.clear()
        self._surprise.forget()

    def forget_figures(self) -> None:
        """Count from zero again."""
        self._late = self._discarded = self._not_found = 0
        self._latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)

    def report(self) -> dict[str, Any]:
        """Figures for the diagnostics."""
        counts = {"plans": len(self._latencies_s), "late_plans": self._late}
        counts |= {"plans_for_an_old_goal": self._discarded, "plans_without_result": self._not_found}
        return counts | percentiles("plan_latency", self._latencies_s)

    def _plan(self, pending: dict[int, EncodedObservation]) -> None:
        """Observe every pending boundary and decide at the newest; runs in the thread."""
        loop, started_s = self._loop, time.monotonic()
        blocks = sorted(block for block, seen in pending.items() if seen.loop is loop)
        if loop is None or not blocks:
            return
        for block in blocks:
            seen = pending[block]
            self._judge(loop.planner.observe(block, torch.from_numpy(seen.embedding)), seen.judged)
        positions = self._checkpoint.action_space.positions(
            dict(zip(self._joint_names, seen.positions_rad, strict=True))
        )
        decision = loop.planner.decide(block, torch.from_numpy(seen.goal), positions)
        if self._loop is not loop or self._goal() is not seen.goal:
            self._discarded += 1
            return
        self._trace.mark(seen.stamp_ns, "planned", time.time_ns())
        executing = loop.block_at(self._node.get_clock().now().nanoseconds)
        loop.planner.adopt(decision, executing + 1)
        self._trace.adopted(seen.stamp_ns, executing + 1)
        self._latencies_s.append(time.monotonic() - started_s)
        self._late += executing >= decision.block
        self._show(loop, decision, seen.positions_rad)

    def _show(self, loop: ControlLoop, decision: Decision, positions_rad: NDArray[np.float64]) -> None:
        if not np.isfinite(decision.cost):
            self._not_found += 1
            return
        self._planned_s = time.monotonic()
        header = Header(stamp=ns_to_stamp(loop.t0_ns + decision.block * loop.block_ns))
        self._output.publish_plan(header, loop.until(decision.block), np.concatenate(decision.actions))
        self._cost_out.publish(Float64(data=decision.cost))
        self._markers.show(decision, positions_rad, loop.planner.actions(decision.block - 1))
        if self._predicted_out.get_subscription_count():
            end = Header(stamp=ns_to_stamp(loop.t0_ns + (decision.block + len(decision.actions)) * loop.block_ns))
            self._predicted_out.publish(matrix_to_image(loop.planner.foresee(decision)[-1], end))

    def _judge(self, seen: PredictionError | None, judged: bool) -> None:
        if seen is None:
            return
        spread = self._checkpoint.error
        surprise = seen.error if spread is None else spread.surprise(seen.error, seen.change)
        if judged and spread is not None:
            self._surprise.saw(surprise)
        self._surprise_out.publish(Float64(data=surprise))

    def _warm_up(self) -> None:
        """Plan once, so that the first plan of a loop is as fast as the others."""
        planner, model = self.make_planner(), self._checkpoint.model
        nothing = torch.zeros(model.tokens, model.config.embedding_dim)
        planner.observe(0, nothing)
        planner.decide(0, nothing[list(model.goal_tokens)])
