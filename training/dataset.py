"""Episodes in one HDF5 file, in the columns that stable-worldmodel reads, memory-mapped for training.

Every column is one array over all control steps; `ep_len` and `ep_offset` say where an episode lies. Pixels are stored
contiguous and uncompressed so that windows are read straight from the page cache.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

INDEX_COLUMNS = ("ep_len", "ep_offset")


class DatasetError(ValueError):
    """A dataset that cannot be used; the message is one line for the user."""


def write_episode(path: Path, columns: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
    """Write one episode beside `path`, then rename it there, so that a file that exists is whole."""
    beside = path.with_suffix(".writing")
    with h5py.File(beside, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column)
        file.attrs["meta"] = json.dumps(meta)
    os.replace(beside, path)


def merge_episodes(parts: list[Path], path: Path, meta: dict[str, Any]) -> None:
    """Join episode files into one dataset at `path`; per-episode notes go into the attribute `meta`."""
    lengths, episodes = [], []
    for part in parts:
        with h5py.File(part, "r") as file:
            lengths.append(len(file["action"]))
            episodes.append(json.loads(file.attrs["meta"]))
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    beside = path.with_suffix(".writing")
    with h5py.File(beside, "w") as whole:
        whole["ep_len"] = np.asarray(lengths, dtype=np.int64)
        whole["ep_offset"] = offsets
        for part, offset, length in zip(parts, offsets, lengths, strict=True):
            with h5py.File(part, "r") as file:
                for name, column in file.items():
                    if name not in whole:
                        whole.create_dataset(name, (sum(lengths), *column.shape[1:]), column.dtype)
                    whole[name][offset : offset + length] = column[:]
        whole.attrs["meta"] = json.dumps(meta | {"episodes": episodes})
    os.replace(beside, path)


@dataclass(frozen=True)
class EpisodeDataset:
    """A dataset opened for reading. Columns other than pixels are in memory."""

    path: Path
    pixels: NDArray[np.uint8]
    columns: dict[str, NDArray[Any]]
    lengths: NDArray[np.int64]
    offsets: NDArray[np.int64]
    meta: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> EpisodeDataset:
        """Open the file.

        Raises:
            DatasetError: the file is missing, is not HDF5, or lacks a column.
        """
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            reason = "no such file" if not Path(path).exists() else f"not a readable HDF5 file ({error})"
            raise DatasetError(f"{path}: {reason}; `lewm collect --out {path}` writes one") from None
        with file:
            for name in ("pixels", "action", *INDEX_COLUMNS):
                if name not in file:
                    raise DatasetError(f"{path}: column '{name}' is missing; found {', '.join(file)}")
            stored = file["pixels"]
            offset = stored.id.get_offset()
            if offset is None:
                pixels = stored[:]
            else:
                pixels = np.memmap(path, dtype=stored.dtype, mode="r", offset=offset, shape=stored.shape)
            columns = {n: c[:] for n, c in file.items() if n not in ("pixels", *INDEX_COLUMNS)}
            meta = json.loads(file.attrs.get("meta", "{}"))
            dataset = cls(Path(path), pixels, columns, file["ep_len"][:], file["ep_offset"][:], meta)
        bad = np.flatnonzero(~np.isfinite(dataset.columns["action"]).all(axis=1))
        if len(bad):
            episode = int(np.searchsorted(dataset.offsets, bad[0], side="right") - 1)
            row = int(bad[0] - dataset.offsets[episode])
            raise DatasetError(f"{path}: action is not finite in episode {episode}, row {row}")
        return dataset

    def split(self, validation_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episode numbers for training and for validation, disjoint."""
        order = np.random.default_rng(seed).permutation(len(self.lengths))
        held_out = max(1, round(validation_fraction * len(order)))
        return np.sort(order[held_out:]), np.sort(order[:held_out])

    def window_starts(self, episodes: NDArray[np.int64], span: int) -> NDArray[np.int64]:
        """First rows of every window of `span` control steps that lies inside one of the episodes.

        Raises:
            DatasetError: no episode is that long.
        """
        starts = [
            np.arange(self.offsets[e], self.offsets[e] + self.lengths[e] - span + 1)
            for e in episodes
            if self.lengths[e] >= span
        ]
        if not starts:
            raise DatasetError(f"{self.path}: no episode holds a window of {span} control steps")
        return np.concatenate(starts)

    def anchored_episodes(self, episodes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Those of the episodes in which only the wrist moves, grouped by where the rest of the arm stands.

        Raises:
            DatasetError: the dataset has no such episodes.
        """
        notes = self.meta.get("episodes", [])
        anchors = {int(e): notes[e].get("anchor") for e in episodes if e < len(notes)}
        groups = sorted({anchor for anchor in anchors.values() if anchor is not None})
        if not groups:
            raise DatasetError(f"{self.path}: no anchored episodes; set anchored_fraction to 0 or collect with `lewm`")
        return [np.array([e for e, anchor in anchors.items() if anchor == group]) for group in groups]

    def read_windows(
        self, starts: NDArray[np.int64], frames: int, action_block: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Frames at block boundaries (B, frames, height, width, 3) and the actions between (B, frames-1, block, 7)."""
        rows = starts[:, None] + action_block * np.arange(frames)
        steps = starts[:, None] + np.arange((frames - 1) * action_block)
        actions = self.columns["action"][steps].reshape(len(starts), frames - 1, action_block, -1)
        return self.pixels[rows], actions
