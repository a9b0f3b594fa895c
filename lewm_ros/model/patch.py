"""The patch-token baseline: a world model whose state is every patch token of a frame.

Of the kind of DINO-WM (arXiv 2411.04983) and V-JEPA 2-AC (arXiv 2506.09985). A frozen vision transformer gives N patch
tokens per frame, and a transformer predicts those of the next frame. It is block-causal: a token sees all tokens of its
own frame and of the frames before. Actions condition it by AdaLN-zero, in the very blocks of LeWorldModel's predictor,
so that with equal sizes the two models differ in tokens per frame alone (V-JEPA 2-AC adds a token per action instead,
DINO-WM some channels to every token; beside the patches both cost next to nothing).

To planners an embedding is the tokens side by side, D = N * width of the encoder; squared distances are then means over
all tokens, as in both papers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lewm_ros.config import ConfigError, EncoderConfig, PatchConfig, PredictorConfig
from lewm_ros.model.encoder import vision_transformer
from lewm_ros.model.predictor import ActionEncoder, CausalAttention, ConditionalBlock

if TYPE_CHECKING:
    from lewm_ros.model.patch_rollout import PatchRollout

VJEPA2_AC = PatchConfig(
    encoder=EncoderConfig(image_size=256, patch_size=16, width=1408, depth=40, heads=22),
    predictor=PredictorConfig(depth=24, heads=16, head_dim=64, mlp_dim=4096, dropout=0.0),
    width=1024,
)
"""The sizes of V-JEPA 2-AC (300 M parameters behind a ViT-g of 1 B): 256 tokens of 1408 per frame."""


class PatchWorldModel(nn.Module):
    """A frozen patch encoder and one action-conditioned predictor of its tokens.

    Letters: B batch, H history (at most `config.history` model steps), S candidate plans, T model steps, N tokens per
    frame, D all of a frame's tokens side by side, A action block.

    Args:
        config: the architecture.
        pretrained: take the encoder's weights from timm's cache or from the hub; needs a `timm_name`.

    Raises:
        ConfigError: timm has no such model, cannot find its weights, or it is not what `config.encoder` says.
    """

    def __init__(self, config: PatchConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.vit = _timm_encoder(config, pretrained) if config.timm_name else vision_transformer(config.encoder)
        self.vit.requires_grad_(False)
        self.action_encoder = ActionEncoder(config.action_dim, config.width)
        self.predictor = TokenPredictor(config)

    def train(self, mode: bool = True) -> PatchWorldModel:
        """Set the mode of all but the encoder, which never learns."""
        super().train(mode)
        self.vit.eval()
        return self

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Normalised frames (B, 3, H, W) -> layer-normalised patch tokens side by side (B, D)."""
        tokens = self.vit.forward_features(pixels)[:, self.vit.num_prefix_tokens :]
        return _normalise(tokens).flatten(1)

    def predict(self, z: Tensor, actions: Tensor) -> Tensor:
        """Embeddings (B, H, D) and z-scored action blocks (B, H, A) -> the next embedding at every step (B, H, D)."""
        return self.predictor(z, self.predictor.modulate(self.action_encoder(actions)))

    def rollout(self, z: Tensor, past_actions: Tensor, plans: Tensor) -> Tensor:
        """Imagine what candidate plans lead to, step by step; see `LeWorldModel.rollout` for arguments and shapes."""
        batch, samples, steps, _ = plans.shape
        actions = torch.cat([past_actions.unsqueeze(1).expand(-1, samples, -1, -1), plans], dim=2).flatten(0, 1)
        modulations = self.predictor.modulate(self.action_encoder(actions))  # of (B*S, H-1+T, 6 width)
        states = z.unsqueeze(1).expand(-1, samples, -1, -1).flatten(0, 1)  # (B*S, H, D)
        known = states.shape[1]
        for step in range(steps):
            newest = known + step
            oldest = max(0, newest - self.config.history)
            after = self.predictor(states[:, oldest:], [m[:, oldest:newest] for m in modulations])[:, -1:]
            states = torch.cat([states, after], dim=1)
        return states[:, known:].unflatten(0, (batch, samples))

    def planning_model(self, precision: str) -> PatchRollout:
        """A frozen copy that rolls out plans fast, with matmuls in `fp32` or `bf16`."""
        from lewm_ros.model.patch_rollout import PatchRollout

        return PatchRollout(self, precision)

    def loss(self, pixels: Tensor, actions: Tensor) -> Tensor:
        """Squared error of the next frame's tokens, mean over all; the frames before it are given (teacher forcing).

        Args:
            pixels: normalised windows (B, H+1, 3, height, width).
            actions: z-scored blocks (B, H, A) between those frames.
        """
        z = self.encode(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])  # (B, H+1, D)
        return (self.predict(z[:, :-1], actions).float() - z[:, 1:].float()).square().mean()


