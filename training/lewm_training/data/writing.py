"""Datasets are written episode by episode, and a file under its own name is whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_training.data.checks import DatasetError, EpisodeError, check_episode

INCOMPLETE = "incomplete"
"""Attribute of a file that is being written."""

ALIGNMENT_BYTES = 4096
COPIED_ROWS = 256

Episode = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""Columns by name, and notes for the dataset's `meta`."""

Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Per column the shape of a row and the type of its numbers."""


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that takes the name `path` once it is complete and on disk; until then it stands beside."""
    beside = path.with_suffix(".writing")
    beside.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(beside, "w", alignment_threshold=ALIGNMENT_BYTES, alignment_interval=ALIGNMENT_BYTES) as file:
        file.attrs[INCOMPLETE] = True
        file.flush()
        yield file
        del file.attrs[INCOMPLETE]
    with beside.open("rb") as written:
        os.fsync(written.fileno())
    os.replace(beside, path)


def write_episode(path: Path, columns: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
    """Write one episode beside `path`, then rename it there, so that a file that exists is whole."""
    with new_file(path) as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column)
        file.attrs["meta"] = json.dumps(meta)


def merge_episodes(parts: Sequence[Path], path: Path, meta: dict[str, Any]) -> None:
    """Join episode files into one dataset at `path`; per-episode notes go into the attribute `meta`.

    Raises:
        DatasetError: two episodes differ in their columns or in the size of their frames.
    """
    lengths, episodes, layout = [], [], None
    for part in parts:
        with h5py.File(part, "r") as file:
            lengths.append(len(file["action"]))
            episodes.append(json.loads(file.attrs["meta"]))
            found = _layout(file)
        layout = layout or found
        if found != layout:
            raise DatasetError(f"{path}: {_difference(layout, found)} in episode {len(episodes) - 1} ({part.name})")
    if layout is None:
        raise DatasetError(f"{path}: there is no episode to write")
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    with new_file(path) as whole:
        whole["ep_len"] = np.asarray(lengths, dtype=np.int64)
        whole["ep_offset"] = offsets
        for name, (shape, dtype) in layout.items():
            whole.create_dataset(name, (sum(lengths), *shape), dtype)
        for part, offset, length in zip(tqdm(parts, desc="merge", unit="episode"), offsets, lengths, strict=True):
            with h5py.File(part, "r") as file:
                for name, column in file.items():
                    for start in range(0, length, COPIED_ROWS):
                        rows = column[start : start + COPIED_ROWS]
                        whole[name][offset + start : offset + start + len(rows)] = rows
        whole.attrs["meta"] = json.dumps(meta | {"episodes": episodes})


def _layout(columns: Mapping[str, Any]) -> Layout:
    return {name: (column.shape[1:], column.dtype) for name, column in columns.items()}


def _difference(first: Layout, other: Layout) -> str:
    """How the columns of an episode differ from those of the first one."""
    for name in sorted(first.keys() | other.keys()):
        if name not in other:
            return f"column '{name}' is missing"
        if name not in first:
            return f"column '{name}' is not in every episode but"
        if first[name] != other[name]:
            (shape, dtype), (other_shape, other_dtype) = first[name], other[name]
            return f"column '{name}' is {other_dtype} {other_shape}, before it was {dtype} {shape},"
    raise AssertionError("the columns are the same")


def parts_folder(out: Path, settings: dict[str, Any]) -> Path:
    """The folder in which finished episodes of `out` wait; all come from the same settings.

    Raises:
        DatasetError: those that wait there were made with other settings.
    """
    folder = out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "settings.json"
    text = json.dumps(settings)
    if note.exists() and note.read_text(encoding="utf-8") != text:
        raise DatasetError(f"{folder}: holds episodes recorded with other settings; choose another --out or remove it")
    beside = folder / "settings.writing"
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, note)
    return folder


def part_path(out: Path, number: int) -> Path:
    """Where the finished episode `number` of an import to `out` waits."""
    return out.with_suffix(".parts") / f"{number:06d}.h5"


def _layout_of_first(parts: list[Path]) -> Layout | None:
    if not parts:
        return None
    with h5py.File(parts[0], "r") as file:
        return _layout(file)


def import_episodes(
    out: Path,
    episodes: Iterable[tuple[str, Callable[[], Episode]]],
    settings: dict[str, Any],
    meta: dict[str, Any],
    minimum_steps: int,
    skip_bad: bool,
    total: int | None = None,
) -> dict[str, Any]:
    """Write episodes of another project as a dataset; those that an interrupted import had finished are kept.

    Args:
        out: the HDF5 file to write.
        episodes: for each, in the same order every time, its name at the source and what reads it. A reader raises
            EpisodeError for an episode that cannot be used.
        settings: all that decides what is written, to tell whether finished episodes are of the same import.
        meta: `action_space`, `limit`, `control_hz`, `joint_names` of the dataset.
        minimum_steps: shorter episodes are bad.
        skip_bad: leave bad episodes out instead of stopping at the first.
        total: number of episodes, if it is known, for the progress bar.

    Returns:
        the file, counts of episodes and control steps, and why which episodes were skipped.

    Raises:
        DatasetError: a bad episode, named with its row; or no episode is left.
    """
    folder = parts_folder(out, settings)
    parts: list[Path] = []
    skipped: dict[str, str] = {}
    layout: Layout | None = None
    for number, (name, read) in enumerate(tqdm(episodes, desc="import", unit="episode", total=total)):
        part = part_path(out, number)
        if not part.exists():
            try:
                columns, notes = read()
                if len(columns["action"]) < minimum_steps:
                    raise EpisodeError(f"only {len(columns['action'])} control steps, fewer than {minimum_steps},")
                check_episode(columns, meta)
                layout = layout or _layout_of_first(parts) or _layout(columns)
                if _layout(columns) != layout:
                    raise EpisodeError(_difference(layout, _layout(columns)))
            except EpisodeError as error:
                if not skip_bad:
                    raise DatasetError(f"{error.named(name)}; --skip-bad leaves such episodes out") from None
                skipped[name] = error.named(name)
                tqdm.write(f"skipped: {skipped[name]}")
                continue
            write_episode(part, columns, {"source": name} | notes)
        parts.append(part)
    if not parts:
        raise DatasetError(f"{out}: no episode of the source can be used")
    merge_episodes(parts, out, meta)
    with h5py.File(out, "r") as file:
        steps = len(file["action"])
    shutil.rmtree(folder)
    return {
        "dataset": str(out),
        "episodes": len(parts),
        "control_steps": steps,
        "skipped_episodes": len(skipped),
        "skipped": skipped,
        "bytes": out.stat().st_size,
    }
