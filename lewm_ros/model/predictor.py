"""The predictor: a causal transformer over embeddings, conditioned on actions by AdaLN-zero (DiT, arXiv 2212.09748)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm_ros.config import PredictorConfig


class ActionEncoder(nn.Module):
    """Pointwise linear layer, then an MLP: one z-scored action block becomes one conditioning vector."""

    def __init__(self, action_dim: int, width: int, features: int | None = None, mlp_ratio: int = 4) -> None:
        super().__init__()
        features = features or action_dim
        self.layers = nn.Sequential(
            nn.Linear(action_dim, features),
            nn.Linear(features, mlp_ratio * width),
            nn.SiLU(),
            nn.Linear(mlp_ratio * width, width),
        )

    def forward(self, actions: Tensor) -> Tensor:
        """Actions (..., A) -> conditioning (..., D)."""
        return self.layers(actions)


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a step sees itself and the steps before it."""

    def __init__(self, width: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_dim, bias=False)
        self.out = nn.Sequential(nn.Linear(heads * head_dim, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (B, heads, T, head_dim)
        return self.out(mixed.transpose(1, 2).flatten(2))


class ConditionalBlock(nn.Module):
    """Attention and MLP whose shift, scale and gate come from the action; the gates start at zero."""

    def __init__(self, width: int, config: PredictorConfig) -> None:
        super().__init__()
        self.attention = CausalAttention(width, config.heads, config.head_dim, config.dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.mlp_dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.mlp_dim, width),
            nn.Dropout(config.dropout),
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        nn.init.zeros_(self.modulation[-1].weight)
        nn.init.zeros_(self.modulation[-1].bias)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        x = x + gate_a * self.attention(self.norm(x) * (1 + scale_a) + shift_a)
        return x + gate_m * self.mlp(self.norm(x) * (1 + scale_m) + shift_m)


class Predictor(nn.Module):
    """Predicts, at every step of a short history, the state one model step later (before its projector)."""

    def __init__(self, config: PredictorConfig, history: int, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, history, width))
        self.blocks = nn.ModuleList(ConditionalBlock(width, config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def modulate(self, condition: Tensor) -> list[Tensor]:
        """Action conditioning (B, T, D) -> each block's AdaLN modulation (B, T, 6 D), which depends on nothing else."""
        return [block.modulation(condition) for block in self.blocks]

    def forward(self, z: Tensor, modulations: list[Tensor]) -> Tensor:
        """Embeddings (B, H, D) and modulations (B, H, 6 D) -> (B, H, D); H at most the model's history."""
        x = z + self.positions[:, : z.shape[1]]
        for block, modulation in zip(self.blocks, modulations, strict=True):
            x = block(x, modulation)
        return self.norm(x)
