"""Rows that say in every column which row of which episode they are, so that a wrong one shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lewm_training.data import EpisodeDataset

LENGTHS = (8, 10, 7)
"""Rows of the three episodes."""

HZ = 20
LIMIT_RAD = 0.05
IMAGE_SIZE = 32
BLOCKS = 4
"""Blocks of a frame along each side: eight bits of the mark, and eight that check them."""

TOLERANCES = {"proprio": 2e-3, "action": 2e-4, "ee_position": 0.1}
"""Rows differ by ten times as much."""

Mark = tuple[int, int]
"""Episode and row."""


class WrongRow(Exception):
    """A row of a dataset is no row of the source."""


def states(episode: int) -> NDArray[np.float32]:
    """Joint positions (steps, 7), rad."""
    rows = np.arange(LENGTHS[episode])
    first = np.full(len(rows), 0.3 * (episode + 1))
    second = 0.02 * (rows + 1)
    columns = [first, second, first + second, -first, -second, first - second, np.full(len(rows), 0.2)]
    return np.stack(columns, axis=1).astype(np.float32)


def actions(episode: int) -> NDArray[np.float32]:
    """Changes (steps, 7) within `LIMIT_RAD`; they need not be those of the states."""
    rows = np.arange(LENGTHS[episode])
    first = np.full(len(rows), 0.004 * (episode + 1))
    second = 0.002 * (rows + 1)
    columns = [first, second, first + second, -first, -second, first - second, np.full(len(rows), 0.01)]
    return np.stack(columns, axis=1).astype(np.float32)


def tips(episode: int) -> NDArray[np.float32]:
    """A label (steps, 3), nowhere zero."""
    rows = np.arange(LENGTHS[episode])
    return np.stack([np.full(len(rows), 1 + episode), 1 + rows, 2 + episode + rows], axis=1).astype(np.float32)


def frame(code: int, size: int = IMAGE_SIZE) -> NDArray[np.uint8]:
    """A frame (size, size, 3) of warm and cold blocks that say a number below 256."""
    bits = np.unpackbits(np.array([code, _check(code)], dtype=np.uint8)).reshape(BLOCKS, BLOCKS, 1)
    blocks = np.where(bits, np.array([230, 128, 25]), np.array([25, 128, 230])).astype(np.uint8)
    return blocks.repeat(size // BLOCKS, axis=0).repeat(size // BLOCKS, axis=1)


def frames(episode: int) -> NDArray[np.uint8]:
    """Frames (steps, IMAGE_SIZE, IMAGE_SIZE, 3)."""
    return np.stack([frame(_code(episode, row)) for row in range(LENGTHS[episode])])


def read_frame(pixels: NDArray[np.uint8]) -> int | None:
    """The number that a frame says; None: it cannot be read."""
    size = min(pixels.shape[:2]) // BLOCKS
    if not size:
        return None
    blocks = pixels[: size * BLOCKS, : size * BLOCKS].astype(float).reshape(BLOCKS, size, BLOCKS, size, 3).mean((1, 3))
    warmth = blocks[..., 0] - blocks[..., 2]
    if np.abs(warmth).min() < 80.0:
        return None
    code, check = np.packbits(warmth.reshape(-1) > 0)
    return int(code) if check == _check(int(code)) else None


def frame_marks(pixels: NDArray[np.uint8]) -> list[Mark | None]:
    """What each of the frames (N, height, width, 3) says."""
    codes = [read_frame(image) for image in pixels]
    return [None if code is None else divmod(code, 32) for code in codes]


def nearest(values: NDArray[np.floating], table: NDArray[np.floating], tolerance: float) -> list[int | None]:
    """For each of the values (N, K) the number of the row of the table (M, K) that it is; None: of none."""
    distances = np.abs(values.astype(float)[:, None] - table[None]).max(axis=2)
    best = distances.argmin(axis=1)
    return [int(row) if distance[row] < tolerance else None for row, distance in zip(best, distances, strict=True)]


def column_marks(name: str, dataset: EpisodeDataset, rows: slice) -> list[Mark | None]:
    """Which row each of the rows of the column `proprio`, `action` or `ee_position` is.

    Raises:
        WrongRow: there is no such column of numbers, or it has another shape.
    """
    if name not in dataset.columns:
        raise WrongRow(f"{name} is no column of numbers")
    values = dataset.columns[name][rows]
    make = {"proprio": states, "action": actions, "ee_position": tips}[name]
    table = np.concatenate([make(episode) for episode in range(len(LENGTHS))])
    if values.shape[1:] != table.shape[1:]:
        if name == "ee_position":  # a label is what the source says
            return [None] * len(values)
        raise WrongRow(f"{name} has the shape {values.shape}")
    marks = [(episode, row) for episode, steps in enumerate(LENGTHS) for row in range(steps)]
    return [None if row is None else marks[row] for row in nearest(values, table, TOLERANCES[name])]


def check_marks(marks: dict[str, Sequence[Mark | None]], readable: bool) -> None:
    """Check the rows of one imported episode: all columns of a row are of one row, and rows follow one another.

    Args:
        marks: by column, what each row says.
        readable: every column of every row must say something.

    Raises:
        WrongRow: names the first row that is wrong.
    """
    first: Mark | None = None
    for row, found in enumerate(zip(*marks.values(), strict=True)):
        named = dict(zip(marks, found, strict=True))
        if readable and None in found:
            raise WrongRow(f"row {row} cannot be read: {named}")
        said = {(mark[0], mark[1] - row) for mark in found if mark is not None}
        if first is not None:
            said.add(first)
        if len(said) > 1:
            raise WrongRow(f"row {row} mixes rows: {named}, the episode begins with {first}")
        first = next(iter(said), first)


def _code(episode: int, row: int) -> int:
    return 32 * episode + row


def _check(code: int) -> int:
    return (167 * code + 91) % 256
