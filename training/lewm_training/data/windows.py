"""Windows of frames and actions on their way from the file to the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import TrainConfig
from lewm_ros.model.pixels import normalise_pixels
from lewm_ros.robot.action_space import ActionSpace
from lewm_training.data import EpisodeDataset

READERS, AHEAD = 2, 4
"""Threads that read, and batches that they keep ready."""

Windows = tuple[Tensor, Tensor]


class WindowSampler:
    """Chooses the windows of every training batch: uniform, but for the anchored share.

    Args:
        dataset: where the episodes are.
        episodes: those to train on.
        config: says how many windows, how long, and which share is anchored.
        span: control steps of a window.

    Raises:
        DatasetError: no episode is long enough, or none is anchored though some are asked for.
    """

    def __init__(self, dataset: EpisodeDataset, episodes: NDArray[np.int64], config: TrainConfig, span: int) -> None:
        self.starts = dataset.window_starts(episodes, span)
        self._batch, self._anchored = config.batch_size, round(config.anchored_fraction * config.batch_size)
        groups = dataset.anchored_episodes(episodes) if self._anchored else []
        self._groups = [dataset.window_starts(group, span) for group in groups]

    def batches(self, rng: np.random.Generator, steps: int) -> Iterator[NDArray[np.int64]]:
        """First rows of the windows (B,) of each of so many batches; the anchored ones come last."""
        for _ in range(steps):
            plain = rng.choice(self.starts, self._batch - self._anchored)
            group = self._groups[rng.integers(len(self._groups))] if self._groups else plain
            yield np.concatenate([plain, rng.choice(group, self._anchored)])


@dataclass(frozen=True)
class WindowReader:
    """Reads windows and brings them to the device: frames stay uint8 until they are there.

    Args:
        dataset: where they are read.
        action_space: normalises their actions.
        device: where they go; memory is pinned for CUDA.
    """

    dataset: EpisodeDataset
    action_space: ActionSpace
    device: torch.device

    def read(self, starts: NDArray[np.int64], frames: int) -> Windows:
        """Frames uint8 (B, frames, height, width, 3) and z-scored blocks (B, frames-1, A), on the host."""
        pixels, actions = self.dataset.read_windows(starts, frames, self.action_space.action_block)
        blocks = self.action_space.normalise(actions).astype(np.float32)
        windows = torch.from_numpy(pixels), torch.from_numpy(blocks)
        return tuple(t.pin_memory() for t in windows) if self.device.type == "cuda" else windows

    def to_device(self, windows: Windows) -> Windows:
        """What `read` gives, on the device, with normalised frames (B, frames, 3, height, width)."""
        pixels, actions = (t.to(self.device, non_blocking=True) for t in windows)
        return normalise_pixels(pixels), actions

    def read_ahead(self, batches: Iterable[NDArray[np.int64]], frames: int) -> Iterator[Windows]:
        """`read` of each batch, in order, by threads while the model computes."""
        return read_ahead(lambda starts: self.read(starts, frames), batches)


def read_ahead(read: Callable[[NDArray[np.int64]], Windows], batches: Iterable[NDArray[np.int64]]) -> Iterator[Windows]:
    """`read(batch)` for each batch, in order; what goes wrong in a thread is raised here."""
    remaining, pending = iter(batches), deque[Future[Windows]]()
    with ThreadPoolExecutor(READERS, "windows") as threads:
        try:
            pending.extend(threads.submit(read, batch) for batch in islice(remaining, AHEAD))
            while pending:
                windows = pending.popleft().result()
                pending.extend(threads.submit(read, batch) for batch in islice(remaining, 1))
                yield windows
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
