"""The frames of a dataset, read in any order without holding them in memory."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from lewm_training.data.checks import DatasetError

ADVICE_BYTES = 1 << 17
"""Asked for at once: the kernel reads no more per call than its read-ahead, 128 KiB where nobody changed it."""

SAMPLED_FRAMES = 16
"""Looked at to tell whether floats span 0 to 1 or 0 to 255."""

Rows = int | slice | NDArray[np.int64]


class Frames(Protocol):
    """RGB frames uint8 (N, height, width, 3), indexed as an array is; what is read is a copy."""

    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]: ...


class MappedFrames:
    """Frames that lie contiguous in a file, read through the page cache.

    Reading random frames one after the other waits for the disk at each. So the kernel is told that reads are random,
    which stops it from reading ahead, and is asked for all the frames of a call before the first is touched: the disk
    serves them side by side. Both steps leave Python's lock to other threads while they wait.
    """

    def __init__(self, path: Path, memory: mmap.mmap, offset: int, shape: tuple[int, ...]) -> None:
        self.shape, self._offset = shape, offset
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._frames = np.frombuffer(memory, np.uint8, int(np.prod(shape)), offset).reshape(shape)
        start = offset - offset % mmap.PAGESIZE
        memory.madvise(mmap.MADV_RANDOM, start, offset + self._frames.nbytes - start)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        rows = _row_numbers(rows, len(self))
        self._ask_for(np.unique(rows))
        return np.take(self._frames, rows, axis=0)

    def _ask_for(self, rows: NDArray[np.int64]) -> None:
        """Start reading ascending rows, neighbours together."""
        if not len(rows):
            return
        breaks = np.flatnonzero(np.diff(rows) > 1) + 1
        first, last = rows[np.concatenate([[0], breaks])], rows[np.concatenate([breaks - 1, [-1]])]
        size = self._frames[0].nbytes
        starts, ends = self._offset + first * size, self._offset + (last + 1) * size
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            for piece in range(start, end, ADVICE_BYTES):
                os.posix_fadvise(self._file, piece, min(ADVICE_BYTES, end - piece), os.POSIX_FADV_WILLNEED)


class StoredFrames:
    """Frames of another project's file: chunked, compressed, channels first or floats. Converted as they are read."""

    def __init__(self, path: Path, name: str) -> None:
        self._column = h5py.File(path, "r")[name]
        stored = self._column.shape
        if len(stored) != 4 or 3 not in (stored[1], stored[3]):
            raise DatasetError(f"{path}: column '{name}' has the shape {stored}, expected (N, height, width, 3)")
        self._channels_first = stored[3] != 3
        self.shape = (stored[0], *stored[2:], 3) if self._channels_first else stored
        try:
            sample = self._column[:: max(1, len(self) // SAMPLED_FRAMES)]
        except OSError as error:
            raise DatasetError(f"{path}: column '{name}' cannot be decoded ({error}); pip install hdf5plugin") from None
        kind = self._column.dtype.kind
        low, high = (float(sample.min()), float(sample.max())) if sample.size else (0.0, 0.0)
        if self._column.dtype != np.uint8 and (kind != "f" or low < 0.0 or high > 255.0):
            raise DatasetError(
                f"{path}: column '{name}' holds {self._column.dtype} from {low:.3g} to {high:.3g}; "
                "expected uint8, or floats from 0 to 1 or from 0 to 255"
            )
        self._scale = 255.0 if kind == "f" and high <= 1.0 else 1.0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        rows = _row_numbers(rows, len(self))
        wanted, place = np.unique(rows, return_inverse=True)
        run = len(wanted) and wanted[-1] - wanted[0] == len(wanted) - 1
        frames = self._column[wanted[0] : wanted[-1] + 1] if run else self._column[wanted]  # a slice reads faster
        if self._channels_first:
            frames = frames.transpose(0, 2, 3, 1)
        if frames.dtype != np.uint8:
            frames = np.rint(frames * self._scale).astype(np.uint8)
        return frames[place.reshape(rows.shape)]


def _row_numbers(rows: Rows, count: int) -> NDArray[np.int64]:
    if isinstance(rows, slice):
        return np.arange(*rows.indices(count))
    numbers = np.asarray(rows)
    if numbers.size and not -count <= numbers.min() <= numbers.max() < count:
        raise IndexError(f"rows from {numbers.min()} to {numbers.max()}, there are {count}")
    return np.where(numbers < 0, numbers + count, numbers)
