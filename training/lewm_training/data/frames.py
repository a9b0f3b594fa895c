"""The frames of a dataset, read in any order without holding them in memory."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_training.data.checks import DatasetError, EpisodeError
from lewm_training.data.stored import Rows, StoredColumn, row_numbers

ADVICE_BYTES = 1 << 17
"""Asked for at once: the kernel reads no more per call than its read-ahead, 128 KiB where nobody changed it."""

SAMPLED_FRAMES = 16
"""Looked at to tell whether floats span 0 to 1 or 0 to 255."""

EXPECTED = "expected uint8, or floats from 0 to 1 or from 0 to 255"


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
        rows = row_numbers(rows, len(self))
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
        self._column, self._where = StoredColumn(path, name), f"{path}: column '{name}'"
        stored, kind = self._column.shape, self._column.dtype
        if len(stored) != 4 or 3 not in (stored[1], stored[3]) or 0 in stored:
            raise DatasetError(f"{self._where} has the shape {stored}, expected (N, height, width, 3)")
        self._channels_first = stored[3] != 3
        self.shape = (stored[0], *stored[2:], 3) if self._channels_first else stored
        self._white = self._find_white() if kind.kind == "f" else 255.0
        if kind.kind != "f" and kind != np.uint8:
            raise DatasetError(f"{self._where} holds {kind}; {EXPECTED}")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        """Frames of these rows.

        Raises:
            EpisodeError: they cannot be read, or are no frames.
        """
        frames = self._column[rows]
        if self._channels_first:
            frames = np.moveaxis(frames, -3, -1)
        if frames.dtype == np.uint8:
            return frames
        if not ((frames >= 0.0) & (frames <= self._white)).all():
            raise EpisodeError(f"{self._where} is not from 0 to {self._white:g}, as it is elsewhere,")
        return np.rint(frames * (255.0 / self._white)).astype(np.uint8)

    def _find_white(self) -> float:
        """What floats call white, 1 or 255: what most frames do not pass, whatever is wrong with some.

        Raises:
            DatasetError: it is neither, or no frame can be read.
        """
        lows, highs = [], []
        refusal = DatasetError(f"{self._where} is not finite")
        for row in range(0, len(self), -(-len(self) // SAMPLED_FRAMES)):
            try:
                frame = self._column[row]
            except EpisodeError as error:
                refusal = error
                continue
            if np.isfinite(frame).all():
                lows.append(frame.min())
                highs.append(frame.max())
        if not highs:
            raise refusal
        low, high = float(np.median(lows)), float(np.median(highs))
        if not 0.0 <= low <= high <= 255.0:
            raise DatasetError(f"{self._where} holds {self._column.dtype} from {low:.3g} to {high:.3g}; {EXPECTED}")
        return 1.0 if high <= 1.0 else 255.0
