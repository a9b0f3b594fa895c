"""Datasets are written episode by episode, and a file under its own name is whole."""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_training.data.checks import DatasetError, EpisodeError, SkippableError, check_episode
from lewm_training.data.locking import exclusive_new
from lewm_training.data.spec import DatasetSpec
from lewm_training.data.stored import INCOMPLETE

SETTINGS = "settings.json"
"""Among finished episodes: what they were made with."""

ALIGNMENT_BYTES = 4096
COPIED_ROWS = 256

Episode = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""Columns by name, and notes for the dataset's `meta`."""

Source = tuple[str, Iterable[tuple[str, Callable[[], Episode]]]]
"""What can change by itself: its fingerprint, and for each of its episodes a name and what reads it."""

Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Per column the shape of a row and the type of its numbers."""


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that takes the name `path` once it is complete and on disk; until then it stands beside."""
    beside = path.with_name(f"{path.name}.writing")
    beside.parent.mkdir(parents=True, exist_ok=True)
    try:
        with h5py.File(beside, "w", alignment_threshold=ALIGNMENT_BYTES, alignment_interval=ALIGNMENT_BYTES) as file:
            file.attrs[INCOMPLETE] = True
            file.flush()
            yield file
            del file.attrs[INCOMPLETE]
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


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


@contextlib.contextmanager
def parts_folder(out: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """The folder in which finished episodes of `out` wait while this process alone writes it.

    They all come from the same settings. The folder goes once `out` is there, and also if no episode was finished.

    Raises:
        OutputError: `out` exists, or another process writes it.
        DatasetError: those that wait there were made with other settings.
    """
    folder = _parts_of(out)
    with exclusive_new(out):
        _refuse_other_settings(folder, settings)
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / "settings.writing"
        beside.write_text(json.dumps(settings), encoding="utf-8")
        os.replace(beside, folder / SETTINGS)
        try:
            yield folder
        finally:
            if out.exists() or not any(folder.glob("*.h5")):
                shutil.rmtree(folder)


def part_path(out: Path, source: str, number: int) -> Path:
    """Where an import to `out` keeps the finished episode `number` of the source with this fingerprint."""
    return _parts_of(out) / f"{source}-{number:06d}.h5"


def _parts_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def _refuse_other_settings(folder: Path, settings: dict[str, Any]) -> None:
    finished, note = len(list(folder.glob("*.h5"))), folder / SETTINGS
    if not finished:
        return
    before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    now = json.loads(json.dumps(settings))
    differing = [key for key in before | now if before.get(key) != now.get(key)]
    if differing:
        shown = {key: [reprlib.repr(settings.get(key)) for settings in (before, now)] for key in differing}
        changes = "; ".join(f"{key}: {old}, now {new}" for key, (old, new) in shown.items())
        raise DatasetError(
            f"{folder}: holds {finished} finished episodes of other settings ({changes}); "
            "remove it to begin again, or choose another --out"
        )


def import_episodes(
    out: Path,
    sources: Sequence[Source],
    settings: dict[str, Any],
    spec: DatasetSpec,
    minimum_steps: int,
    skip_bad: bool,
    total: int | None = None,
    origin: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write episodes of another project as a dataset.

    Those that an interrupted import had finished are kept, unless their source has changed.

    Args:
        out: the HDF5 file to write.
        sources: their episodes come in the same order every time. A reader raises EpisodeError for an episode that
            cannot be used.
        settings: all else that decides what is written, to tell whether finished episodes are of the same import.
        spec: what the columns are.
        minimum_steps: shorter episodes are bad.
        skip_bad: leave bad episodes out instead of stopping at the first.
        total: number of episodes, if it is known, for the progress bar.
        origin: what the dataset says of where it comes from.

    Returns:
        the file, counts of episodes and control steps, and why which episodes were skipped.

    Raises:
        DatasetError: a bad episode, named with its row; or no episode is left.
        OutputError: the file exists, or another process writes it.
    """
    with parts_folder(out, settings) as folder:
        _drop_changed(folder, [source for source, _ in sources])
        parts, skipped = _write_parts(out, sources, spec, minimum_steps, skip_bad, total)
        if not parts:
            reason = f": {next(iter(skipped.values()))}" if skipped else ""
            raise DatasetError(f"{out}: no episode of the source can be used{reason}")
        merge_episodes(parts, out, spec.meta() | ({"config": origin} if origin else {}))
    with h5py.File(out, "r") as file:
        steps = len(file["action"])
    return {
        "dataset": str(out),
        "episodes": len(parts),
        "control_steps": steps,
        "skipped_episodes": len(skipped),
        "skipped": skipped,
        "bytes": out.stat().st_size,
    }


def _drop_changed(folder: Path, sources: Sequence[str]) -> None:
    """Remove finished episodes whose source is no longer as it was."""
    for part in folder.glob("*.h5"):
        if part.name.partition("-")[0] not in sources:
            part.unlink()


def _write_parts(
    out: Path, sources: Sequence[Source], spec: DatasetSpec, minimum_steps: int, skip_bad: bool, total: int | None
) -> tuple[list[Path], dict[str, str]]:
    """Write the episodes that are not finished yet; returns the files of all, and why which were skipped."""
    parts: list[Path] = []
    skipped: dict[str, str] = {}
    layout: Layout | None = None
    numbered = ((source, *item) for source, episodes in sources for item in enumerate(episodes))
    for source, number, (name, read) in tqdm(numbered, desc="import", unit="episode", total=total):
        part = part_path(out, source, number)
        if not part.exists():
            try:
                columns, notes = read()
                if len(columns["action"]) < minimum_steps:
                    raise EpisodeError(f"only {len(columns['action'])} control steps, fewer than {minimum_steps},")
                check_episode(columns, spec)
                layout = layout or _layout_of_first(parts) or _layout(columns)
                if _layout(columns) != layout:
                    raise EpisodeError(_difference(layout, _layout(columns)))
            except EpisodeError as error:
                if not skip_bad:
                    raise SkippableError(error.named(name)) from None
                skipped[name] = error.named(name)
                tqdm.write(f"skipped: {skipped[name]}")
                continue
            write_episode(part, columns, {"source": name} | notes)
        parts.append(part)
    return parts, skipped


def _layout_of_first(parts: list[Path]) -> Layout | None:
    if not parts:
        return None
    with h5py.File(parts[0], "r") as file:
        return _layout(file)
