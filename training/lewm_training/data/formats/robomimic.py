"""HDF5 files in robomimic's layout, in which robosuite's benchmarks (LIBERO, VLA-Arena) keep demonstrations.

An episode is a group `data/demo_N`: `actions`, `obs/NAME` and more, each with a row per control step. What the file
says of itself stands in attributes of `data`, as far as its writer knew them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_training.data import DatasetError, EpisodeError
from lewm_training.data.fingerprint import fingerprint
from lewm_training.data.formats.declaration import ColumnDeclaration, read_declaration, refuse_radians
from lewm_training.data.formats.hand_motion import check_motion
from lewm_training.data.frames import StoredFrames
from lewm_training.data.spec import PROPRIO, camera_columns
from lewm_training.data.stored import StoredColumn, damage_named, find_column, open_hdf5
from lewm_training.data.writing import Episode, import_episodes

EXAMPLE = "config/vla_arena_hdf5.yaml"
ENDINGS = (".hdf5", ".h5")
GROUP = "data"
DEMO = re.compile(r"demo_(\d+)")
UPSIDE_DOWN = {"opengl": True, "opencv": False}
"""Whether frames are stored upside down, by what robosuite calls `IMAGE_CONVENTION`."""


def import_data(source: Path, out: Path, config: Path | None, skip_bad: bool) -> dict[str, Any]:
    """Write the demonstrations of a file, or of all files in a folder, as a dataset of this project.

    Raises:
        DatasetError: a file is not in this layout, lacks a column, says of itself or shows something else than the
            YAML, or an episode is bad.
        ConfigError: the YAML does not fit.
    """
    declaration = read_declaration(config, EXAMPLE)
    if declaration.control_hz is None:
        raise ConfigError(f"{config}: missing key 'control_hz'; the files do not all say it")
    demos = {file: _list_demos(file, declaration) for file in _files(source)}
    for file, names in demos.items():
        readable = list(_readable(file, names, declaration))
        if PROPRIO in declaration.measured:
            refuse_radians(declaration, (columns[PROPRIO] for columns in readable), str(file))
        check_motion(declaration, map(declaration.columns, readable), str(file))

    def episodes(file: Path) -> Iterator[tuple[str, Callable[[], Episode]]]:
        for name in demos[file]:
            yield f"{file.stem}/{name}", lambda name=name: _read_episode(file, name, declaration)

    settings = {"format": "robomimic", "source": str(source.resolve()), **dataclasses.asdict(declaration)}
    return import_episodes(
        out,
        [(fingerprint([file]), episodes(file)) for file in demos],
        settings,
        declaration.spec(declaration.control_hz),
        declaration.minimum_steps,
        skip_bad,
        sum(map(len, demos.values())),
    )


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    files = sorted(file for file in source.rglob("*") if file.suffix in ENDINGS)
    if not files:
        raise DatasetError(f"{source}: holds no file that ends in {' or '.join(ENDINGS)}")
    return files


def _list_demos(path: Path, declaration: ColumnDeclaration) -> list[str]:
    """The groups of a file's demonstrations in the order of their numbers; the file's own words are compared."""
    with open_hdf5(path) as file, damage_named(path):
        group = file.get(GROUP)
        demos = [name for name in group if DEMO.fullmatch(name)] if isinstance(group, h5py.Group) else []
        if not demos:
            raise DatasetError(f"{path}: has no group '{GROUP}/demo_0'; found {', '.join(file) or 'nothing'}")
        demos.sort(key=lambda name: int(name.partition("_")[2]))
        said = group.attrs.get("num_demos", len(demos))
        if said != len(demos):
            raise DatasetError(f"{path}: holds {len(demos)} demonstrations, num_demos is {said}; was it cut short?")
        convention = group.attrs.get("macros_image_convention")
        if convention in UPSIDE_DOWN and UPSIDE_DOWN[convention] != (declaration.flip == "vertical"):
            right = "flip: vertical" if UPSIDE_DOWN[convention] else "no flip"
            raise DatasetError(f"{path}: its images are in the convention '{convention}'; {right} would be right")
        rate_hz = _control_freq(group.attrs.get("env_args"))
        if rate_hz not in (None, declaration.stated_hz or declaration.control_hz):
            raise DatasetError(f"{path}: its control_freq is {rate_hz:g}, control_hz is {declaration.control_hz:g}")
        columns = [*declaration.camera_sources.values(), *declaration.source_columns.values()]
        _require_columns(path, group[demos[0]], columns)
    return demos


def _require_columns(path: Path, demo: h5py.Group, columns: list[str]) -> None:
    missing = [column for column in columns if find_column(demo, column) is None]
    if missing:
        names: list[str] = []
        demo.visititems(lambda name, member: names.append(name) if isinstance(member, h5py.Dataset) else None)
        hint = "" if any(name.startswith("obs/") for name in names) else "; nothing observed is in it, only actions"
        raise DatasetError(f"{path}: column '{missing[0]}' is missing; found {', '.join(names)}{hint}")


def _control_freq(env_args: Any) -> float | None:
    """The control rate in Hz that robosuite's `env_args` name; None if they name none."""
    with contextlib.suppress(TypeError, ValueError, AttributeError, RecursionError):
        rate = json.loads(env_args).get("env_kwargs", {}).get("control_freq")
        return None if rate is None else float(rate)
    return None


def _readable(path: Path, demos: list[str], declaration: ColumnDeclaration) -> Iterator[dict[str, NDArray[Any]]]:
    """The columns but frames of the demonstrations that can be read and used, as they are stored."""
    for demo in demos:
        with contextlib.suppress(EpisodeError):
            columns = _stored(path, demo, declaration)
            declaration.columns(columns)
            yield columns


def _stored(path: Path, demo: str, declaration: ColumnDeclaration) -> dict[str, NDArray[Any]]:
    columns = {name: _open(StoredColumn, path, demo, column)[:] for name, column in declaration.source_columns.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise EpisodeError(f"columns differ in length ({', '.join(f'{n} {c}' for n, c in lengths.items())})")
    return columns


def _open(kind: Callable[[Path, str], Any], path: Path, demo: str, column: str) -> Any:
    """A column of a demonstration, opened as StoredColumn or StoredFrames."""
    try:
        return kind(path, f"{GROUP}/{demo}/{column}")
    except DatasetError as error:
        raise EpisodeError(f"{error},") from None
    except (OSError, KeyError, AttributeError):
        raise EpisodeError(f"column '{column}' cannot be read") from None


def _read_episode(path: Path, demo: str, declaration: ColumnDeclaration) -> Episode:
    stored = _stored(path, demo, declaration)
    columns = declaration.columns(stored)
    rows, steps, cameras = len(stored["action"]), len(columns["action"]), declaration.camera_sources
    for camera, column in camera_columns(list(cameras)).items():
        frames = _open(StoredFrames, path, demo, cameras[camera])
        if len(frames) != rows:
            raise EpisodeError(f"'{cameras[camera]}' has {len(frames)} frames, there are {rows} actions,")
        columns[column] = np.array([declaration.frame(frame) for frame in frames[:steps]])
    return columns, {"task": path.stem}
