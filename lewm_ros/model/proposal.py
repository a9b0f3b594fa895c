"""A goal-conditioned guess of the next action block, on frozen embeddings (GC-IDM, arXiv 2605.08732).

It tells the planner where to begin its search. Far from the goal the latent distance is nearly flat, and sampling alone
seldom finds the way; what the arm did between two embeddings in the data is a good first guess.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lewm_ros.config import ProposalConfig


class Proposal(nn.Module):
    """An MLP (embedding, goal embedding, blocks left) -> action block."""

    def __init__(self, config: ProposalConfig, embedding_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.layers = nn.Sequential(
            nn.Linear(2 * embedding_dim + 1, width),
            *(
                layer
                for _ in range(config.depth)
                for layer in (nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
            ),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Linear(width, action_dim),
        )

    def forward(self, z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        """Embeddings (..., D), goals (..., D) and blocks left (...,) -> z-scored blocks (..., A)."""
        left = blocks_left.clamp(1, self.config.longest).unsqueeze(-1) / self.config.longest
        return self.layers(torch.cat([z, goal, left.to(z)], dim=-1))
