"""What makes a plan good: residuals that should be small. The cost of a plan is the sum of their squares.

Given as residuals, a cost can be searched by least squares as well as by sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lewm_ros.config import setting

WEIGHT = ("", 0.0, 1e6)


@dataclass(frozen=True)
class CostSettings:
    """The cost adds up weighted terms.

    Distances to the goal count at the last step, plus `running_weight` times their mean over all steps: a loop that
    replans at every block needs some of the latter, since with the last step alone arriving can be put off from plan to
    plan.
    """

    latent_weight: float = setting(1.0, "of the latent distance to the goal", *WEIGHT)
    running_weight: float = setting(0.0, "of the mean over all steps, beside the last step", *WEIGHT)
    map_weight: float = setting(0.0, "of the distance to the goal in the proposal's map", *WEIGHT)
    gap_weight: float = setting(0.0, "of the learned number of blocks to the goal", *WEIGHT)
    smoothness_weight: float = setting(0.0, "of the squared change between successive actions", *WEIGHT)
    limit_weight: float = setting(0.0, "of coming near the edge of the positions known from training", *WEIGHT)
    limit_margin_rad: float = setting(0.1, "what is near that edge", "rad", 0.001, 3.0)


@dataclass(frozen=True)
class Candidates:
    """Plans and what they lead to.

    Attributes:
        actions: z-scored (B, S, T * block, dim), per control step.
        before: the z-scored action (dim,) just before the first.
        states: predicted (B, S, T, Z), after each block: of each state, the tokens that a goal has, side by side.
        goal: (Z,).
        positions: what the delta channels add up to (B, S, T * block, dim) after each control step; None if it is not
            known.
    """

    actions: Tensor
    before: Tensor
    states: Tensor
    goal: Tensor
    positions: Tensor | None = None


class CostTerm(Protocol):
    """One thing that a plan should have little of."""

    def __call__(self, candidates: Candidates) -> Tensor:
        """Residuals (B, S, R)."""
        ...


class Displacement(Protocol):
    """How a state differs from a goal: a vector whose squared length is the distance."""

    def __call__(self, z: Tensor, goal: Tensor) -> Tensor:
        """(..., Z), (Z,) -> (..., R)."""
        ...


def latent_displacement(z: Tensor, goal: Tensor) -> Tensor:
    """The difference of states (..., Z) and goal (Z,), scaled so that its square is the mean over dimensions."""
    return (z - goal) * z.shape[-1] ** -0.5


@dataclass(frozen=True)
class GoalDistance:
    """The squared distance to the goal at the last step, plus `running_weight` times its mean over all steps."""

    displacement: Displacement
    running_weight: float = 0.0

    def __call__(self, candidates: Candidates) -> Tensor:
        if self.running_weight == 0.0:
            return self.displacement(candidates.states[:, :, -1], candidates.goal)
        steps = candidates.states.shape[2]
        weight = torch.full((steps,), self.running_weight / steps, device=candidates.goal.device)
        weight[-1] += 1.0
        return (self.displacement(candidates.states, candidates.goal) * weight.sqrt()[:, None]).flatten(2)


@dataclass(frozen=True)
class Smoothness:
    """Change between successive actions, the executed one before the plan included; the square is its mean."""

    def __call__(self, candidates: Candidates) -> Tensor:
        before = candidates.before.expand(*candidates.actions.shape[:2], 1, -1)
        change = torch.diff(candidates.actions, dim=2, prepend=before).flatten(2)
        return change * change.shape[-1] ** -0.5


@dataclass(frozen=True)
class LimitMargin:
    """How far channels come into the margin along an edge: 0 outside of it, 1 at the edge; the square is its mean.

    Args:
        low, high: the edges (dim,); infinite where there is none.
        margin: width of the margin.
    """

    low: Tensor
    high: Tensor
    margin: float

    def __call__(self, candidates: Candidates) -> Tensor:
        if candidates.positions is None:
            return candidates.actions.new_zeros(*candidates.actions.shape[:2], 1)
        positions = candidates.positions
        room = torch.minimum(positions - self.low, self.high - positions).flatten(2)
        return (1.0 - room / self.margin).clamp_min(0.0) * room.shape[-1] ** -0.5


@dataclass(frozen=True)
class WeightedTerms:
    """Terms side by side, each with the weight of its square."""

    terms: tuple[tuple[float, CostTerm], ...]

    def __call__(self, candidates: Candidates) -> Tensor:
        return torch.cat([weight**0.5 * term(candidates) for weight, term in self.terms], dim=-1)


@dataclass(frozen=True)
class WeightedDistances:
    """Distances to the goal, each with its weight."""

    distances: tuple[tuple[float, Displacement], ...]

    @classmethod
    def of(
        cls, config: CostSettings, map_displacement: Displacement | None, gap: Displacement | None
    ) -> WeightedDistances:
        """Those that a configuration asks for; those of weight 0 are left out.

        Args:
            config: the weights.
            map_displacement: on the proposal's map, if there is a proposal.
            gap: whose square is the learned number of blocks to the goal, if the checkpoint has it.

        Raises:
            ValueError: nothing would pull towards the goal.
        """
        known = (
            (config.latent_weight, latent_displacement),
            (config.map_weight, map_displacement),
            (config.gap_weight, gap),
        )
        distances = tuple((weight, each) for weight, each in known if weight > 0.0 and each is not None)
        if not distances:
            raise ValueError("planner: no distance to the goal has a weight above 0; set latent_weight")
        return cls(distances)

    def __call__(self, z: Tensor, goal: Tensor) -> Tensor:
        """How far a state (Z,) is from a goal (Z,): a scalar."""
        return torch.stack([weight * each(z, goal).square().sum() for weight, each in self.distances]).sum()


def compose(config: CostSettings, distances: WeightedDistances, edges: tuple[Tensor, Tensor] | None) -> WeightedTerms:
    """The cost of plans that a configuration asks for; terms of weight 0 are left out.

    Args:
        config: the weights.
        distances: to the goal.
        edges: lowest and highest known positions of the delta channels (dim,), if there are such.
    """
    terms: list[tuple[float, CostTerm]] = [
        (weight, GoalDistance(displacement, config.running_weight)) for weight, displacement in distances.distances
    ]
    if config.smoothness_weight > 0.0:
        terms.append((config.smoothness_weight, Smoothness()))
    if config.limit_weight > 0.0 and edges is not None:
        terms.append((config.limit_weight, LimitMargin(*edges, config.limit_margin_rad)))
    return WeightedTerms(tuple(terms))
