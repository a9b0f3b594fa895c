"""Rows of a dataset as what the encoder makes of them."""

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
from lewm_ros.model.inputs import Inputs, to_inputs
from lewm_training.data import EpisodeDataset
from lewm_training.data.windows import InputReader

PATCH_GRID = 6
"""Finer grids of patch tokens are averaged down to this many a side, so that memory does not grow with the image."""


@dataclass(frozen=True)
class Features:
    """What the encoder gives for N rows, side by side: flat states (N, F), and patch tokens of all cameras (N, P)."""

    states: NDArray[np.float32]
    patches: NDArray[np.float32]


@torch.inference_mode()
def embed(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int = 256, progress: str = ""
) -> NDArray[np.float64]:
    """States (N, K, D) at `rows`, in evaluation mode; `progress` names a bar to show.

    Raises:
        ConfigError, DatasetError: the dataset lacks what the model takes in.
    """
    batches = _batches(model, dataset, rows, batch, progress)
    return np.concatenate([model.encode(inputs).double().cpu().numpy() for inputs in batches])


@torch.inference_mode()
def embed_flat(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int = 256, progress: str = ""
) -> NDArray[np.float64]:
    """Flat states (N, F) at `rows`, see `flat_states`; otherwise as `embed`."""
    batches = _batches(model, dataset, rows, batch, progress)
    return np.concatenate([flat_states(model, model.encode(inputs)).double().cpu().numpy() for inputs in batches])


@torch.inference_mode()
def embed_with_patches(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int = 256, progress: str = ""
) -> Features:
    """Flat states and patch tokens at `rows`, in evaluation mode, of a model whose state is not of patches itself."""
    states, patches = [], []
    for inputs in _batches(model, dataset, rows, batch, progress):
        views = [model.encoder.with_patches(inputs[camera.name]) for camera in model.inputs.cameras]
        state = model.encode(inputs) if model.inputs.vectors else torch.cat([tokens for tokens, _ in views], dim=1)
        states.append(flat_states(model, state).float().cpu().numpy())
        patches.append(torch.cat([_pool_patches(tokens) for _, tokens in views], dim=1).float().cpu().numpy())
    return Features(np.concatenate(states), np.concatenate(patches))


def flat_states(model: LeWorldModel, states: Tensor) -> Tensor:
    """States (..., K, D) as vectors (..., F): tokens side by side, those of patches averaged down to a coarse grid."""
    if model.config.tokens != "patches":
        return states.flatten(-2)
    tokens = states.flatten(0, -3)
    patches, rest = tokens.tensor_split([len(model.inputs.cameras) * model.config.tokens_per_frame], dim=1)
    views = patches.unflatten(1, (len(model.inputs.cameras), -1)).unbind(1)
    flat = torch.cat([*(_pool_patches(view) for view in views), rest.flatten(1)], dim=1)
    return flat.unflatten(0, states.shape[:-2])


def untrained_like(model: LeWorldModel, seed: int) -> LeWorldModel:
    """A model of the same architecture with random weights, on the same device, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = LeWorldModel(model.config, model.inputs)
    return untrained.to(next(model.parameters()).device).eval()


def _batches(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int, progress: str
) -> Iterator[Inputs]:
    reader, device = InputReader(dataset, model.inputs), next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        chunks = np.array_split(rows, max(1, len(rows) // batch))
        for chunk in tqdm(chunks, desc=progress, unit="batch", disable=not progress):
            yield to_inputs(model.inputs, {name: value.to(device) for name, value in reader.read(chunk).items()})
    finally:
        model.train(was_training)


def _pool_patches(tokens: Tensor) -> Tensor:
    """Patch tokens (B, g * g, width), row by row -> (B, width * cells), averaged down to `PATCH_GRID` cells a side."""
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))  # (B, width, g, g)
    return adaptive_avg_pool2d(grid, min(side, PATCH_GRID)).flatten(1)
