"""To see what a state holds: a small network that paints the frames again, on frozen states.

It learns by squared error, so that what its source does not say shows as blur: it paints the mean of all frames that
look alike from there.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm_ros.config import ConfigError, DecoderConfig
from lewm_ros.model.inputs import Inputs
from lewm_ros.model.lewm import LeWorldModel

COARSEST = 8
"""A grid that is painted from tokens without a place has fewer cells a side than this."""

DARKEST = 0.01
"""The logit of a mean frame is taken between this and one minus it."""

LEAST_STD = 1e-3
"""Numbers that vary less than this share of those that vary most count as that, lest noise be all that is seen."""


class Decoder(nn.Module):
    """Tokens become a coarse grid, which transposed convolutions double up to the encoder's image size.

    Patch tokens are their own grid. Others have no place: a small MLP of all of them together makes the grid. What is
    painted is added to the mean frame of each camera, so that nothing has to be learned of what never changes. Tokens
    are standardised, whatever their model was trained with.
    Letters: B batch, C cameras, K tokens, D width of a token.

    Args:
        config: what it paints from, and sizes.
        model: whose states, patch tokens and cameras these are.

    Raises:
        ConfigError: the model has no CLS token to paint from.
    """

    background: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, config: DecoderConfig, model: LeWorldModel) -> None:
        super().__init__()
        encoder, cameras = model.config.encoder, len(model.inputs.cameras)
        of_patches = model.config.tokens == "patches"
        if config.source == "cls" and of_patches:
            raise ConfigError("decoder: source: must be state or patches, the model's states have no CLS token")
        self.config, self._size = config, encoder.image_size
        self.paints_states = of_patches or config.source != "patches"
        self._in_place = of_patches or config.source == "patches"
        if self._in_place:
            self._tokens = cameras * encoder.patches
            grid = encoder.image_size // encoder.patch_size
            self.spread = nn.Sequential(nn.Unflatten(1, (cameras, grid, grid)), nn.Linear(encoder.width, config.width))
        else:
            self._tokens = 1 if config.source == "cls" else model.tokens
            grid = _coarsest(encoder.image_size)
            self.spread = nn.Sequential(
                nn.Flatten(1),
                nn.Linear(self._tokens * model.config.embedding_dim, config.hidden),
                nn.GELU(),
                nn.Linear(config.hidden, cameras * grid**2 * config.width),
                nn.Unflatten(1, (cameras, grid, grid, config.width)),
            )
        doublings = max(1, math.ceil(math.log2(encoder.image_size / grid)))
        finer = config.width // 2  # channels of the fine half, which takes most of the time
        widths = [config.width if 2 * n <= doublings else finer for n in range(doublings)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [_double(inputs, outputs), nn.GroupNorm(1, outputs), nn.GELU()]
        self.paint = nn.Sequential(*layers, _double(widths[-1], 3))
        self.register_buffer("background", torch.zeros(cameras, 3, encoder.image_size, encoder.image_size))
        numbers = encoder.width if self._in_place else model.config.embedding_dim
        for name, value in (("centre", 0.0), ("scale", 1.0)):
            self.register_buffer(name, torch.full((1 if self._in_place else self._tokens, numbers), value))

    def begin_with(self, means: Tensor, tokens: Tensor) -> None:
        """Paint on mean frames (C, 3, size, size) from 0 to 1, at first nothing else; standardise as these tokens.

        Args:
            means: of the frames to learn from.
            tokens: what `tokens` gives for some of them (N, tokens, width).
        """
        self.background.copy_(means.clamp(DARKEST, 1.0 - DARKEST).logit())
        seen = tokens[:, : self._tokens]
        std, mean = torch.std_mean(seen, dim=(0, 1) if self._in_place else 0)
        self.centre.copy_(mean)
        self.scale.copy_(std.clamp(min=LEAST_STD * float(std.max())))
        last = self.paint[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def tokens(self, model: LeWorldModel, inputs: Inputs) -> Tensor:
        """What it paints from, of what the model takes in: (B, tokens, width)."""
        if self.paints_states:
            return model.encode(inputs)
        views = [model.encoder.prefix_and_patches(inputs[camera.name])[1] for camera in model.inputs.cameras]
        return torch.cat(views, dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Frames (B, C, 3, size, size) from 0 to 1 of states (B, K, D), or of patch tokens (B, C * N, width)."""
        grids = self.spread((tokens[:, : self._tokens] - self.centre) / self.scale)  # (B, C, grid, grid, width)
        painted = self.paint(grids.flatten(0, 1).movedim(-1, 1))
        if painted.shape[-1] != self._size:
            painted = F.interpolate(painted, (self._size, self._size), mode="bilinear", antialias=True)
        return torch.sigmoid(painted.unflatten(0, grids.shape[:2]) + self.background)

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Frames uint8 (..., C, size, size, 3) of states (..., K, D), or of patch tokens (..., C * N, width)."""
        painted = self(tokens.flatten(0, -3).float()).movedim(-3, -1)
        return (255.0 * painted).round().to(torch.uint8).unflatten(0, tokens.shape[:-2])


def _coarsest(size: int) -> int:
    """A side of so many cells that a few doublings lead to `size`, or to a little more."""
    while size >= COARSEST:
        size = (size + 1) // 2
    return size


def _double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
