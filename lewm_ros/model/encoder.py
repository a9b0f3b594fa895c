"""The encoder: a frame becomes one CLS vector, projected to the embedding."""

from __future__ import annotations

from functools import partial
from typing import Any

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


class Encoder(nn.Module):
    """timm's ViT, its CLS token, and a projector."""

    def __init__(self, config: EncoderConfig, projector_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.vit = VisionTransformer(
            img_size=config.image_size,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            num_classes=0,
            global_pool="token",
            **_tokeniser(config),
        )
        self.projector = projector(config.width, projector_dim, embedding_dim)

    def tokens(self, pixels: Tensor) -> Tensor:
        """All tokens (B, 1 + patches, width) of normalised frames (B, 3, H, W), CLS first."""
        return self.vit.forward_features(pixels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embeddings (B, D) of normalised frames (B, 3, H, W)."""
        return self.projector(self.tokens(pixels)[:, 0])
