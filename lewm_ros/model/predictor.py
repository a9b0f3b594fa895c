"""The predictor: a block-causal transformer over states, conditioned on actions.

Conditioning is AdaLN-zero (DiT, arXiv 2212.09748).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm_ros.config import ModelConfig, PredictorConfig
from lewm_ros.model.encoder import projector


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
        """Actions (..., A) -> conditioning (..., W)."""
        return self.layers(actions)


class BlockCausalAttention(nn.Module):
    """Multi-head self-attention in which a token sees all tokens of its own step and of the steps before."""

    def __init__(self, width: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_dim, bias=False)
        self.out = nn.Sequential(nn.Linear(heads * head_dim, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, K, W) -> (B, T, K, W)."""
        batch, steps, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, steps * tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        if tokens == 1:
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        else:
            # One call per step does without a mask, and without the half of the work that it would throw away.
            seen = range(tokens, steps * tokens + 1, tokens)
            mixed = torch.cat(
                [
                    F.scaled_dot_product_attention(query, k[:, :, :known], v[:, :, :known], dropout_p=dropout)
                    for query, known in zip(q.split(tokens, dim=2), seen, strict=True)
                ],
                dim=2,
            )
        return self.out(mixed.transpose(1, 2).flatten(2)).view(x.shape)  # from (B, heads, T * K, head_dim)


class ConditionalBlock(nn.Module):
    """Attention and MLP whose shift, scale and gate come from the step's action; the gates start at zero."""

    def __init__(self, width: int, config: PredictorConfig) -> None:
        super().__init__()
        self.attention = BlockCausalAttention(width, config.heads, config.head_dim, config.dropout)
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
        """Tokens (B, T, K, W) and modulations (B, T, 6 W) -> (B, T, K, W)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unsqueeze(2).chunk(6, dim=-1)
        x = x + gate_a * self.attention(self.norm(x) * (1 + scale_a) + shift_a)
        return x + gate_m * self.mlp(self.norm(x) * (1 + scale_m) + shift_m)


class Predictor(nn.Module):
    """Predicts, at every step of a short history, the state one model step later (before its projector).

    Args:
        config: the architecture.
        tokens: K.
    """

    def __init__(self, config: ModelConfig, tokens: int) -> None:
        super().__init__()
        width = config.width
        self.into = nn.Identity() if width == config.embedding_dim else nn.Linear(config.embedding_dim, width)
        self.positions = nn.Parameter(torch.randn(1, config.history, width))
        self.token_positions = nn.Parameter(0.02 * torch.randn(tokens, width)) if tokens > 1 else None
        self.blocks = nn.ModuleList(ConditionalBlock(width, config.predictor) for _ in range(config.predictor.depth))
        self.norm = nn.LayerNorm(width)

    def modulate(self, condition: Tensor) -> list[Tensor]:
        """Action conditioning (B, T, W) -> each block's AdaLN modulation (B, T, 6 W), which depends on nothing else."""
        return [block.modulation(condition) for block in self.blocks]

    def forward(self, z: Tensor, modulations: list[Tensor]) -> Tensor:
        """States (B, H, K, D) and modulations (B, H, 6 W) -> (B, H, K, W); H at most the model's history."""
        x = self.into(z) + self.positions[:, : z.shape[1]].unsqueeze(2)
        if self.token_positions is not None:
            x = x + self.token_positions
        for block, modulation in zip(self.blocks, modulations, strict=True):
            x = block(x, modulation)
        return self.norm(x)


def prediction_head(config: ModelConfig) -> nn.Sequential:
    """From the predictor's tokens (N, W) to those of the next state (N, D), in the form that the encoder gives them."""
    if config.tokens == "cls":
        return projector(config.width, config.projector_dim, config.embedding_dim)
    # What is fed back is normalised like the encoder's patches, as in V-JEPA 2-AC.
    normalise = nn.LayerNorm(config.embedding_dim, elementwise_affine=False)
    return nn.Sequential(nn.Linear(config.width, config.embedding_dim), normalise)
