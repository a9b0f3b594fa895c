"""A dataset opened for training: memory-mapped, checked, cut into windows."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_ros.robot.action_space import ActionSpace
from lewm_training.data.checks import DatasetError, EpisodeError, SkippableError, check_episode
from lewm_training.data.fingerprint import DIGITS
from lewm_training.data.frames import Frames, MappedFrames, StoredFrames
from lewm_training.data.meta import check_episode_notes, read_meta
from lewm_training.data.spec import INTENDED, DatasetSpec
from lewm_training.data.stored import StoredColumn, damage_named, find_column, open_hdf5, require_column

INDEX_COLUMNS = ("ep_len", "ep_offset")
CHECKED_COLUMNS = ("action", INTENDED, "proprio", "timestamp_s")
"""Beside the vectors."""

IMPORT_HINT = " (`lewm import --from hdf5` takes columns of other names)"

IDENTIFYING_FRAMES = 256
"""Evenly spread, that count towards a dataset's fingerprint."""

Column = NDArray[Any] | StoredColumn


@dataclass(frozen=True)
class ColumnStatistics:
    """Over the rows of a column (N, K): each field is (K,)."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class EpisodeDataset:
    """A dataset opened for reading. Columns stay in the file: what memory holds does not grow with it.

    Args:
        files: the file that holds it, or several one after the other, and how many episodes are in each.
        spec: what it holds.
        frames: of every camera, by name.
        columns: all others.
        lengths, offsets: control steps of every episode, and the row of its first.
        meta: what the file says of itself.
        skip_bad: whether bad episodes are left out.
        skipped: why each episode that is left out is; empty unless `skip_bad`.
    """

    files: tuple[tuple[Path, int], ...]
    spec: DatasetSpec
    frames: dict[str, Frames]
    columns: dict[str, Column]
    lengths: NDArray[np.int64]
    offsets: NDArray[np.int64]
    meta: dict[str, Any]
    skip_bad: bool = False
    skipped: dict[int, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, skip_bad: bool = False) -> EpisodeDataset:
        """Open the file of `lewm collect`, `lewm import` or stable-worldmodel.

        Args:
            path: the file.
            skip_bad: leave bad episodes out, and note them in `skipped`, instead of stopping at the first.

        Raises:
            DatasetError: the file is missing, incomplete or not HDF5, lacks a column, or an episode is bad.
        """
        path = Path(path)
        with open_hdf5(path) as file, damage_named(path):
            require_column(file, "action", IMPORT_HINT)
            meta = read_meta(file)
            try:
                spec = DatasetSpec.of(meta, set(file))
            except ConfigError as error:
                raise DatasetError(f"{path}: attribute 'meta': {error}") from None
            for column in spec.cameras.values():
                require_column(file, column, IMPORT_HINT)
            if len(file["action"].shape) != 2:
                shape = file["action"].shape
                raise DatasetError(f"{path}: column 'action' has the shape {shape}, expected (N, numbers)")
            if INTENDED in file and file[INTENDED].shape[1:] != file["action"].shape[1:]:
                shapes = file[INTENDED].shape, file["action"].shape
                raise DatasetError(f"{path}: column '{INTENDED}' has the shape {shapes[0]}, 'action' {shapes[1]}")
            checked = (n for n in {*CHECKED_COLUMNS, *spec.vectors} if find_column(file, n) is not None)
            lengths, offsets = read_index(file, (*spec.cameras.values(), *sorted(checked)))
            check_episode_notes(meta, len(lengths), path)
            frames, columns = _open_columns(file, spec)
        dataset = cls(((path, len(lengths)),), spec, frames, columns, lengths, offsets, meta, skip_bad)
        for episode in range(len(lengths)):
            dataset._check(episode)
        return dataset

    @property
    def path(self) -> str:
        """What errors call it: its file, or its files."""
        return ", ".join(str(path) for path, _ in self.files)

    @property
    def name(self) -> str:
        """The same without folders."""
        return ", ".join(path.name for path, _ in self.files)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digits that change with the dataset's meta, actions, positions, times or frames, wherever it lies."""
        digest = hashlib.sha256(json.dumps(self.meta, sort_keys=True).encode())
        digest.update(self.lengths.tobytes())
        for name in self._checked:
            for episode in range(len(self.lengths)):
                digest.update(self.columns[name][self.rows(episode)].tobytes())
        for frames in self.frames.values():
            rows = np.linspace(0, len(frames) - 1, IDENTIFYING_FRAMES).astype(np.int64)
            digest.update(frames[np.unique(rows)].tobytes())
        return digest.hexdigest()[:DIGITS]

    @property
    def pixels(self) -> Frames:
        """The frames of the first camera."""
        return next(iter(self.frames.values()))

    @property
    def _checked(self) -> list[str]:
        """Columns that are looked at when the dataset is opened."""
        return [name for name in dict.fromkeys((*CHECKED_COLUMNS, *self.spec.vectors)) if name in self.columns]

    @property
    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says of the dataset that it was trained on."""
        known = {"episodes": len(self.lengths), "fingerprint": self.fingerprint}
        return {"file": self.name} | self.meta.get("config", {}) | known

    def require_same_actions(self, space: ActionSpace, whose: str) -> None:
        """Raise DatasetError, which names both, unless the actions can be those of `space`.

        Of a file that does not say what its actions are, as those of stable-worldmodel, only the size is known.
        """
        numbers = self.columns["action"].shape[1]
        if numbers != space.dim:
            raise DatasetError(f"{whose} acts in {space.describe()}, {self.path} has actions of {numbers} numbers")
        if self.spec.action_space is not None:
            try:
                space.require_same_actions(self.spec.action_space, whose, str(self.path))
            except ConfigError as error:
                raise DatasetError(str(error)) from None

    def rows(self, episode: int) -> slice:
        """Where an episode lies in the columns."""
        return slice(int(self.offsets[episode]), int(self.offsets[episode] + self.lengths[episode]))

    def split(self, validation_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episode numbers for training and for validation, disjoint, without those that are skipped.

        Raises:
            DatasetError: there are too few for both.
        """
        order = np.random.default_rng(seed).permutation(len(self.lengths))
        order = order[~np.isin(order, list(self.skipped))]
        if len(order) < 2:
            raise DatasetError(f"{self.path}: training and validation need two episodes, this has {len(order)}")
        held_out = max(1, round(validation_fraction * len(order)))
        if held_out >= len(order):
            share = f"validation_fraction {validation_fraction:g} of {len(order)} episodes"
            raise DatasetError(f"{self.path}: {share} leaves none to train on")
        return np.sort(order[held_out:]), np.sort(order[:held_out])

    def some(self, episodes: NDArray[np.int64], count: int | None, seed: int) -> NDArray[np.int64]:
        """So many of these episodes, drawn by the seed: of a larger number, those of a smaller one and more; None: all.

        Raises:
            ConfigError: there are not so many.
        """
        if count is None:
            return episodes
        if count > len(episodes):
            raise ConfigError(f"episodes: {self.path} has {len(episodes)} to learn from, got {count}")
        return np.sort(np.random.default_rng(seed).permutation(episodes)[:count])

    def window_starts(self, episodes: NDArray[np.int64], span: int) -> NDArray[np.int64]:
        """First rows of every window of `span` control steps that lies inside one of the episodes.

        Raises:
            DatasetError: an episode is shorter than that and is not to be skipped, or none is left.
        """
        starts = []
        for episode in (int(e) for e in episodes if e not in self.skipped):
            spare = self.lengths[episode] - span
            if spare < 0:
                self._reject(
                    episode, EpisodeError(f"only {self.lengths[episode]} control steps, a window takes {span},")
                )
            else:
                starts.append(self.offsets[episode] + np.arange(spare + 1))
        if not starts:
            raise DatasetError(f"{self.path}: no episode holds a window of {span} control steps")
        return np.concatenate(starts)

    def anchored_episodes(self, episodes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Those of the episodes in which only the wrist moves, grouped by where the rest of the arm stands.

        Raises:
            DatasetError: the dataset has no such episodes.
        """
        notes = self.meta.get("episodes") or [{}] * len(self.lengths)
        anchors = {int(e): notes[e].get("anchor") for e in episodes}
        groups = sorted({anchor for anchor in anchors.values() if anchor is not None})
        if not groups:
            raise DatasetError(f"{self.path}: no anchored episodes; set anchored_fraction to 0 or collect with `lewm`")
        return [np.array([e for e, anchor in anchors.items() if anchor == group]) for group in groups]

    def read_actions(
        self, starts: NDArray[np.int64], blocks: int, action_block: int, column: str = "action"
    ) -> NDArray[np.float32]:
        """The actions (B, blocks, action_block, dim) from these rows on, or those of another column."""
        steps = starts[:, None] + np.arange(blocks * action_block)
        return self.columns[column][steps].reshape(len(starts), blocks, action_block, -1)

    @property
    def imitated(self) -> str:
        """The column of actions that a policy is to imitate."""
        return INTENDED if INTENDED in self.columns else "action"

    def statistics(self, name: str, episodes: NDArray[np.int64]) -> ColumnStatistics:
        """Mean, standard deviation and range of a column over some episodes, read one after the other.

        Moments of episodes are joined by Chan, Golub and LeVeque's formula (1983).
        """
        count, mean, squares = 0, np.float64(0.0), np.float64(0.0)
        low, high = np.float64(np.inf), np.float64(-np.inf)
        for episode in episodes:
            values = self.columns[name][self.rows(episode)].astype(np.float64)
            shift, total = values.mean(0) - mean, count + len(values)
            squares = squares + ((values - values.mean(0)) ** 2).sum(0) + shift**2 * count * len(values) / total
            mean, count = mean + shift * len(values) / total, total
            low, high = np.minimum(low, values.min(0)), np.maximum(high, values.max(0))
        return ColumnStatistics(mean, np.sqrt(squares / count), low, high)

    def _check(self, episode: int) -> None:
        checked = {name: self.columns[name][self.rows(episode)] for name in self._checked}
        if not self.meta:
            # stable-worldmodel stores NaN as the last action of an episode; no window takes it.
            checked = {name: column[:-1] for name, column in checked.items()}
        try:
            check_episode(checked, self.spec)
        except EpisodeError as error:
            self._reject(episode, error)

    def _reject(self, episode: int, error: EpisodeError) -> None:
        path, number = self._place_of(episode)
        if not self.skip_bad:
            raise SkippableError(f"{path}: {error.named(number)}")
        self.skipped[episode] = error.named(number)

    def _place_of(self, episode: int) -> tuple[Path, int]:
        """The file that holds an episode, and its number there."""
        ends = np.cumsum([count for _, count in self.files])
        file = int(np.searchsorted(ends, episode, side="right"))
        path, count = self.files[file]
        return path, episode - int(ends[file]) + count


def read_index(file: h5py.File, columns: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths and offsets of the episodes, which follow one another without a gap and fill these columns.

    Raises:
        DatasetError: they do not.
    """
    rows = {name: len(file[name]) for name in columns}
    lengths, offsets = (_read_whole_numbers(file, name, max(rows.values())) for name in INDEX_COLUMNS)
    if len(lengths) != len(offsets) or not len(lengths):
        raise DatasetError(f"{file.filename}: ep_len has {len(lengths)} episodes, ep_offset {len(offsets)}")
    ends = np.cumsum(lengths)
    wrong = np.flatnonzero((offsets != ends - lengths) | (lengths < 1))
    if len(wrong):
        episode = int(wrong[0])
        raise DatasetError(
            f"{file.filename}: episode {episode} has ep_len {lengths[episode]} and ep_offset {offsets[episode]}, "
            f"expected ep_offset {ends[episode] - lengths[episode]}"
        )
    for name, count in rows.items():
        if count != ends[-1]:
            raise DatasetError(
                f"{file.filename}: column '{name}' has {count} rows, the episodes add up to {ends[-1]}; "
                "was the file written to its end?"
            )
    return lengths, offsets


def _read_whole_numbers(file: h5py.File, name: str, largest: int) -> NDArray[np.int64]:
    """A number from 0 to `largest` for each of at most so many episodes; (N, 1) is as good as (N,)."""
    column = require_column(file, name)
    if column.size != len(column) or len(column) > largest:
        raise DatasetError(f"{file.filename}: '{name}' has the shape {column.shape}, expected one number per episode")
    values = column[:].reshape(-1)
    wrong = np.flatnonzero(~((values >= 0) & (values <= largest) & (np.trunc(values) == values)))
    if len(wrong):
        raise DatasetError(
            f"{file.filename}: {name} of episode {wrong[0]} is {values[wrong[0]]}, "
            f"expected a whole number from 0 to {largest}"
        )
    return values.astype(np.int64)


def _open_columns(file: h5py.File, spec: DatasetSpec) -> tuple[dict[str, Frames], dict[str, Column]]:
    """Frames by camera, and all other columns of numbers with as many rows, memory-mapped where they lie contiguous."""
    path = Path(file.filename)
    with path.open("rb") as handle:
        memory = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    frames = {camera: _open_frames(file, column, path, memory) for camera, column in spec.cameras.items()}
    rows = len(next(iter(frames.values())))
    columns: dict[str, Column] = {}
    for name in (name for name in file if name not in (*spec.cameras.values(), *INDEX_COLUMNS)):
        column = find_column(file, name)
        if column is None or len(column) != rows:
            continue
        offset = column.id.get_offset()
        if offset is not None:
            columns[name] = np.frombuffer(memory, column.dtype, column.size, offset).reshape(column.shape)
        elif name in CHECKED_COLUMNS or name in spec.vectors:
            columns[name] = column[:]
        else:
            columns[name] = StoredColumn(path, name)
    return frames, columns


def _open_frames(file: h5py.File, name: str, path: Path, memory: mmap.mmap) -> Frames:
    stored = file[name]
    offset = stored.id.get_offset()
    if offset is not None and stored.dtype == np.uint8 and stored.ndim == 4 and stored.shape[3] == 3:
        return MappedFrames(path, memory, offset, stored.shape)
    return StoredFrames(path, name)
