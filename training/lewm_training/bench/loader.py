"""How many training windows per second one process reads, from the disk and from the page cache."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.config import InputsConfig
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.windows import InputReader, WindowReader
from lewm_training.judge.machine import describe
from lewm_training.learn.statistics import action_space_of, input_spec_of

WARM_SHARE = 0.25
"""Of the machine's memory: how much of the file the warm measurement reads."""


def bench_loader(
    path: Path, frames: int, action_block: int, batch_size: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Read random windows as training does, first with none of the file in the page cache, then with all of them.

    The cold measurement drops the file from the page cache and draws windows evenly from the whole file, none twice;
    how much of the file it has read at the end bounds what it can have found in the cache. The warm one draws from a
    stretch that was read before.

    Args:
        path: a dataset.
        frames: per window.
        action_block: control steps between two frames.
        batch_size: windows per batch, as in training.
        seconds: for each of the two measurements.
        seed: of the draws.

    Raises:
        DatasetError: there are no two batches of windows, or the dataset does not say what its actions are.
    """
    dataset = EpisodeDataset.open(path)
    episodes = np.arange(len(dataset.lengths))
    starts = dataset.window_starts(episodes, (frames - 1) * action_block + 1)
    if len(starts) < 2 * batch_size:
        raise DatasetError(f"{path}: has {len(starts)} windows, fewer than two batches of {batch_size}")
    # Frames are read as they are: a model of their size takes in all cameras.
    inputs = input_spec_of(InputsConfig(), min(dataset.pixels.shape[1:3]), dataset, episodes)
    actions = action_space_of(dataset, episodes, action_block)
    reader = WindowReader(InputReader(dataset, inputs), actions, torch.device("cpu"))
    rng = np.random.default_rng(seed)
    rng.shuffle(starts)
    frame_bytes = _frame_bytes(dataset)
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    _drop_from_cache(path)
    cold = _read(reader, starts, frames, batch_size, seconds, "cold")

    rows = min(len(dataset.pixels), int(WARM_SHARE * memory_bytes / frame_bytes))
    for first in tqdm(range(0, rows, batch_size), desc="warm up", leave=False):
        for camera in dataset.frames.values():
            camera[first : min(first + batch_size, rows)]
    near = rng.choice(starts[starts < rows - frames * action_block], len(starts))
    warm = _read(reader, near, frames, batch_size, seconds, "warm")
    return {
        "cold": cold | {"share_of_file_read": cold["windows"] * frames * frame_bytes / path.stat().st_size},
        "warm": warm,
        "file_bytes": path.stat().st_size,
        "memory_bytes": memory_bytes,
        "window": {"frames": frames, "action_block": action_block, "pixels": _shapes(dataset)},
        "batch_size": batch_size,
        **describe(torch.device("cpu")),
    }


def _read(
    reader: WindowReader, starts: NDArray[np.int64], frames: int, batch_size: int, seconds: float, name: str
) -> dict[str, float]:
    """Read batches at `starts`, one after the other, until the time is over or they are."""
    batches = (starts[first : first + batch_size] for first in range(0, len(starts) - batch_size, batch_size))
    windows, begun_s, cpu_begun_s = 0, time.perf_counter(), time.process_time()
    reading = reader.read_ahead(batches, frames)
    with tqdm(desc=name, unit="window", leave=False) as bar:
        for _ in reading:
            windows += batch_size
            bar.update(batch_size)
            if time.perf_counter() - begun_s > seconds:
                break
    elapsed_s = time.perf_counter() - begun_s
    reading.close()
    return {
        "windows_per_s": round(windows / elapsed_s),
        "windows": windows,
        "mb_per_s": round(windows * frames * _frame_bytes(reader.dataset) / elapsed_s / 1e6),
        "cores_used": round((time.process_time() - cpu_begun_s) / elapsed_s, 2),
    }


def _shapes(dataset: EpisodeDataset) -> dict[str, list[int]]:
    """Height, width and channels of every camera's frames."""
    return {name: list(camera.shape[1:]) for name, camera in dataset.frames.items()}


def _frame_bytes(dataset: EpisodeDataset) -> int:
    """Of the frames of all cameras at one control step."""
    return sum(math.prod(shape) for shape in _shapes(dataset).values())


def _drop_from_cache(path: Path) -> None:
    """Forget the file's pages: written ones first, since only clean pages can go."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
