"""A learned cost: how many blocks lie between two embeddings (frame gap, arXiv 2608.12959)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lewm_ros.config import GapConfig


class FrameGap(nn.Module):
    """An MLP puts embeddings in a space whose distances are numbers of blocks: zero between equals, and symmetric."""

    def __init__(self, config: GapConfig, embedding_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.space = nn.Sequential(
            nn.Linear(embedding_dim, width),
            *(
                layer
                for _ in range(config.depth)
                for layer in (nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
            ),
        )

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """From a goal (D,) or goals (..., D) to embeddings (..., D) in that space; its length is the gap in blocks."""
        return self.space(z) - self.space(goal)

    def forward(self, z: Tensor, goal: Tensor) -> Tensor:
        """Blocks (...,) from embeddings (..., D) to a goal (D,) or goals (..., D)."""
        return torch.linalg.vector_norm(self.displacement(z, goal), dim=-1)
