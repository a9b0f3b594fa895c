"""The receding-horizon planner: embeddings at block boundaries in, action blocks out, one block ahead of the robot."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import PlannerConfig
from lewm_ros.planning.search import Found, Gap, Problem, Proposer, Search, WorldModel
from lewm_ros.planning.solver import Deadline
from lewm_ros.planning.static_call import StaticCall
from lewm_ros.planning.surprise import PredictionError
from lewm_ros.robot.action_space import ActionSpace

FOUND, OUT_OF_TIME, NOT_FINITE = "found", "out of time", "no finite cost"


@dataclass(frozen=True)
class Decision:
    """What one planning cycle decided.

    Attributes:
        block: number of the first block that `actions` speak of.
        actions: per control step (horizon, action_block, 7), in the action space's units.
        cost: of the plan, as composed; infinite unless `status` is 'found'.
        status: 'found'; 'out of time' or 'no finite cost' if `actions` are the ones planned before.
        elites: other good plans (K, horizon, action_block, 7), best first.
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
    `observe(k, embedding)`, then `decide(k, goal)`: while that computes, the robot executes block k as scheduled; the
    model is rolled through it first, and the search covers blocks k + 1 to k + horizon. A decision enters the schedule
    by `adopt`, which leaves alone what has begun in the meantime. A block that nobody scheduled is rest.

    One thread may observe and decide while another reads `actions`.

    Args:
        model: rolls out plans.
        config: solver, cost and sizes of the search.
        action_space: z-scores blocks and bounds them.
        history: embeddings that the model looks back on.
        device: where the model lives. On CUDA the whole search is captured in a graph, unless it may end early.
        seed: of the sampling.
        proposal: guesses where the search should begin; without it, only what was planned before does.
        gap: the learned number of blocks to the goal.

    Raises:
        ValueError: the configuration does not suit the action space.
    """

    def __init__(
        self,
        model: WorldModel,
        config: PlannerConfig,
        action_space: ActionSpace,
        history: int,
        device: str | torch.device = "cpu",
        seed: int = 0,
        proposal: Proposer | None = None,
        gap: Gap | None = None,
    ) -> None:
        self.config, self.action_space = config, action_space
        self.device = torch.device(device)
        self._search = Search(model, config, action_space, history, self.device, proposal, gap)
        self._history, self._seed = history, seed
        self._generator = torch.Generator(self.device)
        self._captured: dict[tuple[int, bool], StaticCall] = {}
        self._rest = np.zeros((action_space.action_block, action_space.dim))
        self.reset()

    def reset(self) -> None:
        """Forget history and schedule: the robot stands still and blocks are numbered from 0 again."""
        self._generator.manual_seed(self._seed)
        self._embeddings: dict[int, Tensor] = {}
        self._schedule: dict[int, NDArray[np.float64]] = {}
        self._expected: tuple[int, Tensor, Tensor] | None = None
        self._decided: Problem | None = None

    def actions(self, block: int) -> NDArray[np.float64]:
        """The scheduled actions (action_block, 7) of a block."""
        return self._schedule.get(block, self._rest)

    @torch.no_grad()
    def observe(self, block: int, embedding: Tensor) -> PredictionError | None:
        """Take in the embedding (D,) at the start of a block.

        Returns:
            how wrong the prediction made one block before was; None if there was none.

        Raises:
            ValueError: the embedding is not finite; it is not taken in.
        """
        if not bool(torch.isfinite(embedding).all()):
            raise ValueError("embedding: not finite; check the camera image")
        embedding = embedding.to(self.device, torch.float32, copy=True)
        self._embeddings = {k: z for k, z in self._embeddings.items() if block - self._history < k < block}
        self._embeddings[block] = embedding
        if self._expected is None or self._expected[0] != block:
            return None
        _, expected, before = self._expected
        error, change = ((expected - z).square().mean() for z in (embedding, before))
        return PredictionError(float(error), float(change))

    @torch.no_grad()
    def decide(self, block: int, goal: Tensor, positions_rad: NDArray[np.float64] | None = None) -> Decision:
        """Search what follows the scheduled block `block`, whose start was observed, towards the goal (D,).

        Args:
            block: the block under way.
            goal: embedding of the goal (D,).
            positions_rad: joint positions (7,) at the start of the block. Given these, plans stay inside the joint
                positions that the training data visited: beyond them the model knows nothing.

        Raises:
            ValueError: the start of `block` was not observed, or the goal or the positions are not finite or of
                another size.
        """
        deadline = Deadline.after(time.perf_counter(), self.config.deadline_ms)
        problem = self._problem(block, goal, positions_rad)
        found = self._solve(problem, deadline)
        self._decided = problem
        self._expected = (block + 1, found.expected, self._embeddings[block])
        cost = float(found.cost)
        if np.isfinite(cost):
            status, blocks = FOUND, found.blocks
        else:
            status, blocks = (OUT_OF_TIME if found.iterations == 0 else NOT_FINITE), problem.start
        return Decision(block + 1, self._in_units(blocks), cost, status, self._in_units(found.elites), found.iterations)

    @torch.no_grad()
    def foresee(self, decision: Decision) -> NDArray[np.float32]:
        """The embeddings (horizon, D) predicted for the ends of the blocks of the newest decision; for eyes only.

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

    def _problem(self, block: int, goal: Tensor, positions_rad: NDArray[np.float64] | None) -> Problem:
        if block not in self._embeddings:
            raise ValueError(f"block {block}: its first frame was not observed")
        goal = goal.to(self.device, torch.float32, copy=True)
        if goal.shape != self._embeddings[block].shape:
            right = tuple(self._embeddings[block].shape)
            raise ValueError(f"goal embedding: has shape {tuple(goal.shape)}, expected {right}")
        if not bool(torch.isfinite(goal).all()):
            raise ValueError("goal embedding: not finite; check the goal image")
        if positions_rad is not None and not np.isfinite(positions_rad).all():
            raise ValueError("joint positions: not finite")
        known = [block]
        while known[0] - 1 in self._embeddings:
            known.insert(0, known[0] - 1)
        blocks = self._tensor(np.stack([self.action_space.normalise(self.actions(k)) for k in known]))
        follow = range(block + 1, block + 1 + self.config.horizon)
        return Problem(
            z=torch.stack([self._embeddings[k] for k in known]),
            past_actions=blocks[:-1],
            under_way=blocks[-1],
            goal=goal,
            start=self._tensor(np.stack([self.action_space.normalise(self.actions(k)) for k in follow])),
            positions_rad=None
            if positions_rad is None or self.action_space.kind != "joint_delta"
            else self._tensor(positions_rad + self.actions(block).sum(0)),
        )

    def _solve(self, problem: Problem, deadline: Deadline) -> Found:
        may_end_early = self.config.agreement_std > 0.0 or self.config.deadline_ms < PlannerConfig.deadline_ms
        if self.device.type != "cuda" or may_end_early or self.config.solver == "gradient":
            return self._search(problem, self._generator, deadline)
        shape = (len(problem.z), problem.positions_rad is not None)
        if shape not in self._captured:
            self._captured[shape] = StaticCall(
                lambda inputs: self._search(inputs, self._generator, Deadline()), self._generator
            )
        return self._captured[shape](problem)

    def _in_units(self, blocks: Tensor) -> NDArray[np.float64]:
        return self.action_space.denormalise(blocks.double().cpu().numpy())

    def _tensor(self, array: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)
