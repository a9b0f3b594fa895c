"""A goal-conditioned policy on states: what a demonstrator would do next, and how long it would take to the goal.

Like GC-IDM (arXiv 2605.08732) it learns from pairs of frames of one demonstration, with actions alone as labels. It
gives a distribution, so that a search can draw its first plans from it, and every control step of a block, so that it
can be asked at any of them and bridges the time until the next answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from lewm_ros.config import PolicyConfig
from lewm_ros.model.lewm import LeWorldModel

LOG_SCALE = (-4.0, 1.0)
"""Bounds of the logarithm of a scale, in standard deviations of the actions."""


@dataclass(frozen=True)
class Guess:
    """What a demonstrator would do next.

    Attributes:
        blocks: z-scored (..., A), the median of a Laplace distribution.
        scales: of that distribution (..., A): the mean absolute deviation.
        left: (...,) the control steps to the goal.
    """

    blocks: Tensor
    scales: Tensor
    left: Tensor


class Policy(nn.Module):
    """An MLP from a state, a goal and the way between them to a `Guess`.

    States are given as vectors (..., K * D), goals (..., Kg * D): tokens side by side.

    Args:
        config: sizes.
        state_dim: K * D.
        goal_places: where the numbers of a goal stand in a state (Kg * D,).
        block_dim: A.
        longest: control steps that count as one in `left`'s regression.
    """

    goal_places: Tensor

    def __init__(
        self, config: PolicyConfig, state_dim: int, goal_places: Tensor, block_dim: int, longest: float = 100.0
    ) -> None:
        super().__init__()
        self.config, self.block_dim, self.longest = config, block_dim, longest
        self.register_buffer("goal_places", goal_places, persistent=False)
        sizes = [state_dim + 2 * len(goal_places), *[config.width] * config.depth]
        layers = [nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()) for a, b in pairwise(sizes)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(config.width, 2 * block_dim + 1)

    def forward(self, z: Tensor, goal: Tensor) -> Guess:
        """States (..., K * D) and goals (..., Kg * D) -> what follows."""
        way = goal - z.index_select(-1, self.goal_places)
        found = self.head(self.body(torch.cat([z, goal.expand_as(way), way], dim=-1))).float()
        blocks, scales, left = found.split([self.block_dim, self.block_dim, 1], dim=-1)
        return Guess(blocks, scales.clamp(*LOG_SCALE).exp(), left[..., 0].sigmoid() * 2.0 * self.longest)

    def loss(self, z: Tensor, goal: Tensor, blocks: Tensor, left: Tensor) -> Tensor:
        """Mean absolute error of z-scored actions (..., A), plus what teaches the scales, plus that of the steps left.

        The scales are taught by the likelihood with the error held fixed, so that what cannot be told does not count
        less in the error itself.
        """
        guess = self(z, goal)
        error = (guess.blocks - blocks).abs()
        likelihood = error.detach() / guess.scales + guess.scales.log()
        time = (guess.left - left).abs() / self.longest
        return error.mean() + 0.1 * likelihood.mean() + 0.1 * time.mean()


def make_policy(config: PolicyConfig, model: LeWorldModel) -> Policy:
    """A policy on the states of a model, randomly initialised."""
    width = model.config.embedding_dim
    places = torch.tensor(model.goal_tokens)[:, None] * width + torch.arange(width)
    return Policy(config, model.tokens * width, places.flatten(), model.config.action_dim)
