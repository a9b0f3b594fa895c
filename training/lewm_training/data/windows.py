"""Windows of frames and actions on their way from the file to the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import TrainConfig
from lewm_ros.model.inputs import Inputs, to_inputs
from lewm_ros.observation.input_spec import CameraSpec, InputSpec
from lewm_ros.robot.action_space import ActionSpace
from lewm_training.data.checks import DatasetError
from lewm_training.data.frames import Frames
from lewm_training.data.hindsight import HindsightGoals
from lewm_training.data.reading import EpisodeDataset
from lewm_training.data.targets import Targets

READERS, AHEAD = 2, 4
"""Threads that read, and batches that they keep ready."""

Windows = tuple[Inputs, Tensor]
"""Of F frames: frames, vectors and labels by name (B, F, ...), and z-scored blocks (B, F-1, A)."""

LABEL, GOAL = "label/", "goal/"
"""What the names of labels and of a goal's inputs begin with, so that they are not those of what the model takes in."""

IMITATED = f"{LABEL}imitated"
"""The label (B, F-1, A) of the z-scored blocks that a policy is to imitate."""

STEPS_LEFT = f"{LABEL}steps_left"
"""The label (B,) that says how many control steps after its first frame a window's goal lies."""


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
class InputReader:
    """Reads what a model takes in from a dataset: frames cropped and resized, still uint8, and vectors.

    Args:
        dataset: where it is read.
        inputs: what is read.
        targets: what heads are to read from the states, read beside it as it is.

    Raises:
        ConfigError: the dataset lacks a camera.
        DatasetError: it lacks a vector, or has another vector under its name.
    """

    dataset: EpisodeDataset
    inputs: InputSpec
    targets: Targets = field(default_factory=dict)

    def __post_init__(self) -> None:
        dataset = self.dataset
        self.inputs.sources(dataset.frames, str(dataset.path))
        for vector in self.inputs.vectors:
            found = dataset.spec.vectors.get(vector.name)
            if found != vector.components:
                shown = "lacks it" if found is None else f"has {', '.join(found)}"
                wanted = ", ".join(vector.components)
                raise DatasetError(f"{dataset.path}: vector '{vector.name}' must be {wanted}; the dataset {shown}")

    def read(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Frames uint8 (..., size, size, 3), vectors and targets (..., n) at rows (...), by name, on the host."""
        dataset, sources = self.dataset, self.inputs.sources(self.dataset.frames, str(self.dataset.path))
        values = {cam.name: _fit(cam, dataset.frames[sources[cam.name]], rows) for cam in self.inputs.cameras}
        values |= {vector.name: dataset.columns[vector.name][rows] for vector in self.inputs.vectors}
        values |= {f"{LABEL}{name}": numbers[rows] for name, numbers in self.targets.items()}
        return {name: torch.from_numpy(value) for name, value in values.items()}


@dataclass(frozen=True)
class WindowReader:
    """Reads windows and brings them to the device: frames stay uint8 until they are there.

    Args:
        inputs: reads frames and vectors.
        action_space: normalises the actions.
        device: where they go; memory is pinned for CUDA.
    """

    inputs: InputReader
    action_space: ActionSpace
    device: torch.device

    @property
    def dataset(self) -> EpisodeDataset:
        """Where windows are read."""
        return self.inputs.dataset

    def read(self, starts: NDArray[np.int64], frames: int, goals: HindsightGoals | None = None) -> Windows:
        """Frames uint8 (B, frames, size, size, 3), vectors, and z-scored blocks (B, frames-1, A), on the host.

        With `goals`, what a goal has of a later frame (B, ...) comes too, under `GOAL`; the starts say which frame. And
        so do the blocks to imitate on the way there.
        """
        block = self.action_space.action_block
        values = self.inputs.read(starts[:, None] + block * np.arange(frames))
        if goals is not None:
            rows = goals.draw(np.random.default_rng(starts), starts + block * (frames - 1))
            values |= {f"{GOAL}{name}": value for name, value in self._of_goal.read(rows).items()}
            values[STEPS_LEFT] = torch.from_numpy(rows - starts)
            values[IMITATED] = self._blocks(starts, frames - 1, self.dataset.imitated)
        actions = self._blocks(starts, frames - 1, "action")
        if self.device.type != "cuda":
            return values, actions
        return {name: value.pin_memory() for name, value in values.items()}, actions.pin_memory()

    def _blocks(self, starts: NDArray[np.int64], blocks: int, column: str) -> Tensor:
        """The z-scored blocks (B, blocks, A) of a column from these rows on."""
        actions = self.dataset.read_actions(starts, blocks, self.action_space.action_block, column)
        return torch.from_numpy(self.action_space.normalise(actions).astype(np.float32))

    def to_device(self, windows: Windows) -> Windows:
        """What `read` gives, on the device, normalised."""
        values = {name: value.to(self.device, non_blocking=True) for name, value in windows[0].items()}
        inputs = to_inputs(self.inputs.inputs, values)
        inputs |= {name: value.float() for name, value in values.items() if name.startswith(LABEL)}
        if goal := {name.removeprefix(GOAL): value for name, value in values.items() if name.startswith(GOAL)}:
            inputs |= {f"{GOAL}{name}": value for name, value in to_inputs(self._of_goal.inputs, goal).items()}
        return inputs, windows[1].to(self.device, non_blocking=True)

    def read_ahead(
        self, batches: Iterable[NDArray[np.int64]], frames: int, goals: HindsightGoals | None = None
    ) -> Iterator[Windows]:
        """`read` of each batch, in order, by threads while the model computes."""
        return read_ahead(lambda starts: self.read(starts, frames, goals), batches)

    @cached_property
    def _of_goal(self) -> InputReader:
        return InputReader(self.dataset, self.inputs.inputs.of_goal())


def _fit(camera: CameraSpec, frames: Frames, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames at rows (...) as the model sees them (..., size, size, 3)."""
    found = frames[rows]
    if not camera.crop and found.shape[-3:-1] == (camera.size, camera.size):
        return found
    flat = found.reshape(-1, *found.shape[-3:])
    return np.stack([camera.fit(frame) for frame in flat]).reshape(*rows.shape, camera.size, camera.size, 3)


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
