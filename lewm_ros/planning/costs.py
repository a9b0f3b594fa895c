"""What makes a plan good: residuals that should be small. The cost of a plan is the sum of their squares.

Given as residuals, a cost can be searched by least squares as well as by sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lewm_ros.config import PlannerConfig


@dataclass(frozen=True)
class Candidates:
    """Plans and what they lead to.

    Attributes:
        actions: z-scored (B, S, T * block, 7), per control step.
        before: the z-scored action (7,) just before the first.
        embeddings: predicted (B, S, T, D), after each block.
        goal: embedding (D,).
        positions_rad: joint positions (B, S, T * block, 7) after each control step; None if they are not known.
    """

    actions: Tensor
    before: Tensor
    embeddings: Tensor
    goal: Tensor
    positions_rad: Tensor | None = None


class CostTerm(Protocol):
    """One thing that a plan should have little of."""

    def __call__(self, candidates: Candidates) -> Tensor:
        """Residuals (B, S, R)."""
        ...


class Displacement(Protocol):
    """How an embedding differs from a goal: a vector whose squared length is the distance."""

    def __call__(self, z: Tensor, goal: Tensor) -> Tensor:
        """(..., D), (D,) -> (..., R)."""
        ...


def latent_displacement(z: Tensor, goal: Tensor) -> Tensor:
    """The difference of embeddings (..., D) and goal (D,), scaled so that its square is the mean over dimensions."""
    return (z - goal) * z.shape[-1] ** -0.5


@dataclass(frozen=True)
class GoalDistance:
    """The squared distance to the goal at the last step, plus `running_weight` times its mean over all steps."""

    displacement: Displacement
    running_weight: float = 0.0

    def __call__(self, candidates: Candidates) -> Tensor:
        if self.running_weight == 0.0:
            return self.displacement(candidates.embeddings[:, :, -1], candidates.goal)
        steps = candidates.embeddings.shape[2]
        weight = torch.full((steps,), self.running_weight / steps, device=candidates.goal.device)
        weight[-1] += 1.0
        return (self.displacement(candidates.embeddings, candidates.goal) * weight.sqrt()[:, None]).flatten(2)


@dataclass(frozen=True)
class Smoothness:
    """Change between successive actions, the executed one before the plan included; the square is its mean."""

    def __call__(self, candidates: Candidates) -> Tensor:
        before = candidates.before.expand(*candidates.actions.shape[:2], 1, -1)
        change = torch.diff(candidates.actions, dim=2, prepend=before).flatten(2)
        return change * change.shape[-1] ** -0.5


@dataclass(frozen=True)
class LimitMargin:
    """How far joints come into the margin along an edge: 0 outside of it, 1 at the edge; the square is its mean.

    Args:
        low_rad, high_rad: the edges (7,).
        margin_rad: width of the margin.
    """

    low_rad: Tensor
    high_rad: Tensor
    margin_rad: float

    def __call__(self, candidates: Candidates) -> Tensor:
        if candidates.positions_rad is None:
            return candidates.actions.new_zeros(*candidates.actions.shape[:2], 1)
        positions = candidates.positions_rad
        room = torch.minimum(positions - self.low_rad, self.high_rad - positions).flatten(2)
        return (1.0 - room / self.margin_rad).clamp_min(0.0) * room.shape[-1] ** -0.5


@dataclass(frozen=True)
class WeightedTerms:
    """Terms side by side, each with the weight of its square."""

    terms: tuple[tuple[float, CostTerm], ...]

    def __call__(self, candidates: Candidates) -> Tensor:
        return torch.cat([weight**0.5 * term(candidates) for weight, term in self.terms], dim=-1)


def compose(
    config: PlannerConfig,
    map_displacement: Displacement | None,
    gap: Displacement | None,
    edges_rad: tuple[Tensor, Tensor] | None,
) -> WeightedTerms:
    """The cost that a configuration asks for; terms of weight 0 are left out.

    Args:
        config: the weights.
        map_displacement: on the proposal's map, if there is a proposal.
        gap: whose square is the learned number of blocks to the goal, if the checkpoint has it.
        edges_rad: lowest and highest known joint positions (7,), if there are such.

    Raises:
        ValueError: nothing would pull towards the goal.
    """
    distances = (
        (config.latent_weight, latent_displacement),
        (config.map_weight, map_displacement),
        (config.gap_weight, gap),
    )
    terms: list[tuple[float, CostTerm]] = [
        (weight, GoalDistance(displacement, config.running_weight))
        for weight, displacement in distances
        if weight > 0.0 and displacement is not None
    ]
    if not terms:
        raise ValueError("planner: no distance to the goal has a weight above 0; set latent_weight")
    if config.smoothness_weight > 0.0:
        terms.append((config.smoothness_weight, Smoothness()))
    if config.limit_weight > 0.0 and edges_rad is not None:
        terms.append((config.limit_weight, LimitMargin(*edges_rad, config.limit_margin_rad)))
    return WeightedTerms(tuple(terms))
