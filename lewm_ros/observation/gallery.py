"""Frames that were really seen, to show what an embedding looks like: the nearest of them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError

Frame = NDArray[np.uint8]
Vector = NDArray[np.float32]
A = TypeVar("A")
B = TypeVar("B")


class Nearest(NamedTuple):
    """The frame (height, width, 3) whose embedding is nearest to another one, and their Euclidean distance."""

    frame: Frame
    distance: float


class Gallery:
    """At most `size` frames with their embeddings (D,); a new one takes the place of the oldest."""

    def __init__(self, size: int, dimension: int) -> None:
        self._frames: list[Frame] = []
        self._embeddings = np.empty((size, dimension), np.float32)
        self._next = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: Frame, embedding: Vector) -> None:
        """Take in a frame."""
        self._embeddings[self._next] = embedding
        if self._next == len(self._frames):
            self._frames.append(frame)
        else:
            self._frames[self._next] = frame
        self._next = (self._next + 1) % len(self._embeddings)

    def nearest(self, embedding: Vector) -> Nearest | None:
        """The frame nearest to an embedding (D,); None without any frames."""
        if not self._frames:
            return None
        distances = np.linalg.norm(self._embeddings[: len(self._frames)] - embedding, axis=1)
        index = int(distances.argmin())
        return Nearest(self._frames[index], float(distances[index]))


class Pairs(Generic[A, B]):
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


def read_frames(path: str, count: int) -> list[Frame]:
    """About `count` frames (height, width, 3), evenly spaced, of a dataset's HDF5 file.

    Raises:
        ConfigError: the file cannot be read or holds no frames.
    """
    if not Path(path).is_file():
        raise ConfigError(f"gallery {path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            pixels = file.get("pixels")
            if not isinstance(pixels, h5py.Dataset) or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
                raise ConfigError(f"gallery {path}: needs a column 'pixels' of RGB frames, as `lewm collect` writes it")
            rows = np.unique(np.linspace(0, len(pixels) - 1, count).round().astype(int))
            return [pixels[row] for row in rows]
    except OSError as error:
        raise ConfigError(f"gallery {path}: is no HDF5 file that can be read ({error})") from None
