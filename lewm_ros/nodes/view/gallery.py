"""Views that were really seen, to show what an embedding looks like: the nearest of them."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.inputs import to_inputs
from lewm_ros.observation.input_spec import UNNAMED, InputSpec
from lewm_ros.observation.observation import Frame, Observation

Embedding = NDArray[np.float32]
"""The tokens (Kg, D) that a goal has."""

A = TypeVar("A")
B = TypeVar("B")

BATCH = 50


class Nearest(NamedTuple):
    """The view whose embedding is nearest to another one, a frame of every camera, and their Euclidean distance."""

    frames: dict[str, Frame]
    distance: float


class Gallery:
    """At most `size` views with their embeddings (Kg, D), which have this `shape`; a new one replaces the oldest."""

    def __init__(self, size: int, shape: tuple[int, int]) -> None:
        self._views: list[dict[str, Frame]] = []
        self._embeddings = np.empty((size, *shape), np.float32)
        self._next = 0

    def __len__(self) -> int:
        return len(self._views)

    def add(self, frames: dict[str, Frame], embedding: Embedding) -> None:
        """Take in a view."""
        self._embeddings[self._next] = embedding
        if self._next == len(self._views):
            self._views.append(frames)
        else:
            self._views[self._next] = frames
        self._next = (self._next + 1) % len(self._embeddings)

    def nearest(self, embedding: Embedding) -> Nearest | None:
        """The view nearest to an embedding; None without any views."""
        if not self._views:
            return None
        distances = np.linalg.norm(self._embeddings[: len(self._views)] - embedding, axis=(1, 2))
        index = int(distances.argmin())
        return Nearest(self._views[index], float(distances[index]))


class EmbeddedFrames(Generic[A, B]):
    """Puts together what two topics say about one stamp, whichever comes first; keeps the newest `kept` of each."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._left: OrderedDict[int, A] = OrderedDict()
        self._right: OrderedDict[int, B] = OrderedDict()

    def left(self, stamp_ns: int, value: A) -> B | None:
        """Take in the one; the other if it is known."""
        self._keep(self._left, stamp_ns, value)
        return self._right.get(stamp_ns)

    def right(self, stamp_ns: int, value: B) -> A | None:
        """Take in the other; the one if it is known."""
        self._keep(self._right, stamp_ns, value)
        return self._left.get(stamp_ns)

    def _keep(self, side: OrderedDict, stamp_ns: int, value: object) -> None:
        side[stamp_ns] = value
        if len(side) > self._kept:
            side.popitem(last=False)


@torch.inference_mode()
def embed_views(checkpoint: Checkpoint, views: list[Observation]) -> Embedding:
    """The embeddings (N, Kg, D) of N views, as of goals."""
    spec, device, embeddings = checkpoint.inputs.of_goal(), checkpoint.device, []
    for first in range(0, len(views), BATCH):
        batch = views[first : first + BATCH]
        values = {camera.name: np.stack([view.frames[camera.name] for view in batch]) for camera in spec.cameras}
        values |= {vector.name: np.stack([view.vectors[vector.name] for view in batch]) for vector in spec.vectors}
        inputs = to_inputs(spec, {name: torch.from_numpy(value).to(device) for name, value in values.items()})
        embeddings.append(checkpoint.model.encode_goal(inputs).float().cpu().numpy())
    return np.concatenate(embeddings)


def read_views(path: str, count: int, spec: InputSpec) -> list[Observation]:
    """About `count` views, evenly spaced, of a dataset's HDF5 file, as a model sees them.

    They have a frame of every camera, and the vectors that a goal has.

    Raises:
        ConfigError: the file cannot be read, or lacks what the model takes in.
    """
    if not Path(path).is_file():
        raise ConfigError(f"gallery {path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            cameras = _camera_columns(file)
            sources = spec.sources(cameras, f"gallery {path}")
            frames = {name: _frames(file, path, cameras[source]) for name, source in sources.items()}
            vectors = {vector.name: _column(file, path, vector.name) for vector in spec.of_goal().vectors}
            length = min(len(column) for column in (frames | vectors).values())
            rows = np.unique(np.linspace(0, length - 1, count).round().astype(int))
            return [_view(spec, frames, vectors, row) for row in rows]
    except ConfigError:
        raise
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"gallery {path}: is no dataset that can be read ({error})") from None


def _camera_columns(file: h5py.File) -> dict[str, str]:
    """The column of every camera, by its name."""
    meta = json.loads(file.attrs.get("meta", "{}"))
    cameras = meta.get("cameras") if isinstance(meta, dict) else None
    return cameras if isinstance(cameras, dict) else {UNNAMED: "pixels"}


def _view(spec: InputSpec, frames: dict[str, Any], vectors: dict[str, Any], row: int) -> Observation:
    fitted = {camera.name: camera.fit(frames[camera.name][row]) for camera in spec.cameras}
    return Observation(fitted, {v.name: v.fit(vectors[v.name][row]) for v in spec.of_goal().vectors})


def _frames(file: h5py.File, path: str, column: str) -> h5py.Dataset:
    pixels = _column(file, path, column)
    if pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ConfigError(f"gallery {path}: needs a column '{column}' of RGB frames, as `lewm collect` writes it")
    return pixels


def _column(file: h5py.File, path: str, name: str) -> h5py.Dataset:
    column = file.get(name)
    if not isinstance(column, h5py.Dataset) or not column.ndim or not len(column):
        raise ConfigError(f"gallery {path}: has no column '{name}', or nothing in it")
    return column
