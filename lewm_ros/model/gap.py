"""A learned cost: how many blocks lie between two states (frame gap, arXiv 2608.12959)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lewm_ros.config import GapConfig


class FrameGap(nn.Module):
    """An MLP puts states in a space whose distances are numbers of blocks: zero between equals, and symmetric.

    States are given as vectors (..., Z), all tokens that a goal has side by side.
    """

    def __init__(self, config: GapConfig, state_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.space = nn.Sequential(
            nn.Linear(state_dim, width),
            *(
                layer
                for _ in range(config.depth)
                for layer in (nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
            ),
        )

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """From a goal (Z,) or goals (..., Z) to states (..., Z) in that space; its length is the gap in blocks."""
        return self.space(z) - self.space(goal)

    def forward(self, z: Tensor, goal: Tensor) -> Tensor:
        """Blocks (...,) from states (..., Z) to a goal (Z,) or goals (..., Z)."""
        return torch.linalg.vector_norm(self.displacement(z, goal), dim=-1)
