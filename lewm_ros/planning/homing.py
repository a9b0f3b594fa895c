"""Homing: the last part of the way, along the learned map, from what is measured.

Near a goal, predictions err by more than a plan could still gain: plans that look better lead around the goal. There,
at every frame, the robot goes a share of the way that the proposal's map sees between that frame and the goal. This is
feedback on what is seen, as in visual servoing: whatever the model's error, it comes to rest only where the map sees no
way left. GC-IDM (arXiv 2605.08732) acts like that all the way; far from the goal the search finds ways that the map
does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lewm_ros.config import setting


@dataclass(frozen=True)
class HomingSettings:
    """When the planner homes in instead of searching, and how fast."""

    homing_cost: float = setting(
        0.0, "cost of being where the robot is, below which it homes in instead of searching; 0: never", "", 0.0, 1e6
    )
    homing_rate: float = setting(0.1, "share of the way left that is gone in a control step", "", 0.001, 1.0)


class Map(Protocol):
    """The proposal, as far as homing needs it. Z: a goal's tokens side by side."""

    deltas: list[int]

    def way(self, z: Tensor, goal: Tensor) -> Tensor:
        """(Z,), (Z,) -> the sum of z-scored actions (deltas,) that leads from one to the other."""
        ...

    def other(self, z: Tensor, goal: Tensor) -> Tensor:
        """(Z,), (Z,) -> the z-scored channels that do not add up (others,)."""
        ...


def home_in(known: Map, z: Tensor, goal: Tensor, scheduled: Tensor, free: Tensor, rate: float) -> Tensor:
    """Actions that shrink the way to the goal by a share in every step that is free.

    Args:
        known: the map.
        z: what is seen (Z,).
        goal: where to go (Z,).
        scheduled: z-scored actions (n, dim) that follow what is seen, so far.
        free: which of them (n,) may be changed; what the others move is taken off the way.
        rate: the share.

    Returns:
        z-scored actions (n, dim).
    """
    dim, deltas = scheduled.shape[1], known.deltas
    committed = torch.where(free[:, None], 0.0, scheduled)
    left = known.way(z, goal) - committed[:, deltas].sum(0)
    order = free.cumsum(0) - 1
    steps = torch.zeros_like(scheduled)
    steps[:, deltas] = (rate * (1.0 - rate) ** order)[:, None] * left
    others = [place for place in range(dim) if place not in deltas]
    if others:
        steps[:, others] = known.other(z, goal)
    return torch.where(free[:, None], steps, scheduled)
