"""Whether a goal looks like those of the demonstrations: a goal image without the object leads a policy anywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lewm_ros.config import FamiliarityConfig


class Familiarity(nn.Module):
    """How far a goal lies from the demonstrations' goals, over how far such goals usually lie from one another.

    The distance is Mahalanobis'. Goals are given as vectors (..., Z), all tokens that a goal has side by side.
    """

    mean: Tensor
    precision: Tensor
    usual: Tensor

    def __init__(self, config: FamiliarityConfig, goal_dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(goal_dim))
        self.register_buffer("precision", torch.eye(goal_dim))
        self.register_buffer("usual", torch.ones(()))

    @torch.no_grad()
    def learn(self, goals: Tensor, held_out: Tensor) -> None:
        """From goals (N, Z) of demonstrations, and others (M, Z) that say how far such goals usually lie from them."""
        covariance = torch.cov(goals.T.double())
        variances = covariance.diagonal()
        shrunk = (1.0 - self.config.shrinkage) * covariance + self.config.shrinkage * variances.diag()
        least = 1e-9 + 1e-6 * variances.mean()
        self.mean.copy_(goals.mean(0))
        self.precision.copy_(torch.linalg.inv(shrunk + least * torch.eye(len(variances))))
        self.usual.copy_(self._distance(held_out).median())

    def forward(self, goals: Tensor) -> Tensor:
        """How strange goals (..., Z) are (...,): about 1 for those of demonstrations."""
        return self._distance(goals) / self.usual

    def _distance(self, goals: Tensor) -> Tensor:
        aside = goals - self.mean
        return ((aside @ self.precision) * aside).sum(-1).clamp_min(0.0).sqrt()


def enough_to_learn_from(goals: int, goal_dim: int) -> bool:
    """Whether so many goals say how they are spread: from fewer, what is usual looks strange."""
    return 2 * goals >= 3 * goal_dim
