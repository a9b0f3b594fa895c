"""HDF5 files of stable-worldmodel, and others with one array per column and `ep_len` and `ep_offset`.

This project's own files need no export: stable-worldmodel's reader opens them as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_training.data import EpisodeError
from lewm_training.data.fingerprint import fingerprint
from lewm_training.data.formats.declaration import ColumnDeclaration, read_declaration, refuse_radians
from lewm_training.data.frames import StoredFrames
from lewm_training.data.reading import read_index
from lewm_training.data.spec import PROPRIO, camera_columns
from lewm_training.data.stored import StoredColumn, damage_named, open_hdf5, require_column
from lewm_training.data.writing import Episode, import_episodes

EXAMPLE = "config/hdf5.yaml"


def import_data(source: Path, out: Path, config: Path | None, skip_bad: bool) -> dict[str, Any]:
    """Rewrite the file in this project's layout.

    stable-worldmodel stores NaN as the action of a row after which the episode ends; such last rows are cut off.

    Raises:
        DatasetError: the file cannot be read, lacks a column, or an episode is bad.
        ConfigError: the YAML does not fit.
    """
    declaration = read_declaration(config, EXAMPLE)
    if declaration.control_hz is None:
        raise ConfigError(f"{config}: missing key 'control_hz'; the file does not say it")
    cameras, others = declaration.camera_sources, declaration.source_columns
    with open_hdf5(source) as file, damage_named(source):
        named = list(dict.fromkeys([*cameras.values(), *others.values()]))
        for name in named:
            require_column(file, name)
        lengths, offsets = read_index(file, named)
        frames = {camera: StoredFrames(source, column) for camera, column in cameras.items()}
        columns = {name: StoredColumn(source, column) for name, column in others.items()}
    if PROPRIO in columns:
        refuse_radians(declaration, _readable(columns[PROPRIO], lengths, offsets), str(source))

    def episodes() -> Iterator[tuple[str, Callable[[], Episode]]]:
        for number, (length, offset) in enumerate(zip(lengths.tolist(), offsets.tolist(), strict=True)):
            rows = slice(offset, offset + length)
            yield str(number), lambda rows=rows: _read(columns, frames, declaration, rows)

    settings = {"format": "hdf5", "source": str(source.resolve()), **dataclasses.asdict(declaration)}
    return import_episodes(
        out,
        [(fingerprint([source]), episodes())],
        settings,
        declaration.spec(declaration.control_hz),
        declaration.minimum_steps,
        skip_bad,
        len(lengths),
    )


def _readable(column: StoredColumn, lengths: NDArray[np.int64], offsets: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """The column, episode by episode, without those that cannot be read."""
    for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        with contextlib.suppress(EpisodeError):
            yield column[offset : offset + length]


def _read(
    stored: dict[str, StoredColumn], frames: dict[str, StoredFrames], declaration: ColumnDeclaration, rows: slice
) -> Episode:
    columns = declaration.columns({name: column[rows] for name, column in stored.items()})
    if np.isnan(columns["action"][-1:]).any():
        columns = {name: values[:-1] for name, values in columns.items()}
    for camera, column in camera_columns(list(frames)).items():
        pixels = frames[camera][rows][: len(columns["action"])]
        columns[column] = np.array([declaration.frame(frame) for frame in pixels])
    return columns, {}
