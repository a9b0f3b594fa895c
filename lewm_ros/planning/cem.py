"""The cross-entropy method over sequences of action blocks (Rubinstein, 1999; as used by LeWM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lewm_ros.config import PlannerConfig

CostFunction = Callable[[Tensor], Tensor]
"""Candidate plans (S, T, A) -> their costs (S,)."""


@dataclass(frozen=True)
class Plan:
    """The best sequence found: z-scored blocks (T, A) and its cost."""

    blocks: Tensor
    cost: float


class CEM:
    """Sample, clamp, score, select, refit.

    A block's actions may be tied in groups: with k knots per block, k different actions are searched and each is held
    for block / k control steps. Fewer knots make a smaller search.

    Args:
        config: sizes of the search.
        low, high: bounds (A,) of a z-scored block; every candidate respects them.
        action_block: control steps in a block; A = action_block * 7.
    """

    def __init__(self, config: PlannerConfig, low: Tensor, high: Tensor, action_block: int) -> None:
        if action_block % config.knots_per_block:
            raise ValueError(f"knots_per_block {config.knots_per_block} does not divide action_block {action_block}")
        self.config = config
        self.hold = action_block // config.knots_per_block
        self.low, self.high = self.to_knots(low), self.to_knots(high)  # (knots, 7)

    def to_knots(self, blocks: Tensor) -> Tensor:
        """Blocks (..., A) -> knots (..., knots, 7): the mean over each held group."""
        grouped = blocks.unflatten(-1, (self.config.knots_per_block, self.hold, -1))
        return grouped.mean(-2)

    def to_blocks(self, knots: Tensor) -> Tensor:
        """Knots (..., knots, 7) -> blocks (..., A)."""
        return knots.repeat_interleave(self.hold, dim=-2).flatten(-2)

    def optimise(self, cost: CostFunction, starts: Tensor, generator: torch.Generator) -> Plan:
        """Search around the best of the sequences `starts` (P, T, A).

        The starts and every iteration's mean are scored too, so that the result is never worse than they.
        """
        config = self.config
        candidates = self.to_knots(starts).clamp(self.low, self.high)  # (P, T, knots, 7)
        costs = self._score(cost, candidates)
        best, best_cost = candidates[costs.argmin()], costs.min()
        mean, std = best, torch.full_like(best, config.initial_std)
        for _ in range(config.iterations):
            noise = torch.randn(config.samples, *mean.shape, generator=generator, device=mean.device)
            noise[0] = 0.0
            candidates = (mean + std * noise).clamp(self.low, self.high)  # (S, T, knots, 7)
            elite_costs, index = self._score(cost, candidates).topk(config.elites, largest=False)
            elites = candidates[index]  # (K, T, knots, 7)
            if elite_costs[0] < best_cost:
                best, best_cost = elites[0], elite_costs[0]
            mean = elites.mean(0)
            std = elites.std(0, correction=0).clamp_min(config.minimum_std)
        return Plan(self.to_blocks(best), float(best_cost))

    def _score(self, cost: CostFunction, candidates: Tensor) -> Tensor:
        """Costs (S,) of candidates (S, T, knots, 7); what is not finite counts as infinitely bad."""
        costs = cost(self.to_blocks(candidates)).float()
        return torch.where(costs.isfinite(), costs, float("inf"))
