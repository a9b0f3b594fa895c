"""LeRobot datasets, v3 and v2: folders of Parquet tables and videos.

Layout: huggingface/lerobot, `src/lerobot/datasets` (`codebase_version` v3.0). Data and video files hold several
episodes; `meta/episodes` says where each lies. In v2 (`lerobot_v2`) each has files of its own.
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
from lewm_training.data import DatasetError, EpisodeError
from lewm_training.data.fingerprint import fingerprint
from lewm_training.data.formats.declaration import ColumnDeclaration, read_declaration, refuse_radians
from lewm_training.data.formats.hand_motion import check_motion
from lewm_training.data.formats.lerobot_episodes import ListedEpisode
from lewm_training.data.formats.lerobot_export import export_data
from lewm_training.data.formats.lerobot_folder import LeRobotFolder
from lewm_training.data.spec import PROPRIO, camera_columns
from lewm_training.data.writing import Episode, import_episodes

__all__ = ["export_data", "import_data"]

EXAMPLE = "config/lerobot.yaml"


def import_data(source: Path, out: Path, config: Path | None, skip_bad: bool) -> dict[str, Any]:
    """Write the folder's episodes as a dataset of this project.

    Raises:
        DatasetError: the folder is not a LeRobot dataset, lacks a column, shows something else than the YAML says, or
            an episode is bad.
        ConfigError: the YAML does not fit.
    """
    declaration = read_declaration(config, EXAMPLE)
    folder = LeRobotFolder.open(source, declaration.camera_sources.values())
    for name in declaration.source_columns.values():
        if name not in folder.features:
            raise DatasetError(f"{source}: column '{name}' is missing; found {', '.join(folder.features)}")
    key = "stated_hz" if declaration.stated_hz else "control_hz"
    rate_hz = getattr(declaration, key)
    if rate_hz not in (None, folder.fps):
        raise ConfigError(f"{config}: {key} is {rate_hz:g}, the dataset's fps is {folder.fps:g}")
    declaration = _choose_by_name(declaration, folder)
    if PROPRIO in declaration.measured:
        refuse_radians(declaration, _readable(folder, declaration.measured[PROPRIO].column), str(source))
    check_motion(declaration, _moved(folder, declaration), str(source))

    def episodes() -> Iterator[tuple[str, Callable[[], Episode]]]:
        for number, episode in folder.episodes.items():
            yield str(number), lambda episode=episode: _read_episode(folder, episode, declaration)

    settings = {"format": "lerobot", "source": str(source.resolve()), **dataclasses.asdict(declaration)}
    return import_episodes(
        out,
        [(fingerprint(folder.files()), episodes())],
        settings,
        declaration.spec(_control_hz(folder, declaration)),
        declaration.minimum_steps,
        skip_bad,
        len(folder.episodes),
    )


def _choose_by_name(declaration: ColumnDeclaration, folder: LeRobotFolder) -> ColumnDeclaration:
    """The declaration with `indices` for the vectors whose numbers the folder calls by the same names."""
    vectors = {}
    for name, vector in declaration.measured.items():
        there = folder.component_names(vector.column)
        if not vector.indices and all(there.count(component) == 1 for component in vector.names):
            vector = dataclasses.replace(vector, indices=tuple(map(there.index, vector.names)))
        vectors[name] = vector
    return dataclasses.replace(declaration, vectors=vectors, state="")


def _readable(folder: LeRobotFolder, name: str) -> Iterator[NDArray[Any]]:
    """A column, episode by episode, without those that cannot be read."""
    for episode in folder.episodes.values():
        if isinstance(episode, ListedEpisode):
            with contextlib.suppress(EpisodeError):
                yield folder.columns(episode, [name])[name]


def _moved(folder: LeRobotFolder, declaration: ColumnDeclaration) -> Iterator[dict[str, NDArray[Any]]]:
    """The columns but frames of the episodes that can be read and used."""
    for episode in folder.episodes.values() if declaration.motion else ():
        with contextlib.suppress(EpisodeError):
            yield _numbers(folder, episode, declaration)


def _control_hz(folder: LeRobotFolder, declaration: ColumnDeclaration) -> float:
    return declaration.control_hz or folder.fps


def _numbers(
    folder: LeRobotFolder, episode: ListedEpisode | EpisodeError, declaration: ColumnDeclaration
) -> dict[str, NDArray[Any]]:
    """The columns but frames of an episode."""
    if isinstance(episode, EpisodeError):
        raise episode
    names = declaration.source_columns
    source = folder.columns(episode, ["timestamp", *names.values()])
    stamps_s = source["timestamp"].astype(np.float64).reshape(-1) * (folder.fps / _control_hz(folder, declaration))
    return declaration.columns({"timestamp_s": stamps_s} | {name: source[names[name]] for name in names})


def _read_episode(
    folder: LeRobotFolder, episode: ListedEpisode | EpisodeError, declaration: ColumnDeclaration
) -> Episode:
    columns = _numbers(folder, episode, declaration)
    steps, cameras = len(columns["action"]), declaration.camera_sources
    for camera, column in camera_columns(list(cameras)).items():
        columns[column] = _collect_frames(folder, episode, cameras[camera], declaration, steps)
    return columns, {"tasks": episode.tasks}


def _collect_frames(
    folder: LeRobotFolder, episode: ListedEpisode, camera: str, declaration: ColumnDeclaration, steps: int
) -> NDArray[np.uint8]:
    """A camera's frames (steps, height, width, 3) in the order of their rows."""
    pixels, source_shape, seen = None, None, np.zeros(steps, dtype=bool)
    for row, frame in folder.frames(episode, camera):
        source_shape = source_shape or frame.shape
        if frame.shape != source_shape:
            height, width = source_shape[:2]
            raise EpisodeError(f"'{camera}' is {frame.shape[1]}x{frame.shape[0]} px, before {width}x{height} px,", row)
        if row < steps:
            fitted = declaration.frame(frame)
            pixels = np.empty((steps, *fitted.shape), np.uint8) if pixels is None else pixels
            pixels[row], seen[row] = fitted, True
    if pixels is None or not seen.all():
        raise EpisodeError(f"'{camera}' has no frame", int(np.argmin(seen)))
    return pixels
