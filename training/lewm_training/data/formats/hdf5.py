"""HDF5 files of stable-worldmodel, and others with one array per column and `ep_len` and `ep_offset`.

This project's own files need no export: stable-worldmodel's reader opens them as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lewm_ros.config import ConfigError
from lewm_training.data import DatasetError
from lewm_training.data.formats.declaration import Declaration, read_declaration, refuse_radians
from lewm_training.data.frames import StoredFrames
from lewm_training.data.reading import INDEX_COLUMNS, read_index
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
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise DatasetError(f"{source}: not a whole HDF5 file ({error})") from None
    with file:
        for name in (declaration.pixels, *declaration.source_columns.values(), *INDEX_COLUMNS):
            if name not in file:
                raise DatasetError(f"{source}: column '{name}' is missing; found {', '.join(file)}")
        frames = StoredFrames(source, declaration.pixels)
        lengths, offsets = read_index(file)
        if declaration.state:
            stored = file[declaration.state]
            states = (stored[start : start + steps] for start, steps in zip(offsets, lengths, strict=True))
            refuse_radians(declaration, states, str(source))

        def episodes() -> Iterator[tuple[str, Callable[[], Episode]]]:
            for number, (length, offset) in enumerate(zip(lengths.tolist(), offsets.tolist(), strict=True)):
                rows = slice(offset, offset + length)
                yield str(number), lambda rows=rows: _read(file, frames, declaration, rows)

        settings = {"format": "hdf5", "source": str(source.resolve()), **dataclasses.asdict(declaration)}
        meta = declaration.meta(declaration.control_hz)
        return import_episodes(out, episodes(), settings, meta, declaration.minimum_steps, skip_bad, len(lengths))


def _read(file: h5py.File, frames: StoredFrames, declaration: Declaration, rows: slice) -> Episode:
    columns = declaration.columns({name: file[column][rows] for name, column in declaration.source_columns.items()})
    if np.isnan(columns["action"][-1:]).any():
        columns = {name: values[:-1] for name, values in columns.items()}
    pixels = frames[rows][: len(columns["action"])]
    columns["pixels"] = np.stack([declaration.frame(frame) for frame in pixels])
    return columns, {}
