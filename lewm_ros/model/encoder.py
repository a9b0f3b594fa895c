"""The encoder: a frame becomes tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from torch import Tensor, nn

from lewm_ros.config import ConfigError, EncoderConfig, ModelConfig


def projector(width: int, hidden: int, out: int) -> nn.Sequential:
    """MLP with BatchNorm on its hidden layer. No LayerNorm at its end, which would keep SIGReg from its target."""
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, out))


def make_encoder(config: ModelConfig, pretrained: bool = False) -> CLSEncoder | PatchEncoder:
    """The encoder of a model.

    Args:
        config: the architecture.
        pretrained: take the weights from timm's cache or from its hub; needs a `timm_name`.

    Raises:
        ConfigError: timm has no such model, cannot find its weights, or it is not what the configuration says.
    """
    vit = _timm_encoder(config.encoder, pretrained) if config.encoder.timm_name else vision_transformer(config.encoder)
    return PatchEncoder(vit) if config.tokens == "patches" else CLSEncoder(vit, config)


def vision_transformer(config: EncoderConfig) -> VisionTransformer:
    """Timm's ViT of these sizes, without a head; randomly initialised."""
    return VisionTransformer(
        img_size=config.image_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        num_classes=0,
        reg_tokens=config.registers,
        global_pool="token",
        norm_layer=partial(LayerNorm, eps=config.norm_eps),
        **_tokeniser(config),
    )


class CLSEncoder(nn.Module):
    """timm's ViT; its CLS token, and its registers if it has some, through a projector."""

    def __init__(self, vit: VisionTransformer, config: ModelConfig) -> None:
        super().__init__()
        self.vit = vit
        self.projector = projector(config.encoder.width, config.projector_dim, config.embedding_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens (B, 1 + registers, D) of normalised frames (B, 3, H, W)."""
        return self.project(self._prefix(pixels))

    def project(self, prefix: Tensor) -> Tensor:
        """Tokens (B, P, width) of the ViT as tokens (B, P, D) of a state."""
        return self.projector(prefix.flatten(0, 1)).unflatten(0, prefix.shape[:2])

    def prefix_and_patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` projects (B, P, width), and patch tokens (B, N, width), which a state does not hold."""
        return self.vit.forward_features(pixels).tensor_split([self.vit.num_prefix_tokens], dim=1)

    def _prefix(self, pixels: Tensor) -> Tensor:
        """CLS token and registers (B, P, width); the last block computes only these, since no others are used."""
        vit, last, prefix = self.vit, self.vit.blocks[-1], self.vit.num_prefix_tokens
        x = vit.blocks[:-1](vit._pos_embed(vit.patch_embed(pixels)))
        attention, y = last.attn, last.norm1(x)
        width, heads = y.shape[-1], (attention.num_heads, attention.head_dim)
        weight, bias = attention.qkv.weight, attention.qkv.bias
        query = F.linear(y[:, :prefix], weight[:width], bias[:width]).unflatten(-1, heads)  # (B, P, h, d)
        keys, values = F.linear(y, weight[width:], bias[width:]).unflatten(-1, (2, *heads)).unbind(2)  # (B, N, h, d)
        shares = torch.einsum("bphd,bnhd->bphn", query * attention.scale, keys).softmax(-1)
        mixed = torch.einsum("bphn,bnhd->bphd", shares, values).flatten(2)
        tokens = x[:, :prefix] + attention.proj(mixed)
        return vit.norm(tokens + last.mlp(last.norm2(tokens)))


class PatchEncoder(nn.Module):
    """A frozen ViT; every patch token, layer-normalised."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit.requires_grad_(False)

    def train(self, mode: bool = True) -> PatchEncoder:
        """It never learns, whatever the mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens (B, N, width) of normalised frames (B, 3, H, W)."""
        tokens = self.vit.forward_features(pixels)[:, self.vit.num_prefix_tokens :]
        return F.layer_norm(tokens, tokens.shape[-1:])


def _tokeniser(config: EncoderConfig) -> dict[str, Any]:
    """How timm's ViT cuts the image into tokens: linear patches, or patches of a convolutional stem's features."""
    if not config.stem_channels:
        return {"patch_size": config.patch_size}
    layers = len(config.stem_channels)
    stem = ConvStem(depth=layers, channels=config.stem_channels, stride=(2,) * layers, act_layer=nn.GELU)
    return {"patch_size": config.patch_size // 2**layers, "embed_layer": partial(HybridEmbed, backbone=stem)}


def _timm_encoder(config: EncoderConfig, pretrained: bool) -> VisionTransformer:
    name = config.timm_name
    try:
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=config.image_size)
    except (RuntimeError, TypeError, OSError) as error:
        raise ConfigError(f"timm_name '{name}': cannot be used ({str(error).splitlines()[0]})") from None
    if not isinstance(vit, VisionTransformer):
        raise ConfigError(f"timm_name '{name}': is a {type(vit).__name__}; choose a VisionTransformer")
    patch_size = vit.patch_embed.patch_size[0]
    if (patch_size, vit.embed_dim) != (config.patch_size, config.width):
        raise ConfigError(
            f"timm_name '{name}': set encoder.patch_size to {patch_size} and encoder.width to {vit.embed_dim}"
        )
    return vit
