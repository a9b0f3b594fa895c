"""The planner's thread: frames in, adopted plans out."""

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
from std_msgs.msg import Float64, Header, Int32

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
from lewm_ros.nodes.qos import LATCHED, RELIABLE
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.planning.action_timeline import ActionTimeline
from lewm_ros.planning.goal_sequence import GoalSequence
from lewm_ros.planning.planner import Decision
from lewm_ros.planning.surprise import SurpriseWatch

Embedding = NDArray[np.float32]

KEPT_LATENCIES = 10_000
EXPECTED_FROM, EXPECTED_PERCENT = 30, 90
"""So many newest plans say how long the next one takes."""
WARM_UP_PLANS = 3
FAR = 3.0
"""In every number of a state: so far from zero, the planner searches, which takes longer than homing."""
PAUSE_S = 1.0
"""After plans that come too late, the arm stands still so long before it is tried again."""


class EncodedObservation(NamedTuple):
    """What was seen: a frame's stamp and embedding (K, D), and the joint positions (J,) at that time.

    `judged` says whether the prediction error at this frame may count as a surprise.
    """

    stamp_ns: int
    embedding: Embedding
    positions_rad: NDArray[np.float64]
    judged: bool


class PlanningThread:
    """Observes every frame and plans from the newest one, for one loop at a time; publishes what it decides.

    What will have been commanded until a plan is likely to be there is committed, so that a slow machine plans less
    often and further ahead.

    Args:
        node: publishes.
        checkpoint: the model.
        joint_names: of the joint positions that are observed.
        settings: of the search and of surprise.
        output: shows plans.
        markers: shows where they lead the end effector.
        trace: is told when a plan is made and from when on it is in force.
        goals: gives the present goals (G, Kg, D) in order; None: there are none.

    Raises:
        ConfigError: the search does not fit the checkpoint.
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
        goals: Callable[[], Embedding | None],
    ) -> None:
        self._node, self._checkpoint, self._joint_names, self._settings = node, checkpoint, joint_names, settings
        self._output, self._markers, self._trace, self._goals = output, markers, trace, goals
        try:
            self._planner = RecedingHorizonPlanner(checkpoint, settings.search(), settings.seed())
        except ValueError as error:
            raise ConfigError(f"parameters planner: {error}") from None
        space, horizon = checkpoint.action_space, self._planner.config.horizon
        self._control_ns, self._block_ns = self._planner.control_ns, self._planner.control_ns * space.action_block
        self._planned_steps = horizon * space.action_block
        self._max_committed_steps = max(horizon - 1, 1) * space.action_block
        self._loop: ControlLoop | None = None
        self._planned_s, self._paused_until_s, self._pause_reason = 0.0, 0.0, ""
        self._judged_ns = 0
        self._surprise = SurpriseWatch(settings.surprise_threshold(), settings.surprise_steps())
        self._cost_out = node.create_lifecycle_publisher(Float64, "~/plan_cost", RELIABLE)
        self._predicted_out = node.create_lifecycle_publisher(Image, "~/predicted_embedding", RELIABLE)
        self._index_out = node.create_lifecycle_publisher(Int32, "~/goal_index", LATCHED)
        self._left_out = node.create_lifecycle_publisher(Int32, "~/goals_left", LATCHED)
        self._pursued: Embedding | None = None
        self._sequence: GoalSequence | None = None
        self._surprise_out = node.create_lifecycle_publisher(Float64, "~/surprise", RELIABLE)
        self.forget_figures()
        least_s = self._warm_up()
        self._durations_s = {searched: deque([least_s], EXPECTED_FROM) for searched in (False, True)}
        self._searched: bool | None = None  # whether the newest plan was; None: for this goal there was none yet
        self._worker: Worker[int, EncodedObservation] = Worker(self._plan, node.get_logger().error)

    @property
    def timeline(self) -> ActionTimeline:
        """What is scheduled and what was executed."""
        return self._planner.timeline

    @property
    def ready(self) -> bool:
        """Whether a new loop may begin: nothing is left to do for the last one."""
        return not self._worker.busy

    def close(self) -> None:
        """End the thread."""
        self._worker.close()

    def begin(self, loop: ControlLoop, newest: NDArray[np.float64] | None) -> None:
        """Plan for this loop from here on; `newest` is the action (dim,) that was executed last, if there is one."""
        self.clear_failure()
        self._planner.reset(newest)
        self._loop, self._planned_s, self._judged_ns = loop, time.monotonic(), 0

    def end(self) -> None:
        """Plan no longer; a plan under way is thrown away."""
        self._loop = self._searched = None

    def observe(self, observation: EncodedObservation) -> None:
        """Take in a frame, and plan from it if it is the newest when the thread gets to it."""
        self._worker.put(observation.stamp_ns, observation)

    def expected_ns(self) -> int:
        """How long a plan takes, as most at most: of the newest one's kind, or for a new goal of the slower one."""
        kinds = [
            durations_s for searched, durations_s in self._durations_s.items() if self._searched in (None, searched)
        ]
        return round(max(np.percentile(list(kind), EXPECTED_PERCENT) for kind in kinds) * NS_PER_S)

    def problem(self) -> str:
        """Why the plans cannot be relied upon now; empty if they can."""
        max_age_s, now_s = self._settings.max_plan_age_s(), time.monotonic()
        if now_s < self._paused_until_s:
            return self._pause_reason
        if self._loop is not None and now_s - self._planned_s > max_age_s:
            return f"no new plan for {max_age_s:g} s"
        return self._worker.overdue(max_age_s)

    def reason_to_stop(self) -> str:
        """What the arm must not go on after by itself; empty if there is nothing."""
        if self._worker.failure:
            return f"inference failed: {self._worker.failure}"
        return self._surprise.problem if self._settings.on_surprise() == "stop" else ""

    def warning(self) -> str:
        """What an operator should know."""
        surprise = self._surprise.problem if self._settings.on_surprise() == "warn" else ""
        return "; ".join(filter(None, (surprise, self._sequence.problem if self._sequence else "")))

    def begin_goals_anew(self) -> None:
        """Pursue the first of the goals at the next frame."""
        self._pursued = None

    def clear_failure(self) -> None:
        """Try again after a failed inference or a surprise."""
        self._worker.clear()
        self._surprise.forget()

    def forget_figures(self) -> None:
        """Count from zero again."""
        self._late = self._changed_goal = self._not_found = 0
        self._latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._delays_steps: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._committed_steps: deque[int] = deque(maxlen=KEPT_LATENCIES)
        self._adopted_s: deque[float] = deque(maxlen=EXPECTED_FROM)

    def report(self) -> dict[str, Any]:
        """Figures for the diagnostics."""
        counts = {"plans": len(self._latencies_s), "late_plans": self._late}
        counts |= {"plans_for_an_old_goal": self._changed_goal, "plans_without_result": self._not_found}
        sequence = self._sequence
        if sequence is not None:
            counts |= {"goal_index": sequence.index, "goals_left": sequence.left, "goal_returns": sequence.returns}
        figures = {"delay_steps": self._delays_steps, "committed_steps": self._committed_steps}
        medians = {name: f"{np.median(list(steps)):.1f}" if steps else "none" for name, steps in figures.items()}
        return (
            counts | {"plans_hz": f"{self._plans_hz():.1f}"} | medians | percentiles("plan_latency", self._latencies_s)
        )

    def _plans_hz(self) -> float:
        """Plans per second, of the newest ones."""
        if len(self._adopted_s) < 2 or time.monotonic() - self._adopted_s[-1] > PAUSE_S:
            return 0.0
        return (len(self._adopted_s) - 1) / (self._adopted_s[-1] - self._adopted_s[0])

    def _plan(self, pending: dict[int, EncodedObservation]) -> None:
        """Observe every pending frame and decide at the newest; runs in the thread."""
        loop, started_s = self._loop, time.monotonic()
        if loop is None:
            return
        frames = [pending[stamp_ns] for stamp_ns in sorted(pending)]
        for seen in frames:
            self._planner.observe(seen.stamp_ns, torch.from_numpy(seen.embedding))
        self._decide(loop, frames[-1], started_s)
        for seen in frames:
            self._judge(seen)

    def _decide(self, loop: ControlLoop, seen: EncodedObservation, started_s: float) -> None:
        """Plan from an observed frame, and schedule it unless the loop ends or the goal is withdrawn meanwhile."""
        goals = self._goals()
        if goals is None:
            return
        goal = self._pursue(seen.stamp_ns, goals)
        if (free_ns := self._free_ns(loop, seen.stamp_ns)) is None:
            return
        positions = self._checkpoint.action_space.positions(
            dict(zip(self._joint_names, seen.positions_rad, strict=True))
        )
        decision = self._planner.decide(seen.stamp_ns, goal, positions, free_ns)
        ready_ns = self._now_ns()
        with loop.lock:
            if self._loop is not loop or self._goals() is None:
                return
            in_force_ns = max(free_ns, loop.first_free_ns(ready_ns))
            self._planner.adopt(decision, in_force_ns)
            self._trace.mark(seen.stamp_ns, "planned", time.time_ns())
            self._trace.adopted(seen.stamp_ns, in_force_ns)
        self._note(decision, started_s, ready_ns, in_force_ns)
        self._changed_goal += self._goals() is not goals
        self._show(loop, decision, seen.positions_rad, in_force_ns)

    def _pursue(self, stamp_ns: int, goals: Embedding) -> torch.Tensor:
        """The goal (Kg, D) to plan for at a frame; says which it is when it is another than before."""
        before = None if self._sequence is None else self._sequence.index
        if goals is not self._pursued:
            self._pursued, self._sequence, before = goals, self._planner.sequence(torch.from_numpy(goals)), None
            self._searched = None
        goal = self._planner.pursue(stamp_ns, self._sequence)
        if self._sequence.index != before:
            self._index_out.publish(Int32(data=self._sequence.index))
            self._left_out.publish(Int32(data=self._sequence.left))
        return goal

    def _free_ns(self, loop: ControlLoop, stamp_ns: int) -> int | None:
        """From when on a plan that is begun now can be in force; None if that is too late for it to be of use."""
        free_ns = loop.first_free_ns(self._now_ns() + self.expected_ns())
        committed_steps = self._planner.committed_steps(stamp_ns, free_ns)
        if committed_steps < self._planned_steps and committed_steps <= self._max_committed_steps:
            self._committed_steps.append(committed_steps)
            return free_ns
        delay_s = (free_ns - stamp_ns) / NS_PER_S
        self._pause_reason = f"plans come too late: {delay_s:.2f} s after their frame, and they reach too short"
        self._paused_until_s = time.monotonic() + PAUSE_S
        for durations_s in self._durations_s.values():
            while len(durations_s) > 1:
                durations_s.remove(max(durations_s))
        return None

    def _note(self, decision: Decision, started_s: float, ready_ns: int, in_force_ns: int) -> None:
        """Take in how long a decision took."""
        now_s = time.monotonic()
        self._latencies_s.append(now_s - started_s)
        self._searched = decision.searched
        self._durations_s[decision.searched].append(now_s - started_s)
        self._adopted_s.append(now_s)
        self._delays_steps.append((ready_ns - decision.start_ns) / self._control_ns)
        self._late += in_force_ns > decision.free_ns

    def _show(
        self, loop: ControlLoop, decision: Decision, positions_rad: NDArray[np.float64], in_force_ns: int
    ) -> None:
        if not np.isfinite(decision.cost):
            self._not_found += 1
            return
        self._planned_s = time.monotonic()
        first = self._planner.committed_steps(decision.start_ns, in_force_ns)
        begin_ns = decision.start_ns + first * self._control_ns
        before = self.timeline.read(loop.next_ns, max(0, round((begin_ns - loop.next_ns) / self._control_ns)))
        self._output.publish_plan(Header(stamp=ns_to_stamp(begin_ns)), before, decision.actions[first:])
        self._cost_out.publish(Float64(data=decision.cost))
        self._markers.show(decision, positions_rad)
        if self._predicted_out.get_subscription_count():
            end_ns = decision.start_ns + self._planned_steps * self._control_ns
            end = Header(stamp=ns_to_stamp(end_ns))
            self._predicted_out.publish(matrix_to_image(self._planner.foresee(decision)[-1], end))

    def _judge(self, seen: EncodedObservation) -> None:
        """Take in a prediction error, one per block, as those were of which the checkpoint knows the distribution."""
        if seen.stamp_ns - self._judged_ns < self._block_ns - self._control_ns // 2:
            return
        error = self._planner.prediction_error(seen.stamp_ns)
        if error is None:
            return
        self._judged_ns = seen.stamp_ns
        spread = self._checkpoint.error
        surprise = error.error if spread is None else spread.surprise(error.error, error.change)
        if seen.judged and spread is not None:
            self._surprise.saw(surprise)
        self._surprise_out.publish(Float64(data=surprise))

    def _warm_up(self) -> float:
        """Plan, so that the first plan of a loop is as fast as the others; returns the shortest time it took, s."""
        self._planner.prepare()
        model, space = self._checkpoint.model, self._checkpoint.action_space
        nothing = torch.zeros(model.tokens, model.config.embedding_dim)
        far = torch.full((len(model.goal_tokens), model.config.embedding_dim), FAR)
        positions = space.positions(dict.fromkeys(self._joint_names, 0.0))
        durations_s = []
        for frame in range(self._checkpoint.history):
            for _ in range(WARM_UP_PLANS):
                started_s = time.monotonic()
                self._planner.observe(frame * self._block_ns, nothing)
                self._planner.decide(frame * self._block_ns, far, positions)
                durations_s.append(time.monotonic() - started_s)
        return min(durations_s)

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds
