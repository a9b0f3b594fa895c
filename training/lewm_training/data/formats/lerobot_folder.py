"""A LeRobot dataset folder, v3 or v2, opened for reading: `meta/`, tables, videos and pictures."""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import string
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.images import decode
from lewm_training.data import DatasetError, EpisodeError
from lewm_training.data.checks import refuse_lfs_pointer
from lewm_training.data.formats import lerobot_v2
from lewm_training.data.formats.lerobot_episodes import (
    FileNumber,
    ListedEpisode,
    Listing,
    column_names_of,
    list_episodes,
)
from lewm_training.data.formats.lerobot_layout import EPISODES, FRAME_TOLERANCE, INFO, VERSION
from lewm_training.data.formats.lerobot_tables import column_names, read_table, short, to_array, to_rows
from lewm_training.data.formats.lerobot_video import Video

NUMBER_FORMAT = re.compile(r"(0?\d)?d?")
HIGHEST_FPS = 1e6
TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


@dataclass
class LeRobotFolder:
    """A dataset folder, of which some cameras are read.

    Args:
        path: the folder.
        fps: rows, and frames of a video, per second.
        features: what `meta/info.json` says of each column.
        templates: names of data and video files with `{chunk_index}`, `{file_index}` and `{video_key}`.
        listing: what `meta/episodes` says of the episodes.
    """

    path: Path
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    templates: Mapping[str, str]
    listing: Listing
    _videos: dict[str, Video] = field(default_factory=dict, init=False, repr=False)
    """Of every camera the one that was read last, which mostly holds the next episode too."""

    @classmethod
    def open(cls, path: Path, cameras: Collection[str]) -> LeRobotFolder:
        """Read the folder's `meta/`.

        Args:
            path: the folder.
            cameras: the columns of the frames that are read.

        Raises:
            DatasetError: the folder is not a LeRobot dataset of version 2 or 3, or does not agree with itself.
        """
        info = _read_info(path)
        features, fps = info["features"], info["fps"]
        filmed = [camera for camera in dict.fromkeys(cameras) if _is_filmed(path, features, camera)]
        templates = {"data_path": _checked_template(path, info, "data_path", ())}
        if filmed:
            templates["video_path"] = _checked_template(path, info, "video_path", ("video_key",))
            if len(filmed) > 1 and "{video_key}" not in templates["video_path"]:
                raise DatasetError(f"{path / INFO}: video_path lacks {{video_key}}: cameras would share their videos")
        try:
            if info["codebase_version"] in lerobot_v2.VERSIONS:
                rows = lerobot_v2.read_episodes(path, info, filmed)
            else:
                rows = _read_episodes(path, column_names_of(filmed))
            listing = list_episodes(rows, filmed, fps, info.get("total_episodes"))
        except EpisodeError as error:
            raise DatasetError(f"{path}: {error.reason.rstrip(',')}") from None
        _check_totals(path, info, list(listing.episodes.values()))
        return cls(path, float(fps), features, templates, listing)

    @property
    def episodes(self) -> Mapping[int, ListedEpisode | EpisodeError]:
        """What is known of each, or why it cannot be used, by number."""
        return self.listing.episodes

    def files(self) -> list[Path]:
        """Those that are read, as far as they are there."""
        wanted = [self.path / INFO, self.path / EPISODES, self.path / lerobot_v2.EPISODES_V2]
        for episode in self.episodes.values():
            if isinstance(episode, ListedEpisode):
                wanted.append(self._file("data_path", episode.data))
                wanted += [self._file("video_path", v.place, camera) for camera, v in episode.videos.items()]
        return [file for file in dict.fromkeys(wanted) if os.path.exists(file)]

    def component_names(self, column: str) -> list[str]:
        """What `meta/info.json` calls the numbers of a column; [] if it does not say it."""
        names = self.features[column].get("names")
        if isinstance(names, dict) and len(names) == 1:
            (names,) = names.values()  # {"motors": [...]}
        return names if isinstance(names, list) else []

    def columns(self, episode: ListedEpisode, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of one episode, each (steps, numbers per row).

        Raises:
            EpisodeError: rows are missing, out of order or not at the times that `fps` says, or a column is not what
                `meta/info.json` says.
        """
        path = self._file("data_path", episode.data)
        numbered = ["frame_index", "timestamp"]
        if episode.first_index is not None and "index" in column_names(path):
            numbered.append("index")
        table = read_table(path, list(dict.fromkeys([*numbered, *names])), episode.number)
        rows = np.arange(len(table))
        expected = {"frame_index": rows, "timestamp": rows / self.fps, "index": (episode.first_index or 0) + rows}
        for name in numbered:
            tolerance = FRAME_TOLERANCE / self.fps if name == "timestamp" else 0.0
            _check_row_numbers(to_array(table[name], name), expected[name], name, tolerance)
        if len(table) != episode.length:
            raise EpisodeError(f"{path.name} holds {len(table)} of its {episode.length} rows")
        columns = {name: to_array(table[name], name) for name in names}
        for name, values in columns.items():
            size, wanted = values.size // len(values), self._size(name)
            if wanted not in (None, size):
                raise EpisodeError(f"{name} has {size} numbers per row, {INFO} says {wanted},")
        return {name: self._declared(values.reshape(len(values), -1), name) for name, values in columns.items()}

    def frames(self, episode: ListedEpisode, camera: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Row and a camera's RGB frame (height, width, 3) of every row of an episode.

        Raises:
            EpisodeError: a frame is missing, is another row's, or cannot be decoded.
        """
        if camera not in episode.videos:
            yield from self._pictures(episode, camera)
            return
        place, begin_s = episode.videos[camera].place, episode.videos[camera].begin_s
        path = self._file("video_path", place, camera)
        if camera not in self._videos or self._videos[camera].path != path:
            self._videos[camera] = Video(path)
        video, frames = self._videos[camera], self.listing.video_frames[camera].get(place)
        if frames is not None and video.frame_count not in frames:
            raise EpisodeError(f"{path} has {video.frame_count} frames, its episodes have {min(frames)} rows,")
        yield from video.frames(video.find(begin_s, episode.length, self.fps), episode.length)

    def _pictures(self, episode: ListedEpisode, camera: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        path = self._file("data_path", episode.data)
        rows = to_rows(read_table(path, [camera], episode.number), path)
        for row, picture in enumerate(rows):
            yield row, _to_rgb(self._encoded(picture[camera], camera, row), row)

    def _encoded(self, picture: Any, camera: str, row: int) -> bytes:
        """The bytes of a picture's file, which stand in the table or in a file of the folder."""
        if isinstance(picture, dict):
            picture = picture.get("bytes") or picture.get("path")
        if isinstance(picture, bytes):
            return picture
        if not isinstance(picture, str):
            raise EpisodeError(f"'{camera}' has no picture", row)
        path = _inside(self.path, picture)
        if path is None or not os.path.isfile(path):
            raise EpisodeError(f"'{camera}' is {short(picture)}, which is no file in the folder", row)
        refuse_lfs_pointer(path)
        return path.read_bytes()

    def _file(self, template: str, place: FileNumber, camera: str = "") -> Path:
        name = self.templates[template].format(chunk_index=place.chunk, file_index=place.file, video_key=camera)
        path = _inside(self.path, name)
        if path is None:
            raise DatasetError(f"{self.path / INFO}: {template} leads out of the folder ({short(name)})")
        return path

    @np.errstate(over="ignore")  # becomes infinite, which is refused later
    def _declared(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """Numbers of the type that `meta/info.json` says, where files hold wider or narrower ones."""
        declared = self.features.get(name, {}).get("dtype")
        if values.dtype.kind == "f" and declared in ("float32", "float64"):
            return values.astype(declared)
        if values.dtype.kind in "iu" and declared in ("int32", "int64") and np.can_cast(values.dtype, declared):
            return values.astype(declared)
        return values

    def _size(self, name: str) -> int | None:
        """How many numbers a row of a column has, if that is said."""
        shape = self.features.get(name, {}).get("shape")
        if shape is None:
            return None
        if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
            raise DatasetError(f"{self.path / INFO}: the shape of '{name}' is {reprlib.repr(shape)}")
        return math.prod(shape)


def _read_info(path: Path) -> dict[str, Any]:
    file = path / INFO
    if file.is_file():
        refuse_lfs_pointer(file)
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a LeRobot dataset, {INFO} cannot be read ({short(error)})") from None
    if not isinstance(info, dict):
        raise DatasetError(f"{file}: expected a mapping, got {reprlib.repr(info)}")
    version = info.get("codebase_version")
    if not isinstance(version, str) or not (version.startswith("v3.") or version in lerobot_v2.VERSIONS):
        raise DatasetError(f"{path}: LeRobot {short(version)}, expected {VERSION} or {', '.join(lerobot_v2.VERSIONS)}")
    fps, features = info.get("fps"), info.get("features")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0.0 < fps <= HIGHEST_FPS:
        raise DatasetError(f"{file}: fps is {reprlib.repr(fps)}, expected a number above 0")
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise DatasetError(f"{file}: features is {reprlib.repr(features)}, expected a mapping of columns")
    return lerobot_v2.as_v3(info) if version in lerobot_v2.VERSIONS else info


def _is_filmed(path: Path, features: Mapping[str, Mapping[str, Any]], camera: str) -> bool:
    """Whether a camera's frames are in videos, and not in the tables.

    Raises:
        DatasetError: there is no such camera.
    """
    if camera not in features:
        raise DatasetError(f"{path}: column '{camera}' is missing; found {', '.join(features)}")
    kind, details = features[camera].get("dtype"), features[camera].get("info")
    if kind not in ("video", "image"):
        raise DatasetError(f"{path}: '{camera}' is {short(kind)}, not frames")
    if isinstance(details, dict) and (details.get("video.is_depth_map") or details.get("is_depth_map")):
        raise DatasetError(f"{path}: '{camera}' is a depth map, not colour frames")
    return kind == "video"


def _checked_template(path: Path, info: Mapping[str, Any], name: str, words: Sequence[str]) -> str:
    """A file name's template that can be filled in."""
    template = info.get(name)
    try:
        for _, field, form, conversion in string.Formatter().parse(template):
            known = field in words and not form
            if field is not None and (conversion or not (known or _is_number_field(field, form))):
                raise ValueError(field)
    except (TypeError, ValueError):
        raise DatasetError(
            f"{path / INFO}: {name} is {reprlib.repr(template)}, expected a name with {{chunk_index}}, {{file_index}}"
            + "".join(f", {{{word}}}" for word in words)
        ) from None
    return template


def _is_number_field(field: str, form: str | None) -> bool:
    return field in ("chunk_index", "file_index") and NUMBER_FORMAT.fullmatch(form or "") is not None


def _inside(folder: Path, name: str) -> Path | None:
    """A path of the folder; None if it leads out of it. Links are followed: downloads consist of them."""
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts or "\0" in name else folder / path


def _read_episodes(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for file in sorted((path / EPISODES).glob("*/[!.]*.parquet")):
        found = [name for name in names if name in column_names(file)]
        rows += to_rows(read_table(file, found), file)
    if not rows:
        raise EpisodeError(f"{EPISODES} lists no episode")
    return rows


def _check_totals(path: Path, info: Mapping[str, Any], episodes: Sequence[ListedEpisode | EpisodeError]) -> None:
    """What `meta/info.json` says of all episodes together, unless one of them is known to be bad."""
    sound = [episode for episode in episodes if isinstance(episode, ListedEpisode)]
    if len(sound) < len(episodes):
        return
    totals = {"total_episodes": len(sound), "total_frames": sum(episode.length for episode in sound)}
    for name, total in totals.items():
        if info.get(name) not in (None, total):
            raise DatasetError(f"{path / INFO}: {name} is {reprlib.repr(info[name])}, {EPISODES} lists {total}")


def _check_row_numbers(values: NDArray[Any], expected: NDArray[Any], name: str, tolerance: float) -> None:
    """Raise EpisodeError where a column is not what follows from the number of the row."""
    if values.ndim != 1:
        raise EpisodeError(f"{name} has {values.shape[1]} numbers per row")
    astray = np.flatnonzero(~(np.abs(values.astype(np.float64) - expected) <= tolerance))
    if len(astray):
        row = int(astray[0])
        digits = 6 if tolerance else 15
        raise EpisodeError(f"{name} is {values[row]:.{digits}g}, expected {expected[row]:.{digits}g},", row)


def _to_rgb(encoded: bytes, row: int) -> NDArray[np.uint8]:
    """An RGB picture (height, width, 3) of a PNG or JPEG file; grey ones become grey, transparency is left out."""
    try:
        samples = decode(np.frombuffer(encoded, np.uint8))
    except ValueError as error:
        raise EpisodeError(f"the image cannot be decoded ({error})", row) from None
    if samples.dtype != np.uint8:
        raise EpisodeError(f"the image is {samples.dtype}, expected uint8,", row)
    return cv2.cvtColor(samples, TO_RGB[samples.shape[2]])
