"""How many training windows per second one process reads, from the disk and from the page cache."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_training.bench.machine import describe
from lewm_training.dataset import EpisodeDataset

WARM_SHARE = 0.25
"""Of the machine's memory: how much of the file the warm measurement reads."""


def bench_loader(
    path: Path, frames: int, action_block: int, batch_size: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Read random windows as training does, first with none of the file in the page cache, then with all of them.

    A cold reading drops the file from the page cache and draws windows evenly from the whole file, none twice; how much
    of the file it has read at the end bounds what it can have found in the cache. A warm one draws from a stretch that
    was read before.

    Args:
        path: a dataset.
        frames: per window.
        action_block: control steps between two frames.
        batch_size: windows per call, as in training.
        seconds: for each of the two measurements.
        seed: of the draws.
    """
    dataset = EpisodeDataset.open(path)
    starts = dataset.window_starts(np.arange(len(dataset.lengths)), (frames - 1) * action_block + 1)
    rng = np.random.default_rng(seed)
    rng.shuffle(starts)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    stored = path.stat().st_size
    _drop_from_cache(path)
    cold = _read(dataset, starts, frames, action_block, batch_size, seconds, "cold")
    frame_bytes = int(np.prod(dataset.pixels.shape[1:]))
    rows = min(len(dataset.pixels), int(WARM_SHARE * memory / frame_bytes))
    for start in tqdm(range(0, rows, batch_size), desc="warm up", leave=False):
        dataset.pixels[start : min(start + batch_size, rows)]
    reread = rng.choice(np.flatnonzero(starts < rows - frames * action_block), len(starts))
    warm = _read(dataset, starts[reread], frames, action_block, batch_size, seconds, "warm")
    return {
        "cold_windows_per_s": cold["windows_per_s"],
        "warm_windows_per_s": warm["windows_per_s"],
        "cold_read_share": cold["windows"] * frames * frame_bytes / stored,
        "cold_mb_per_s": cold["windows_per_s"] * frames * frame_bytes / 1e6,
        "cold_slowest_batch_s": cold["slowest_batch_s"],
        "file_bytes": stored,
        "memory_bytes": memory,
        "window": {"frames": frames, "action_block": action_block, "pixels": list(dataset.pixels.shape[1:])},
        "batch_size": batch_size,
        **describe(torch.device("cpu")),
    }


def _read(
    dataset: EpisodeDataset,
    starts: NDArray[np.int64],
    frames: int,
    action_block: int,
    batch_size: int,
    seconds: float,
    name: str,
) -> dict[str, float]:
    """Read batches at `starts`, one after the other, until the time is over or they are."""
    begun_s = batch_begun_s = time.perf_counter()
    slowest_s, windows = 0.0, 0
    with tqdm(desc=name, unit="window", leave=False) as bar:
        while windows + batch_size <= len(starts) and batch_begun_s - begun_s < seconds:
            dataset.read_windows(starts[windows : windows + batch_size], frames, action_block)
            windows += batch_size
            now_s = time.perf_counter()
            slowest_s, batch_begun_s = max(slowest_s, now_s - batch_begun_s), now_s
            bar.update(batch_size)
    return {"windows": windows, "windows_per_s": windows / (batch_begun_s - begun_s), "slowest_batch_s": slowest_s}


def _drop_from_cache(path: Path) -> None:
    """Forget the file's pages: written ones first, since only clean pages can go."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
