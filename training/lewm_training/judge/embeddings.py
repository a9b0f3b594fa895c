"""Frames of a dataset as what the encoder makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from lewm_ros.model import LeWorldModel
from lewm_ros.model.pixels import normalise_pixels
from lewm_training.data import DatasetError, EpisodeDataset

PATCH_GRID = 6
"""Finer grids of patch tokens are averaged down to this many a side, so that memory does not grow with the image."""


@dataclass(frozen=True)
class Features:
    """What the encoder gives for N frames: embeddings (N, D), and all patch tokens side by side (N, P)."""

    embedding: NDArray[np.float32]
    patches: NDArray[np.float32]


@torch.inference_mode()
def embed(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int = 256, progress: str = ""
) -> NDArray[np.float64]:
    """Embeddings (N, D) of the frames at `rows`, in evaluation mode; `progress` names a bar to show."""
    frames = _batches(model, dataset, rows, batch, progress)
    return np.concatenate([model.encode(pixels).double().cpu().numpy() for pixels in frames])


@torch.inference_mode()
def embed_with_patches(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int = 256, progress: str = ""
) -> Features:
    """Embeddings and patch tokens of the frames at `rows`, in evaluation mode, from one pass through the encoder."""
    embeddings, patches = [], []
    for pixels in _batches(model, dataset, rows, batch, progress):
        tokens = model.encoder.tokens(pixels)
        embeddings.append(model.encoder.projector(tokens[:, 0]).float().cpu().numpy())
        patches.append(_flatten_patches(tokens[:, 1:]).float().cpu().numpy())
    return Features(np.concatenate(embeddings), np.concatenate(patches))


def untrained_like(model: LeWorldModel, seed: int) -> LeWorldModel:
    """A model of the same architecture with random weights, on the same device, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = LeWorldModel(model.config)
    return untrained.to(next(model.parameters()).device).eval()


def _batches(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int, progress: str
) -> Iterator[Tensor]:
    size = model.config.encoder.image_size
    if dataset.pixels.shape[1:3] != (size, size):
        height, width = dataset.pixels.shape[1:3]
        raise DatasetError(f"{dataset.path}: frames are {width}x{height} px, the model takes {size}x{size}")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        chunks = np.array_split(rows, max(1, len(rows) // batch))
        for chunk in tqdm(chunks, desc=progress, unit="batch", disable=not progress):
            yield normalise_pixels(torch.from_numpy(dataset.pixels[chunk]).to(device))
    finally:
        model.train(was_training)


def _flatten_patches(tokens: Tensor) -> Tensor:
    """Patch tokens (B, g * g, width), row by row -> (B, width * cells), averaged down to `PATCH_GRID` cells a side."""
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))  # (B, width, g, g)
    return adaptive_avg_pool2d(grid, min(side, PATCH_GRID)).flatten(1)
