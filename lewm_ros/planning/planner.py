"""The receding-horizon planner: states at any time in, actions out; what the robot does meanwhile stays as it is."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.planning.action_timeline import ActionTimeline
from lewm_ros.planning.escape import Escape
from lewm_ros.planning.goal_sequence import GoalSequence, require_step_count
from lewm_ros.planning.homing import WayBack
from lewm_ros.planning.search import Found, Plannable, PlanningProblem, Search
from lewm_ros.planning.solver import Deadline
from lewm_ros.planning.solvers import POLICY, SEARCH, PlannerConfig
from lewm_ros.planning.static_call import StaticCall
from lewm_ros.planning.surprise import PredictionError

Array = NDArray[np.float64]

LOG = logging.getLogger(__name__)

FOUND, OUT_OF_TIME, NOT_FINITE = "found", "out of time", "no finite cost"

HOMING_HYSTERESIS = 2.0
"""By how much the cost of being somewhere may rise above that at which homing begins before it ends."""


@dataclass(frozen=True)
class Decision:
    """What one planning cycle decided.

    Attributes:
        start_ns: stamp of the frame from which it was made, where `actions` begin.
        free_ns: before it, the actions are those that were committed already.
        actions: per control step (n, dim), in the action space's units.
        cost: of the plan, as composed; of one that needs no search, what staying would cost, which no model need
            predict. Infinite unless `status` is 'found'.
        status: 'found'; 'out of time' or 'no finite cost' if `actions` are the ones planned before.
        elites: other good plans (E, n, dim), best first.
        iterations: of the solver, finished.
        searched: whether it was searched for, which takes longer than homing or asking a policy.
    """

    start_ns: int
    free_ns: int
    actions: Array
    cost: float
    status: str
    elites: Array
    iterations: int
    searched: bool


@dataclass(frozen=True)
class History:
    """What the model looks back on from a frame: states (H, K, D), a block apart, and the z-scored blocks between."""

    states: Tensor
    past_actions: Tensor


class RecedingHorizonPlanner:
    """Plans from any frame what follows it.

    At each frame call `observe`, then `decide` for some or all of them: while that computes, the robot goes on as
    scheduled. What it will have done or begun until a plan is there is committed: the model is rolled through it, and
    the search covers the rest. `adopt` puts a decision into the schedule. What really was executed is told to
    `timeline`, from which the model's history is read: frames one block apart, and the actions between them.

    One thread may observe and decide while another reads and records the timeline.

    Args:
        checkpoint: the model, and what plans with it must know.
        config: solver, cost and sizes of the search.
        seed: of the sampling.

    Raises:
        ValueError: the configuration does not suit the action space.
    """

    def __init__(self, checkpoint: Plannable, config: PlannerConfig, seed: int = 0) -> None:
        self.config, self.action_space, self.device = config, checkpoint.action_space, checkpoint.device
        self.timeline = ActionTimeline(checkpoint.action_space)
        self.control_ns = self.timeline.control_ns
        self._block_ns = self.control_ns * self.action_space.action_block
        self._steps = config.horizon * self.action_space.action_block
        self._search = Search(checkpoint, config)
        self._history, self._state_shape, self._seed = checkpoint.history, checkpoint.state_shape, seed
        self._goal_shape = (len(checkpoint.goal_tokens), checkpoint.state_shape[1])
        self._generator = torch.Generator(self.device)
        may_end_early = config.agreement_std > 0.0 or config.deadline_ms < PlannerConfig.deadline_ms
        self._capturable = not may_end_early and config.solver != "gradient"
        self._way_back = WayBack(config.lost_s, config.homing_cost)
        moving = self.action_space.places("delta", "velocity")
        self._escape = Escape(config, np.isin(np.arange(self.action_space.dim), moving), self._generator)
        self._captured: dict[tuple[int, bool], StaticCall[PlanningProblem, Found]] = {}
        self.reset()

    @property
    def actor(self) -> str:
        """Who decides: search, policy or policy_and_search."""
        return self._search.actor

    @torch.no_grad()
    def prepare(self) -> None:
        """Plan once for every shape that a problem can have, so that the first plan in motion is as fast as the others.

        On CUDA the searches are captured; if that fails, there is one warning, and they run as they are.
        """
        captures = self.device.type == "cuda" and self._capturable
        for frames in range(1, self._history + 1):
            for known in (False, True):
                problem = self._blank(frames, known)
                self._search(problem, self._generator, Deadline())
                if captures:
                    captures = self._capture(problem)
        self.reset()

    def _capture(self, problem: PlanningProblem) -> bool:
        """Capture the search for problems of this shape; returns whether it could be."""
        call = StaticCall(lambda inputs: self._search(inputs, self._generator, Deadline()), self._generator, problem)
        try:
            call.capture()
        except RuntimeError as error:
            LOG.warning(
                "the search cannot be captured in a CUDA graph and runs as it is: %s", str(error).splitlines()[0]
            )
            self._captured.clear()
            return False
        self._captured[len(problem.z), problem.positions is not None] = call
        return True

    def _blank(self, frames: int, positions: bool) -> PlanningProblem:
        """A problem in which so many frames, and perhaps the positions, are known, and nothing is to be done."""
        dim, block_dim = self.action_space.dim, self.action_space.block_dim
        return PlanningProblem(
            z=torch.zeros(frames, *self._state_shape, device=self.device),
            past_actions=torch.zeros(frames - 1, block_dim, device=self.device),
            goal=torch.zeros(self._goal_shape, device=self.device),
            start=torch.zeros(self.config.horizon, block_dim, device=self.device),
            free=torch.ones(self._steps, dtype=torch.bool, device=self.device),
            positions=torch.zeros(dim, device=self.device) if positions else None,
        )

    def reset(self, newest: Array | None = None) -> None:
        """Forget history and schedule: the robot stands still.

        Args:
            newest: the action (dim,) executed last, in which channels that rest where they are stand; None: not known.
        """
        self._generator.manual_seed(self._seed)
        self.timeline.begin(newest)
        self._states: dict[int, Tensor] = {}
        self._decided: History | None = None
        self._homing = False
        self._way_back.forget()
        self._escape.forget()

    @torch.no_grad()
    def observe(self, stamp_ns: int, state: Tensor) -> None:
        """Take in the state (K, D) at a frame's stamp, newer than those before.

        Raises:
            ValueError: the state is not finite or has another shape; it is not taken in.
        """
        if state.shape != self._state_shape:
            raise ValueError(f"embedding: has shape {tuple(state.shape)}, expected {self._state_shape}")
        if not bool(torch.isfinite(state).all()):
            raise ValueError("embedding: not finite; check the camera image")
        state = state.to(self.device, torch.float32, copy=True)
        oldest_ns = stamp_ns - self._history * self._block_ns - self.control_ns
        self._states = {stamp: z for stamp, z in self._states.items() if oldest_ns <= stamp < stamp_ns}
        self.timeline.forget_before(min(oldest_ns - self._block_ns, stamp_ns - self._escape.watched_ns))
        self._states[stamp_ns] = state

    @torch.no_grad()
    def prediction_error(self, stamp_ns: int) -> PredictionError | None:
        """How wrong the model was about an observed frame, given the one a block before and what was executed since.

        Not a part of `observe`, so that a robot need not wait for it. None if there was no frame a block before.

        Raises:
            ValueError: the frame was not observed.
        """
        state, before_ns = self._seen(stamp_ns), self._frame_near(stamp_ns - self._block_ns)
        if before_ns is None:
            return None
        history = self._history_of(before_ns)
        blocks = self._blocks(stamp_ns - self._block_ns, 1)
        expected = self._search.follow(history.states, history.past_actions, blocks)[-1]
        error, change = ((expected - z).square().mean() for z in (state, self._states[before_ns]))
        return PredictionError(float(error), float(change))

    def sequence(self, goals: Tensor) -> GoalSequence:
        """The goals (G, Kg, D) in order, to be pursued one after the other.

        Raises:
            ValueError: there are several, and the checkpoint has nothing that says how far they are.
        """
        if len(goals) > 1:
            require_step_count(self._search.can_count_steps)
        return GoalSequence(goals, self.config)

    @torch.no_grad()
    def pursue(self, stamp_ns: int, sequence: GoalSequence) -> Tensor:
        """The goal (Kg, D) to decide for at an observed frame, after the sequence has been told how far its goals are.

        Raises:
            ValueError: see `steps_left`.
        """
        if len(sequence) > 1:
            sequence.tell(self.steps_left(stamp_ns, sequence.goals).tolist())
        return sequence.present

    @torch.no_grad()
    def steps_left(self, stamp_ns: int, goals: Tensor) -> Tensor:
        """How many control steps (G,) are left from an observed frame to each of the goals (G, Kg, D).

        Raises:
            ValueError: the frame was not observed, or the checkpoint has nothing that says how far goals are.
        """
        require_step_count(self._search.can_count_steps)
        return self._search.steps_left(self._seen(stamp_ns), goals.to(self.device, torch.float32))

    @torch.no_grad()
    def decide(
        self, stamp_ns: int, goal: Tensor, positions: Array | None = None, free_ns: int | None = None
    ) -> Decision:
        """Search what follows an observed frame, towards a goal.

        Args:
            stamp_ns: of the frame.
            goal: the tokens (Kg, D) of a state that a goal has.
            positions: what the delta channels have added up to (dim,), such as joint positions, at the frame; of other
                channels it is ignored. Given these, plans stay inside the positions that the training data visited:
                beyond them the model knows nothing.
            free_ns: until then, what is scheduled will be done whatever is decided; None: nothing is committed.

        Raises:
            ValueError: the frame was not observed, or the goal or the positions are not finite or of another size.
        """
        deadline = Deadline.after(time.perf_counter(), self.config.deadline_ms)
        free_ns = stamp_ns if free_ns is None else free_ns
        history, problem = self._problem(stamp_ns, goal, positions, free_ns)
        searches = False
        if self._search.actor == POLICY:
            found = self._search.act(problem, self._see_standstill(stamp_ns, goal))
        elif (place := self._see_distance(problem, stamp_ns, positions)) is not None:
            found = self._search.go_to(problem, self._positions(place))
        elif self._homing:
            found = self._search.home(problem)
        else:
            found, searches = self._solve(problem, deadline), True
        self._decided = history
        cost = float(found.cost)
        if np.isfinite(cost):
            status, actions = FOUND, self._in_units(found.blocks)
        else:
            status = OUT_OF_TIME if searches and found.iterations == 0 else NOT_FINITE
            actions = self.timeline.read(stamp_ns, self._steps)
        elites = self._in_units(found.elites)
        return Decision(stamp_ns, free_ns, actions, cost, status, elites, found.iterations, searches)

    @torch.no_grad()
    def cost_variation(self, stamp_ns: int, goal: Tensor, samples: int = 256) -> float:
        """How much the costs of random plans from an observed frame differ; see `Search.cost_variation`."""
        _, problem = self._problem(stamp_ns, goal, None, stamp_ns)
        chance = torch.Generator(self.device).manual_seed(self._seed)  # not that of the plans, which stay as they are
        return self._search.cost_variation(problem, samples, chance)

    @torch.no_grad()
    def foresee(self, decision: Decision) -> NDArray[np.float32]:
        """The states (horizon, K, D) predicted for the ends of the blocks of the newest decision; for eyes only.

        Not a part of `decide`, so that a robot need not wait for it.
        """
        blocks = self._tensor(self._scored(decision.actions))
        return self._search.follow(self._decided.states, self._decided.past_actions, blocks).cpu().numpy()

    def adopt(self, decision: Decision, free_ns: int | None = None) -> None:
        """Schedule a decision from `free_ns` on, or from its own if that is later; what was scheduled before stays."""
        free_ns = decision.free_ns if free_ns is None else max(decision.free_ns, free_ns)
        first = self.committed_steps(decision.start_ns, free_ns)
        begin_ns = decision.start_ns + first * self.control_ns
        self.timeline.schedule(begin_ns, decision.actions[first:], from_ns=max(begin_ns, free_ns))

    def committed_steps(self, stamp_ns: int, free_ns: int) -> int:
        """How many control steps from a frame on are committed until a time: those of which half is, or more."""
        return max(0, (free_ns - stamp_ns + self.control_ns // 2) // self.control_ns)

    def _problem(
        self, stamp_ns: int, goal: Tensor, positions: Array | None, free_ns: int
    ) -> tuple[History, PlanningProblem]:
        self._seen(stamp_ns)
        goal = goal.to(self.device, torch.float32, copy=True)
        if goal.shape != self._goal_shape:
            raise ValueError(f"goal embedding: has shape {tuple(goal.shape)}, expected {self._goal_shape}")
        if not bool(torch.isfinite(goal).all()):
            raise ValueError("goal embedding: not finite; check the goal image")
        history = self._history_of(stamp_ns)
        free = torch.arange(self._steps, device=self.device) >= self.committed_steps(stamp_ns, free_ns)
        return history, PlanningProblem(
            z=history.states,
            past_actions=history.past_actions,
            goal=goal,
            start=self._blocks(stamp_ns, self.config.horizon),
            free=free,
            positions=None if positions is None else self._positions(positions),
        )

    def _seen(self, stamp_ns: int) -> Tensor:
        """The state (K, D) at an observed frame."""
        if stamp_ns not in self._states:
            raise ValueError(f"frame {stamp_ns}: it was not observed")
        return self._states[stamp_ns]

    def _frame_near(self, time_ns: int) -> int | None:
        """The stamp of the observed frame within half a control step of a time."""
        nearest = min(self._states, key=lambda stamp: abs(stamp - time_ns), default=None)
        return nearest if nearest is not None and 2 * abs(nearest - time_ns) <= self.control_ns else None

    def _history_of(self, stamp_ns: int) -> History:
        """What the model looks back on from a frame, as far as frames a block apart are known."""
        stamps = [stamp_ns]
        while len(stamps) < self._history and (before := self._frame_near(stamps[0] - self._block_ns)) is not None:
            stamps.insert(0, before)
        blocks = [self._blocks(stamp - self._block_ns, 1) for stamp in stamps[1:]]
        none = self._tensor(np.empty((0, self.action_space.block_dim)))
        return History(torch.stack([self._states[stamp] for stamp in stamps]), torch.cat([none, *blocks]))

    def _positions(self, positions: Array) -> Tensor:
        """What the delta channels have added up to (dim,); 0 for other channels."""
        deltas = self.action_space.places("delta")
        if not np.isfinite(positions[deltas]).all():
            raise ValueError("positions: not finite")
        known = np.zeros(self.action_space.dim)
        known[deltas] = positions[deltas]
        return self._tensor(known)

    def _see_standstill(self, stamp_ns: int, goal: Tensor) -> Tensor | None:
        """How far aside of its medians the policy is to act (dim,), to get out of a standstill; None: not at all."""
        watched_ns = self._escape.watched_ns
        if not watched_ns:
            return None
        executed = self.timeline.read(stamp_ns - watched_ns, round(watched_ns / self.control_ns))
        scored = (executed - np.array(self.action_space.mean)) / np.array(self.action_space.std)
        return self._escape.saw(stamp_ns, scored, lambda: float(self.steps_left(stamp_ns, goal.unsqueeze(0))))

    def _see_distance(self, problem: PlanningProblem, stamp_ns: int, positions: Array | None) -> Array | None:
        """See whether to home in: once near the goal, until the robot is twice as far from it.

        Returns:
            positions (dim,) to go back to instead of homing or searching; None: none.
        """
        near = self.config.homing_cost * (HOMING_HYSTERESIS if self._homing else 1.0)
        if self._search.actor != SEARCH or near == 0.0 or not self._search.can_home:
            return None
        cost = self._search.distance(problem)
        self._homing = cost < near
        if positions is None:
            return None
        self._way_back.saw(stamp_ns, problem.goal, cost, positions, self._homing)
        return self._way_back.place

    def _solve(self, problem: PlanningProblem, deadline: Deadline) -> Found:
        captured = self._captured.get((len(problem.z), problem.positions is not None))
        return captured(problem) if captured else self._search(problem, self._generator, deadline)

    def _blocks(self, start_ns: int, blocks: int) -> Tensor:
        """The z-scored blocks (blocks, A) of what was executed or is scheduled from a time on."""
        return self._tensor(self._scored(self.timeline.read(start_ns, blocks * self.action_space.action_block)))

    def _scored(self, actions: Array) -> Array:
        """Actions (n * action_block, dim) -> z-scored blocks (n, A)."""
        return self.action_space.normalise(actions.reshape(-1, self.action_space.action_block, self.action_space.dim))

    def _in_units(self, blocks: Tensor) -> Array:
        """z-scored blocks (..., n, A) -> actions (..., n * action_block, dim)."""
        actions = self.action_space.denormalise(blocks.double().cpu().numpy())
        return actions.reshape(*actions.shape[:-3], self._steps, self.action_space.dim)

    def _tensor(self, array: Array) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)
