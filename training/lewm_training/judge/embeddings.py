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
    """What the encoder gives for N rows.

    Args:
        states: (N, K, D); None where the state is of patches.
        cls: CLS tokens (N, width) of all cameras, side by side, before the projector; None where there are none.
        patches: patch tokens (N, cells, width) of all cameras, averaged down to a coarse grid.
    """

    states: NDArray[np.float32] | None
    cls: NDArray[np.float32] | None
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
def embed_everything(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int = 256, progress: str = ""
) -> Features:
    """States and all that is before them, at `rows`, in evaluation mode; otherwise as `embed`."""
    cameras, of_patches = [camera.name for camera in model.inputs.cameras], model.config.tokens == "patches"
    states, cls, patches = [], [], []
    for inputs in _batches(model, dataset, rows, batch, progress):
        if of_patches:
            views = [model.encoder(inputs[name]) for name in cameras]
        else:
            prefixes, views = zip(*(model.encoder.prefix_and_patches(inputs[name]) for name in cameras), strict=True)
            tokens = torch.cat([model.encoder.project(prefix) for prefix in prefixes], dim=1)
            state = model.with_vectors(tokens, inputs) if model.inputs.vectors else tokens
            states.append(state.float().cpu().numpy())
            cls.append(torch.cat([prefix[:, 0] for prefix in prefixes], dim=1).float().cpu().numpy())
        cells = torch.cat([_pool_patches(view).flatten(2) for view in views], dim=2).transpose(1, 2)
        patches.append(cells.float().cpu().numpy())
    if of_patches:
        return Features(None, None, np.concatenate(patches))
    return Features(np.concatenate(states), np.concatenate(cls), np.concatenate(patches))


def flat_states(model: LeWorldModel, states: Tensor) -> Tensor:
    """States (..., K, D) as vectors (..., F): tokens side by side, those of patches averaged down to a coarse grid."""
    if model.config.tokens != "patches":
        return states.flatten(-2)
    tokens = states.flatten(0, -3)
    patches, rest = tokens.tensor_split([len(model.inputs.cameras) * model.config.tokens_per_frame], dim=1)
    views = patches.unflatten(1, (len(model.inputs.cameras), -1)).unbind(1)
    flat = torch.cat([*(_pool_patches(view).flatten(1) for view in views), rest.flatten(1)], dim=1)
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
    """Patch tokens (B, g * g, width), row by row -> (B, width, h, h), averaged down to `PATCH_GRID` cells a side."""
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))  # (B, width, g, g)
    return adaptive_avg_pool2d(grid, min(side, PATCH_GRID))
