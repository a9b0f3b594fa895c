"""Several dataset files as one dataset: their episodes follow one another, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_training.data.checks import DatasetError
from lewm_training.data.frames import Frames
from lewm_training.data.reading import Column, EpisodeDataset
from lewm_training.data.stored import Rows, row_numbers


def open_datasets(paths: Sequence[Path], skip_bad: bool = False) -> EpisodeDataset:
    """Open files that were recorded in the same action space, with the same cameras and vectors, as one dataset.

    Of other columns those are kept that all files have, with as many numbers. The order of the files counts: in
    another one it is another dataset.

    Args:
        paths: at least one file.
        skip_bad: as in `EpisodeDataset.open`.

    Raises:
        DatasetError: a file cannot be used, comes twice, or differs from the first; names both.
    """
    resolved = [Path(path).resolve() for path in paths]
    twice = [path for path, file in zip(paths, resolved, strict=True) if resolved.count(file) > 1]
    if twice:
        raise DatasetError(f"{twice[0]}: is given more than once")
    datasets = [EpisodeDataset.open(path, skip_bad) for path in paths]
    return datasets[0] if len(datasets) == 1 else _join(datasets)


class JoinedColumn:
    """Columns (N, ...) of several files, or frames, one after the other, indexed as an array is; a copy is read."""

    def __init__(self, parts: Sequence[Column | Frames]) -> None:
        self._parts, self._ends = parts, np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *parts[0].shape[1:])
        self.dtype = np.result_type(*(getattr(part, "dtype", np.uint8) for part in parts))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> NDArray[Any]:
        """Rows of the column.

        Raises:
            EpisodeError: they cannot be read.
        """
        numbers = row_numbers(rows, len(self))
        values = np.empty((*numbers.shape, *self.shape[1:]), self.dtype)
        found_in = np.searchsorted(self._ends, numbers, side="right")
        for part in np.unique(found_in):
            here = found_in == part
            values[here] = self._parts[part][numbers[here] - (self._ends[part] - len(self._parts[part]))]
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)


def _join(datasets: Sequence[EpisodeDataset]) -> EpisodeDataset:
    first = datasets[0]
    for other in datasets[1:]:
        _require_alike(first, other)
    shared = [
        name
        for name, column in first.columns.items()
        if all(name in other.columns and other.columns[name].shape[1:] == column.shape[1:] for other in datasets)
    ]
    lengths = np.concatenate([dataset.lengths for dataset in datasets])
    before = np.cumsum([0] + [len(dataset.lengths) for dataset in datasets]).tolist()
    return EpisodeDataset(
        tuple(file for dataset in datasets for file in dataset.files),
        first.spec,
        {camera: JoinedColumn([dataset.frames[camera] for dataset in datasets]) for camera in first.frames},
        {name: JoinedColumn([dataset.columns[name] for dataset in datasets]) for name in shared},
        lengths,
        np.cumsum(lengths) - lengths,
        _join_meta(datasets),
        first.skip_bad,
        {
            number + shift: reason
            for dataset, shift in zip(datasets, before, strict=False)
            for number, reason in dataset.skipped.items()
        },
    )


def _require_alike(first: EpisodeDataset, other: EpisodeDataset) -> None:
    """Raise DatasetError, which names both, unless one model can learn from both."""
    space = first.spec.action_space
    if space is not None:
        other.require_same_actions(space, first.path)
    for kind, mine, others in (
        ("channel", _channels(first), _channels(other)),
        ("camera", _sizes(first), _sizes(other)),
        ("vector", dict(first.spec.vectors), dict(other.spec.vectors)),
    ):
        for name in sorted(mine.keys() | others.keys()):
            if mine.get(name) != others.get(name):
                said = [", ".join(of[name]) if name in of else "lacks it" for of in (mine, others)]
                raise DatasetError(
                    f"{kind} '{name}' must be the same in all files: {first.path}: {said[0]}; {other.path}: {said[1]}"
                )


def _channels(dataset: EpisodeDataset) -> dict[str, tuple[str, ...]]:
    """What is said of every number of an action; without that, how many there are."""
    space = dataset.spec.action_space
    if space is None:
        return {"action": (f"{dataset.columns['action'].shape[1]} numbers of which nothing is said",)}
    return {c.name: (f"{c.kind}, {c.low:g} to {c.high:g} {c.unit}".rstrip(), f"rest {c.rest}") for c in space.channels}


def _sizes(dataset: EpisodeDataset) -> dict[str, tuple[str, ...]]:
    """Width and height of every camera's frames, pixels."""
    return {name: (f"{frames.shape[2]}x{frames.shape[1]}",) for name, frames in dataset.frames.items()}


def _join_meta(datasets: Sequence[EpisodeDataset]) -> dict[str, Any]:
    """What the first file says of itself, settings of the recording as far as all agree, and notes on all episodes."""
    first = datasets[0].meta
    configs = [dataset.meta.get("config", {}) for dataset in datasets]
    config = {name: value for name, value in configs[0].items() if all(c.get(name) == value for c in configs)}
    episodes: list[dict[str, Any]] = []
    anchors = 0
    for dataset in datasets:
        notes = dataset.meta.get("episodes") or [{}] * len(dataset.lengths)
        shifted = [n | {"anchor": n["anchor"] + anchors} if n.get("anchor") is not None else n for n in notes]
        anchors = max([anchors, *(note["anchor"] + 1 for note in shifted if note.get("anchor") is not None)])
        episodes += shifted  # an arm that stands still in two files does not stand in the same place
    return first | {"config": config, "episodes": episodes} if first else {}
