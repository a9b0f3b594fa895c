"""The encoder: a frame becomes one CLS vector, projected to the embedding."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from torch import Tensor, nn

from lewm_ros.config import EncoderConfig


def projector(width: int, hidden: int, out: int) -> nn.Sequential:
    """MLP with BatchNorm on its hidden layer. No LayerNorm at its end, which would keep SIGReg from its target."""
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, out))


def _tokeniser(config: EncoderConfig) -> dict[str, Any]:
    """How timm's ViT cuts the image into tokens: linear patches, or patches of a convolutional stem's features."""
    if not config.stem_channels:
        return {"patch_size": config.patch_size}
    layers = len(config.stem_channels)
    stem = ConvStem(depth=layers, channels=config.stem_channels, stride=(2,) * layers, act_layer=nn.GELU)
    return {"patch_size": config.patch_size // 2**layers, "embed_layer": partial(HybridEmbed, backbone=stem)}


def vision_transformer(config: EncoderConfig) -> VisionTransformer:
    """Timm's ViT of these sizes, without a head; randomly initialised."""
    return VisionTransformer(
        img_size=config.image_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        num_classes=0,
        global_pool="token",
        norm_layer=partial(LayerNorm, eps=config.norm_eps),
        **_tokeniser(config),
    )


class Encoder(nn.Module):
    """timm's ViT, its CLS token, and a projector."""

    def __init__(self, config: EncoderConfig, projector_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.vit = vision_transformer(config)
        self.projector = projector(config.width, projector_dim, embedding_dim)

    def tokens(self, pixels: Tensor) -> Tensor:
        """All tokens (B, 1 + patches, width) of normalised frames (B, 3, H, W), CLS first."""
        return self.vit.forward_features(pixels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embeddings (B, D) of normalised frames (B, 3, H, W)."""
        return self.projector(self._cls_token(pixels))

    def _cls_token(self, pixels: Tensor) -> Tensor:
        """`tokens(pixels)[:, 0]` (B, width); the last block computes only that token, since no other is used."""
        vit, last = self.vit, self.vit.blocks[-1]
        x = vit.blocks[:-1](vit._pos_embed(vit.patch_embed(pixels)))
        attention, y = last.attn, last.norm1(x)
        width, heads = y.shape[-1], (attention.num_heads, attention.head_dim)
        weight, bias = attention.qkv.weight, attention.qkv.bias
        query = F.linear(y[:, 0], weight[:width], bias[:width]).unflatten(-1, heads)
        keys, values = F.linear(y, weight[width:], bias[width:]).unflatten(-1, (2, *heads)).unbind(2)  # (B, N, h, d)
        shares = torch.einsum("bhd,bnhd->bhn", query * attention.scale, keys).softmax(-1)
        mixed = torch.einsum("bhn,bnhd->bhd", shares, values).flatten(1)
        cls = x[:, 0] + attention.proj(mixed)
        return vit.norm(cls + last.mlp(last.norm2(cls)))
