"""Homing: the last part of the way, along the learned map, from what is measured.

Near a goal, predictions err by more than a plan could still gain: plans that look better lead around the goal. There,
at every frame, the robot goes a share of the way that the proposal's map sees between that frame and the goal. This is
feedback on what is seen, as in visual servoing: whatever the model's error, it comes to rest only where the map sees no
way left. GC-IDM (arXiv 2605.08732) acts like that all the way; far from the goal the search finds ways that the map
does not know.

Where the map leads away from the goal, and the search does not find back, the robot returns to where it was nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import setting
from lewm_ros.observation.stamps import NS_PER_S

Array = NDArray[np.float64]


LOST_FACTOR, LOST_SHARE = 3.0, 0.3
"""So many times the least cost, or so much of `homing_cost` above it, is more than noise: homing leads away."""


@dataclass(frozen=True)
class HomingSettings:
    """When the planner homes in instead of searching, and how fast."""

    homing_cost: float = setting(
        0.0, "cost of being where the robot is, below which it homes in instead of searching; 0: never", "", 0.0, 1e6
    )
    homing_rate: float = setting(0.1, "share of the way left that is gone in a control step", "", 0.001, 1.0)
    lost_s: float = setting(
        1.0,
        "so long after homing led away from the goal, the robot goes back to where it was nearest, and stays; 0: never",
        "s",
        0.0,
        1e3,
    )


class Map(Protocol):
    """The proposal, as far as homing needs it. Z: a goal's tokens side by side."""

    deltas: list[int]

    def way(self, z: Tensor, goal: Tensor) -> Tensor:
        """(Z,), (Z,) -> the sum of z-scored actions (deltas,) that leads from one to the other."""
        ...

    def other(self, z: Tensor, goal: Tensor) -> Tensor:
        """(Z,), (Z,) -> the z-scored channels that do not add up (others,)."""
        ...


@dataclass(frozen=True)
class Place:
    """Where the robot was nearest to a goal: the cost of being there, and the positions (dim,)."""

    cost: float
    positions: Array


class WayBack:
    """Remembers where the robot was nearest to the goal, and says when it is to go back there.

    Args:
        lost_s: so long after the cost rose above the least by more than noise, or homing ended; 0: never.
        homing_cost: below which the robot begins to home in.
    """

    def __init__(self, lost_s: float, homing_cost: float) -> None:
        self._lost_ns, self._margin = round(lost_s * NS_PER_S), LOST_SHARE * homing_cost
        self._goal: Tensor | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._nearest: Place | None = None
        self._lost_since_ns: int | None = None
        self.place: Array | None = None

    def saw(self, stamp_ns: int, goal: Tensor, cost: float, positions: Array, homing: bool) -> None:
        """Take in what it cost to be at these positions (dim,) at a frame, and whether the robot homes in on the goal.

        Afterwards `place` is where to go back to and stay, until another goal comes; None: go on.
        """
        if self._goal is None or not torch.equal(goal, self._goal):
            self._goal = goal
            self.forget()
        if self.place is not None or not self._lost_ns:
            return
        if homing and (self._nearest is None or cost < self._nearest.cost):
            self._nearest = Place(cost, positions.copy())
        if self._nearest is None or (homing and cost <= self._highest(self._nearest.cost)):
            self._lost_since_ns = None
            return
        self._lost_since_ns = stamp_ns if self._lost_since_ns is None else self._lost_since_ns
        if stamp_ns - self._lost_since_ns >= self._lost_ns:
            self.place = self._nearest.positions

    def _highest(self, least: float) -> float:
        """The largest cost that is as good as the least one seen."""
        return min(LOST_FACTOR * least, least + self._margin)


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
    steps = torch.zeros_like(scheduled)
    steps[:, deltas] = shares(known.way(z, goal), scheduled[:, deltas], free, rate)
    others = [place for place in range(dim) if place not in deltas]
    if others:
        steps[:, others] = known.other(z, goal)
    return torch.where(free[:, None], steps, scheduled)


def shares(way: Tensor, scheduled: Tensor, free: Tensor, rate: float) -> Tensor:
    """A way (n_deltas,) in steps (n, n_deltas), each a share of what is then left.

    Args:
        way: what the steps are to add up to in the end.
        scheduled: the steps so far.
        free: which of them (n,) may be changed; what the others move is taken off the way.
        rate: the share.
    """
    left = way - torch.where(free[:, None], 0.0, scheduled).sum(0)
    return (rate * (1.0 - rate) ** (free.cumsum(0) - 1))[:, None] * left
