"""One planning problem as tensors: roll through the block under way, propose starts, search, pick the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lewm_ros.config import PlannerConfig
from lewm_ros.planning.costs import Candidates, compose
from lewm_ros.planning.solver import Deadline, SearchSpace
from lewm_ros.planning.solvers import make_solver
from lewm_ros.robot.action_space import ActionSpace

PROPOSED_ARRIVALS = (2, 4, 8)
"""Blocks until the goal for which a start of the search is proposed."""


class WorldModel(Protocol):
    """What planning needs to know of a model."""

    def start(self, z: Tensor, past_actions: Tensor) -> Callable[[Tensor], Tensor]:
        """Embeddings (B, H, D) of the newest frames and the z-scored blocks (B, H-1, A) between them.

        Returns:
            a function from plans (B, S, T, A) to the embeddings (B, S, T, D) that they lead to.
        """
        ...


class Proposer(Protocol):
    """A learned guess of the next action block, and the map that it is read from."""

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """(..., D), (D,) -> from the goal to the embedding on the map (..., 7)."""
        ...

    def __call__(self, z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        """(P, D), (P, D), (P,) -> z-scored blocks (P, A)."""
        ...


class Gap(Protocol):
    """A learned number of blocks between embeddings."""

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """(..., D), (D,) -> a vector (..., R) as long as the gap."""
        ...


@dataclass(frozen=True)
class Problem:
    """Where the robot is and where it should go.

    Attributes:
        z: embeddings (H, D) of the newest frames, one block apart, oldest first.
        past_actions: z-scored blocks (H-1, A) executed between them.
        under_way: the z-scored block (A,) being executed, which begins at the newest frame; None if the robot rests
            until the plan is there, and the plan begins at the newest frame.
        goal: embedding (D,).
        start: z-scored blocks (T, A) planned before for what follows the block under way.
        positions_rad: joint positions (7,) at the end of the block under way; None if they are not known.
    """

    z: Tensor
    past_actions: Tensor
    under_way: Tensor | None
    goal: Tensor
    start: Tensor
    positions_rad: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """The best plan.

    Attributes:
        blocks: z-scored (T, A).
        cost: scalar; infinite if no plan had a finite cost or there was no time for any.
        elites: other good plans (K, T, A), best first.
        expected: the embedding (D,) from which the plan begins, predicted for the end of the block under way.
        iterations: of the solver, finished.
    """

    blocks: Tensor
    cost: Tensor
    elites: Tensor
    expected: Tensor
    iterations: int


class Search:
    """A model, a solver and a cost, ready for problems. It keeps no state between them.

    Args:
        model: rolls out plans.
        config: solver, cost and sizes.
        action_space: z-scores blocks and bounds them.
        history: embeddings that the model looks back on.
        device: where the model lives.
        proposal: guesses where the search should begin.
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
        device: torch.device,
        proposal: Proposer | None = None,
        gap: Gap | None = None,
    ) -> None:
        self._model, self._config, self._history, self._proposal = model, config, history, proposal
        self._block = action_space.action_block
        tensors = (np.asarray(v, np.float32) for v in (*action_space.bounds(), action_space.mean, action_space.std))
        self._low, self._high, self._mean, self._std = (torch.as_tensor(t, device=device) for t in tensors)
        self._rest = -self._mean / self._std  # no action at all, z-scored
        self._edges = None
        if action_space.known_low:
            low, high = action_space.known_low, action_space.known_high
            self._edges = (torch.tensor(low, device=device), torch.tensor(high, device=device))
        self._arrivals = torch.tensor(PROPOSED_ARRIVALS, device=device)
        space = SearchSpace(self._low, self._high, self._block, config.knots_per_block)
        self._solver = make_solver(config, space)
        self._residuals = compose(
            config, proposal.displacement if proposal else None, gap.displacement if gap else None, self._edges
        )

    def __call__(self, problem: Problem, generator: torch.Generator, deadline: Deadline) -> Found:
        """Search what follows the block under way."""
        z, past = self._begin(problem)
        imagine = self._model.start(z, past)
        executed = problem.past_actions if problem.under_way is None else problem.under_way.unsqueeze(0)
        before = self._per_step(executed)[-1] if len(executed) else self._rest

        def residuals(plans: Tensor) -> Tensor:
            plans, positions = self._keep_known(plans, problem.positions_rad)
            actions = self._per_step(plans)
            return self._residuals(Candidates(actions, before, imagine(plans), problem.goal, positions))

        starts = problem.start[None, None]  # (1, 1, T, A)
        if self._proposal is not None and deadline.allows_step():
            starts = torch.cat([starts, self._propose(z, past, problem.goal).unsqueeze(0)], dim=1)
        plan = self._solver.solve(residuals, starts, generator, deadline)
        plans = torch.cat([plan.blocks.unsqueeze(1), plan.elites], dim=1)
        kept = self._keep_known(plans, problem.positions_rad)[0][0]
        return Found(kept[0], plan.cost[0], kept[1:], z[0, -1], plan.iterations)

    def follow(self, problem: Problem, blocks: Tensor) -> Tensor:
        """The embeddings (T, D) predicted for the ends of z-scored blocks (T, A) after the block under way."""
        return self._model.start(*self._begin(problem))(blocks[None, None])[0, 0].float()

    def _begin(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """The history where the plan begins: embeddings (1, H, D) and the blocks between them (1, H-1, A)."""
        z, past = problem.z.unsqueeze(0), problem.past_actions.unsqueeze(0)
        if problem.under_way is None:
            return z, past
        under_way = problem.under_way[None, None]
        after = self._model.start(z, past)(under_way.unsqueeze(0))[:, 0]  # (1, 1, D)
        return self._shift(z, past, after, under_way)

    def _keep_known(self, plans: Tensor, begin: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Plans (B, S, T, A) with every joint stopped at the edge of what the training data visited.

        Returns:
            the plans, and the joint positions (B, S, T * block, 7) that they lead through.
        """
        if begin is None or self._edges is None:
            return plans, None
        # Who stands outside already may come in or stay, but need not jump.
        low, high = torch.minimum(self._edges[0], begin), torch.maximum(self._edges[1], begin)
        steps = self._per_step(plans) * self._std + self._mean
        positions = (begin + steps.cumsum(2)).clamp(low, high)
        steps = torch.diff(positions, dim=2, prepend=begin.expand(*plans.shape[:2], 1, -1))
        kept = ((steps - self._mean) / self._std).unflatten(2, (-1, self._block)).flatten(3)
        return kept, positions

    def _per_step(self, blocks: Tensor) -> Tensor:
        """Blocks (..., T, A) -> actions (..., T * block, 7)."""
        return blocks.unflatten(-1, (self._block, -1)).flatten(-3, -2)

    def _propose(self, z: Tensor, past: Tensor, goal: Tensor) -> Tensor:
        """Starts of the search (P, T, A): the proposal followed through the model, for several times of arrival."""
        left = self._arrivals
        goals = goal.expand(len(left), -1)
        z, past = z.expand(len(left), -1, -1), past.expand(len(left), -1, -1)
        blocks: list[Tensor] = []
        for step in range(self._config.horizon):
            guess = self._proposal(z[:, -1], goals, (left - step).clamp_min(1))
            block = guess.clamp(self._low, self._high)[:, None]  # (P, 1, A)
            blocks.append(block)
            after = self._model.start(z, past)(block.unsqueeze(1))[:, 0]  # (P, 1, D)
            z, past = self._shift(z, past, after, block)
        return torch.cat(blocks, dim=1)

    def _shift(self, z: Tensor, past: Tensor, after: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """The history one block later: embeddings (P, H, D) and the blocks between them (P, H-1, A)."""
        z = torch.cat([z, after], dim=1)[:, -self._history :]
        past = torch.cat([past, block], dim=1)
        return z, past[:, past.shape[1] - z.shape[1] + 1 :]