class TokenPredictor(nn.Module):
    """Predicts, at every step of a short history, all tokens of the frame one model step later."""

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        width, features = config.width, config.encoder.width
        self.tokens = config.tokens
        self.into = nn.Linear(features, width)
        self.frame_positions = nn.Parameter(0.02 * torch.randn(config.history, 1, width))
        self.token_positions = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.blocks = nn.ModuleList(TokenBlock(width, config.predictor) for _ in range(config.predictor.depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, features)

    def modulate(self, condition: Tensor) -> list[Tensor]:
        """Action conditioning (B, T, width) -> each block's AdaLN modulation (B, T, 6 width)."""
        return [block.modulation(condition) for block in self.blocks]

    def forward(self, z: Tensor, modulations: list[Tensor]) -> Tensor:
        """Embeddings (B, H, D) and modulations (B, H, 6 width) -> the next embeddings (B, H, D)."""
        x = self.into(z.unflatten(-1, (self.tokens, -1))) + self.token_positions  # (B, H, N, width)
        x = x + self.frame_positions[: x.shape[1]]
        for block, modulation in zip(self.blocks, modulations, strict=True):
            x = block(x, modulation.unsqueeze(2))
        return _normalise(self.out(self.norm(x))).flatten(-2)


class TokenBlock(ConditionalBlock):
    """The block of LeWorldModel's predictor over (B, H, N, width): a frame's tokens share its action's modulation."""

    def __init__(self, width: int, config: PredictorConfig) -> None:
        super().__init__(width, config)
        self.attention = BlockCausalAttention(width, config.heads, config.head_dim, config.dropout)


class BlockCausalAttention(CausalAttention):
    """Multi-head self-attention in which a token sees all tokens of its own frame and of the frames before."""

    def forward(self, x: Tensor) -> Tensor:
        batch, frames, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, frames * tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        # One call per frame does without a mask, and without the half of the work that it would throw away.
        mixed = [
            F.scaled_dot_product_attention(query, k[:, :, :seen], v[:, :, :seen], dropout_p=dropout)
            for query, seen in zip(q.split(tokens, dim=2), range(tokens, frames * tokens + 1, tokens), strict=True)
        ]  # of (B, heads, N, head_dim)
        return self.out(torch.stack(mixed, dim=1).transpose(2, 3).flatten(3))


def _normalise(tokens: Tensor) -> Tensor:
    """Layer-normalise tokens (..., width), as V-JEPA 2-AC does with features and with what it feeds back."""
    return F.layer_norm(tokens, tokens.shape[-1:])


def _timm_encoder(config: PatchConfig, pretrained: bool) -> VisionTransformer:
    name, sizes = config.timm_name, config.encoder
    try:
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=sizes.image_size)
    except (RuntimeError, TypeError, OSError) as error:
        raise ConfigError(f"timm_name '{name}': cannot be used ({str(error).splitlines()[0]})") from None
    if not isinstance(vit, VisionTransformer):
        raise ConfigError(f"timm_name '{name}': is a {type(vit).__name__}; choose a VisionTransformer")
    patch_size = vit.patch_embed.patch_size[0]
    if (patch_size, vit.embed_dim) != (sizes.patch_size, sizes.width):
        raise ConfigError(
            f"timm_name '{name}': set encoder.patch_size to {patch_size} and encoder.width to {vit.embed_dim}"
        )
    return vit
