"""A goal-conditioned guess of the next action block, on frozen embeddings.

It tells the planner where to begin its search: far from the goal the latent distance is nearly flat, and sampling alone
seldom finds the way. Like GC-IDM (arXiv 2605.08732) it learns from actions alone what leads from one embedding to
another; here an embedding is put on a map of `ACTION_DIM` coordinates in which actions add up, so that what was learned
inside episodes also holds between embeddings that no episode has joined.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lewm_ros.config import ProposalConfig
from lewm_ros.robot.action_space import ACTION_DIM


class Proposal(nn.Module):
    """An MLP from embeddings to places on the map; the way to the goal is the difference of two places."""

    scale: Tensor

    def __init__(self, config: ProposalConfig, embedding_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config = config
        self.action_block = action_dim // ACTION_DIM
        width = config.width
        self.map = nn.Sequential(
            nn.Linear(embedding_dim, width),
            *(
                layer
                for _ in range(config.depth)
                for layer in (nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
            ),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Linear(width, ACTION_DIM),
        )
        self.register_buffer("scale", torch.ones(ACTION_DIM))

    def way(self, z: Tensor, goal: Tensor) -> Tensor:
        """The sum (..., 7) of z-scored actions that leads from embeddings (..., D) to goals (..., D)."""
        return (self.map(goal) - self.map(z)) * self.scale

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """From goals (..., D) to embeddings (..., D) on the map (..., 7); its square is the mean over coordinates."""
        return (self.map(z) - self.map(goal)) * ACTION_DIM**-0.5

    def forward(self, z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        """Embeddings (..., D), goals (..., D), blocks left (...,) -> z-scored blocks (..., A), one even step each."""
        step = self.way(z, goal) / (blocks_left * self.action_block).unsqueeze(-1)
        return step.repeat(*[1] * (step.ndim - 1), self.action_block)
