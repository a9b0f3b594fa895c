"""Where solvers and costs meet: candidates in, residuals out, the best plan back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lewm_ros.config import ConfigError, check_settings, setting

Residuals = Callable[[Tensor], Tensor]
"""Candidate plans (B, S, T, A) of B problems -> residuals (B, S, R); the sum of their squares is the cost."""


@dataclass(frozen=True)
class SearchSettings:
    """What every solver knows. A solver with more settings keeps them, with their meaning, beside itself."""

    horizon: int = setting(5, "planned beyond the block under way", "blocks", 1, 100)
    iterations: int = setting(10, "of the solver", "", 1, 1_000_000)
    knots_per_block: int = setting(5, "free actions in a block, each held for its share of it", "actions", 1, 1_000)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Plan:
    """The best sequences found for B problems.

    Attributes:
        blocks: z-scored (B, T, A).
        cost: (B,); infinite where no candidate had a finite cost.
        elites: the best candidates of the last iteration (B, K, T, A), best first.
        iterations: how many were finished.
    """

    blocks: Tensor
    cost: Tensor
    elites: Tensor
    iterations: int


MARGIN = 1.25
"""How much longer than the longest one so far the next step may take."""


class Deadline:
    """When a plan has to be there. A step is begun only if it would still end in time, taking a little longer."""

    def __init__(self, at_s: float = math.inf) -> None:
        self._at_s = at_s
        self._longest_s = 0.0
        self._mark_s: float | None = None

    @classmethod
    def after(cls, started_s: float, milliseconds: float) -> Deadline:
        """So many milliseconds after a time of `time.perf_counter`."""
        return cls(started_s + milliseconds / 1000.0)

    def allows_step(self) -> bool:
        """Whether to begin another step; called at the beginning of each."""
        now_s = time.perf_counter()
        if self._mark_s is not None:
            self._longest_s = max(self._longest_s, now_s - self._mark_s)
        self._mark_s = now_s
        return now_s + MARGIN * self._longest_s < self._at_s


class Solver(Protocol):
    """A way to search."""

    def solve(self, residuals: Residuals, starts: Tensor, generator: torch.Generator, deadline: Deadline) -> Plan:
        """Search from the best of the sequences `starts` (B, P, T, A), which are scored too.

        Candidates whose cost is not finite are never chosen. A deadline that has passed gives the first start.
        """
        ...


class SearchSpace:
    """What is free in a block: `knots` actions within bounds, each held for its share of the block.

    Args:
        low, high: bounds (A,) of a z-scored block.
        action_block: control steps in a block; A = action_block * action dimension.
        knots: free actions per block.

    Raises:
        ConfigError: the knots do not divide the block.
        ValueError: the bounds contradict each other.
    """

    def __init__(self, low: Tensor, high: Tensor, action_block: int, knots: int) -> None:
        if action_block % knots:
            raise ConfigError(f"knots_per_block {knots} does not divide action_block {action_block}")
        if not bool((low <= high).all()):
            raise ValueError("action bounds: a lower bound lies above its upper bound")
        self._knots, self._hold = knots, action_block // knots
        self.low, self.high = self.to_knots(low), self.to_knots(high)  # (knots, dim)

    def to_knots(self, blocks: Tensor) -> Tensor:
        """Blocks (..., A) -> knots (..., knots, dim): the mean over each held group."""
        return blocks.unflatten(-1, (self._knots, self._hold, -1)).mean(-2)

    def to_blocks(self, knots: Tensor) -> Tensor:
        """Knots (..., knots, dim) -> blocks (..., A)."""
        return knots.repeat_interleave(self._hold, dim=-2).flatten(-2)

    def clamp(self, knots: Tensor) -> Tensor:
        """Knots (..., knots, dim) within the bounds."""
        return knots.clamp(self.low, self.high)

    def score(self, residuals: Residuals, knots: Tensor) -> Tensor:
        """Costs (B, S) of candidates (B, S, T, knots, dim)."""
        return total(residuals(self.to_blocks(knots)))


@dataclass(frozen=True)
class Best:
    """The best candidates so far (B, T, knots, dim) and their costs (B,)."""

    knots: Tensor
    cost: Tensor

    @classmethod
    def of(cls, candidates: Tensor, costs: Tensor) -> Best:
        """The best of candidates (B, S, T, knots, dim) with costs (B, S)."""
        cost, index = costs.min(1)
        return cls(pick(candidates, index.unsqueeze(1))[:, 0], cost)

    def better_of(self, other: Best) -> Best:
        """The better one, problem by problem."""
        better = other.cost < self.cost
        knots = torch.where(better[:, None, None, None], other.knots, self.knots)
        return Best(knots, torch.where(better, other.cost, self.cost))


def pick(candidates: Tensor, index: Tensor) -> Tensor:
    """Of candidates (B, S, ...) those at `index` (B, K) -> (B, K, ...)."""
    return candidates[torch.arange(len(index), device=index.device).unsqueeze(1), index]


def total(residuals: Tensor) -> Tensor:
    """Costs (B, S) of residuals (B, S, R); what is not finite counts as infinitely bad."""
    costs = residuals.float().square().sum(-1)
    return torch.where(costs.isfinite(), costs, float("inf"))
