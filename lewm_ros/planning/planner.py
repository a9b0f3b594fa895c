"""The receding-horizon planner: embeddings at block boundaries in, action blocks out, one block ahead of the robot."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.planning.search import Found, Plannable, PlanningProblem, Search
from lewm_ros.planning.solver import Deadline
from lewm_ros.planning.solvers import PlannerConfig
from lewm_ros.planning.static_call import StaticCall
from lewm_ros.planning.surprise import PredictionError

FOUND, OUT_OF_TIME, NOT_FINITE = "found", "out of time", "no finite cost"


@dataclass(frozen=True)
class Decision:
    """What one planning cycle decided.

    Attributes:
        block: number of the first block that `actions` speak of.
        actions: per control step (horizon, action_block, dim), in the action space's units.
        cost: of the plan, as composed; infinite unless `status` is 'found'.
        status: 'found'; 'out of time' or 'no finite cost' if `actions` are the ones planned before.
        elites: other good plans (E, horizon, action_block, dim), best first.
        iterations: of the solver, finished.
    """

    block: int
    actions: NDArray[np.float64]
    cost: float
    status: str
    elites: NDArray[np.float64]
    iterations: int


class RecedingHorizonPlanner:
    """Plans the blocks that follow the one being executed.

    Blocks are numbered from the moment the loop was closed: block k starts at boundary k. At each boundary call
    `observe(k, state)`, then `decide(k, goal)`: while that computes, the robot executes block k as scheduled; the
    model is rolled through it first, and the search covers blocks k + 1 to k + horizon. A decision enters the schedule
    by `adopt`, which leaves alone what has begun in the meantime. A block that nobody scheduled is rest.

    One thread may observe and decide while another reads `actions`.

    Args:
        checkpoint: the model, and what plans with it must know. On CUDA the whole search is captured in a graph, unless
            it may end early.
        config: solver, cost and sizes of the search.
        seed: of the sampling.

    Raises:
        ValueError: the configuration does not suit the action space.
    """

    def __init__(self, checkpoint: Plannable, config: PlannerConfig, seed: int = 0) -> None:
        self.config, self.action_space, self.device = config, checkpoint.action_space, checkpoint.device
        self._search = Search(checkpoint, config)
        self._history, self._state_shape, self._seed = checkpoint.history, checkpoint.state_shape, seed
        self._goal_shape = (len(checkpoint.goal_tokens), checkpoint.state_shape[1])
        self._generator = torch.Generator(self.device)
        self._captured: dict[tuple[int, bool], StaticCall] = {}
        self.reset()

    def reset(self, newest: NDArray[np.float64] | None = None) -> None:
        """Forget history and schedule: the robot stands still and blocks are numbered from 0 again.

        Args:
            newest: the action (dim,) executed last, in which channels that rest where they are stand; None: not known.
        """
        self._generator.manual_seed(self._seed)
        self._newest = newest
        self._states: dict[int, Tensor] = {}
        self._schedule: dict[int, NDArray[np.float64]] = {}
        self._expected: tuple[int, Tensor, Tensor] | None = None
        self._decided: PlanningProblem | None = None

    def actions(self, block: int) -> NDArray[np.float64]:
        """The scheduled actions (action_block, dim) of a block; those of rest say 'as it is' by not being a number."""
        schedule = self._schedule
        if block in schedule:
            return schedule[block]
        before = max((k for k in schedule if k < block), default=None)
        newest = self._newest if before is None else schedule[before][-1]
        return np.tile(self.action_space.rest(newest), (self.action_space.action_block, 1))

    @torch.no_grad()
    def observe(self, block: int, state: Tensor) -> PredictionError | None:
        """Take in the state (K, D) at the start of a block.

        Returns:
            how wrong the prediction made one block before was; None if there was none.

        Raises:
            ValueError: the state is not finite or has another shape; it is not taken in.
        """
        if state.shape != self._state_shape:
            raise ValueError(f"embedding: has shape {tuple(state.shape)}, expected {self._state_shape}")
        if not bool(torch.isfinite(state).all()):
            raise ValueError("embedding: not finite; check the camera image")
        state = state.to(self.device, torch.float32, copy=True)
        self._states = {k: z for k, z in self._states.items() if block - self._history < k < block}
        self._states[block] = state
        if self._expected is None or self._expected[0] != block:
            return None
        _, expected, before = self._expected
        error, change = ((expected - z).square().mean() for z in (state, before))
        return PredictionError(float(error), float(change))

    @torch.no_grad()
    def decide(self, block: int, goal: Tensor, positions: NDArray[np.float64] | None = None) -> Decision:
        """Search what follows the scheduled block `block`, whose start was observed, towards a goal.

        Args:
            block: the block under way.
            goal: the tokens (Kg, D) of a state that a goal has.
            positions: what the delta channels have added up to (dim,), such as joint positions, at the start of the
                block; of other channels it is ignored. Given these, plans stay inside the positions that the training
                data visited: beyond them the model knows nothing.

        Raises:
            ValueError: the start of `block` was not observed, or the goal or the positions are not finite or of
                another size.
        """
        deadline = Deadline.after(time.perf_counter(), self.config.deadline_ms)
        problem = self._problem(block, goal, positions)
        found = self._solve(problem, deadline)
        self._decided = problem
        self._expected = (block + 1, found.expected, self._states[block])
        cost = float(found.cost)
        if np.isfinite(cost):
            status, blocks = FOUND, found.blocks
        else:
            status, blocks = (OUT_OF_TIME if found.iterations == 0 else NOT_FINITE), problem.start
        return Decision(block + 1, self._in_units(blocks), cost, status, self._in_units(found.elites), found.iterations)

    @torch.no_grad()
    def foresee(self, decision: Decision) -> NDArray[np.float32]:
        """The states (horizon, K, D) predicted for the ends of the blocks of the newest decision; for eyes only.

        Not a part of `decide`, so that a robot need not wait for it.
        """
        blocks = self._tensor(np.stack([self.action_space.normalise(actions) for actions in decision.actions]))
        return self._search.follow(self._decided, blocks).cpu().numpy()

    def adopt(self, decision: Decision, first_free: int) -> None:
        """Schedule a decision from block `first_free` on: blocks before it have begun and stay as they are.

        So do blocks before the decision's own, if the clock is behind the frame from which it was made.
        """
        begin = max(first_free, decision.block)
        kept = {k: actions for k, actions in self._schedule.items() if begin - self._history <= k < begin}
        planned = {decision.block + i: actions for i, actions in enumerate(decision.actions)}
        self._schedule = kept | {k: actions for k, actions in planned.items() if k >= begin}

    def _problem(self, block: int, goal: Tensor, positions: NDArray[np.float64] | None) -> PlanningProblem:
        space = self.action_space
        if block not in self._states:
            raise ValueError(f"block {block}: its first frame was not observed")
        goal = goal.to(self.device, torch.float32, copy=True)
        if goal.shape != self._goal_shape:
            raise ValueError(f"goal embedding: has shape {tuple(goal.shape)}, expected {self._goal_shape}")
        if not bool(torch.isfinite(goal).all()):
            raise ValueError("goal embedding: not finite; check the goal image")
        known = [block]
        while known[0] - 1 in self._states:
            known.insert(0, known[0] - 1)
        blocks = self._tensor(np.stack([space.normalise(self.actions(k)) for k in known]))
        follow = range(block + 1, block + 1 + self.config.horizon)
        return PlanningProblem(
            z=torch.stack([self._states[k] for k in known]),
            past_actions=blocks[:-1],
            under_way=blocks[-1],
            goal=goal,
            start=self._tensor(np.stack([space.normalise(self.actions(k)) for k in follow])),
            positions=None if positions is None else self._positions_after(block, positions),
        )

    def _positions_after(self, block: int, positions: NDArray[np.float64]) -> Tensor:
        """What the delta channels have added up to (dim,) after a block; 0 for other channels."""
        deltas = self.action_space.places("delta")
        if not np.isfinite(positions[deltas]).all():
            raise ValueError("positions: not finite")
        after = np.zeros(self.action_space.dim)
        after[deltas] = positions[deltas] + self.actions(block)[:, deltas].sum(0)
        return self._tensor(after)

    def _solve(self, problem: PlanningProblem, deadline: Deadline) -> Found:
        may_end_early = self.config.agreement_std > 0.0 or self.config.deadline_ms < PlannerConfig.deadline_ms
        if self.device.type != "cuda" or may_end_early or self.config.solver == "gradient":
            return self._search(problem, self._generator, deadline)
        shape = (len(problem.z), problem.positions is not None)
        if shape not in self._captured:
            self._captured[shape] = StaticCall(
                lambda inputs: self._search(inputs, self._generator, Deadline()), self._generator
            )
        return self._captured[shape](problem)

    def _in_units(self, blocks: Tensor) -> NDArray[np.float64]:
        return self.action_space.denormalise(blocks.double().cpu().numpy())

    def _tensor(self, array: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)
