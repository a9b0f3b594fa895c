"""LeRobot v3 datasets in a folder: parquet tables, videos, and what `meta/` says of them.

Layout: huggingface/lerobot, `src/lerobot/datasets` (`codebase_version` v3.0). Data and video files hold several
episodes; `meta/episodes` says where each lies.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_training.data import DatasetError, EpisodeError
from lewm_training.data.checks import check_clock
from lewm_training.data.fingerprint import fingerprint
from lewm_training.data.formats.declaration import Declaration, read_declaration, refuse_radians
from lewm_training.data.formats.lerobot_export import export_data
from lewm_training.data.formats.lerobot_layout import EPISODES, INFO, VERSION
from lewm_training.data.writing import Episode, import_episodes

__all__ = ["export_data", "import_data"]

EXAMPLE = "config/lerobot.yaml"


@dataclasses.dataclass(frozen=True)
class LeRobotFolder:
    """A dataset folder opened for reading: `meta/info.json` and a row of `meta/episodes` per episode."""

    path: Path
    info: dict[str, Any]
    episodes: list[dict[str, Any]]

    @classmethod
    def open(cls, path: Path) -> LeRobotFolder:
        """Read the folder's `meta/`.

        Raises:
            DatasetError: the folder is not a LeRobot dataset of version 3.
        """
        try:
            info = json.loads((path / INFO).read_text(encoding="utf-8"))
            version = info["codebase_version"]
            _ = info["features"], info["fps"], info["data_path"]
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise DatasetError(f"{path}: not a LeRobot dataset, {INFO} cannot be read ({error})") from None
        if not version.startswith("v3."):
            raise DatasetError(f"{path}: LeRobot {version}, expected {VERSION}; LeRobot has a converter")
        tables = [_read_table(file) for file in sorted((path / EPISODES).glob("*/*.parquet"))]
        rows = [
            {name: row[name] for name in row if not name.startswith("stats/")}
            for table in tables
            for row in table.to_pylist()
        ]
        if not rows:
            raise DatasetError(f"{path}: {EPISODES} lists no episode")
        return cls(path, info, sorted(rows, key=lambda row: row["episode_index"]))

    def columns(self, episode: dict[str, Any], names: list[str]) -> dict[str, NDArray[Any]]:
        """Columns of one episode, each (steps, ...).

        Raises:
            EpisodeError: rows are missing or out of order.
        """
        place = {"chunk_index": episode["data/chunk_index"], "file_index": episode["data/file_index"]}
        number = episode["episode_index"]
        wanted = [*dict.fromkeys(["frame_index", *names])]
        path = self.path / self.info["data_path"].format(**place)
        table = _read_table(path, columns=wanted, filters=[("episode_index", "=", number)])
        columns = {name: _to_array(table[name]) for name in wanted}
        order = columns["frame_index"]
        if len(order) != episode["length"]:
            raise EpisodeError(f"{path.name} holds {len(order)} of its {episode['length']} rows")
        astray = np.flatnonzero(order != np.arange(len(order)))
        if len(astray):
            raise EpisodeError(f"frame_index is {order[astray[0]]}", int(astray[0]))
        return columns

    def frames(
        self, episode: dict[str, Any], key: str, stamps_s: NDArray[np.float64]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Row and RGB frame (height, width, 3) of every frame of an episode's video that belongs to a row."""
        place = {name: episode[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        path = self.path / self.info["video_path"].format(video_key=key, **place)
        times_s = stamps_s + episode[f"videos/{key}/from_timestamp"]
        tolerance_s = 0.5 / self.info["fps"]
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                container.seek(max(0, int((times_s[0] - tolerance_s) / stream.time_base)), stream=stream)
                for frame in container.decode(stream):
                    row = int(np.abs(times_s - frame.time).argmin())
                    if frame.time > times_s[-1] + tolerance_s:
                        return
                    if abs(times_s[row] - frame.time) < tolerance_s:
                        yield row, frame.to_ndarray(format="rgb24")
        except (OSError, av.FFmpegError) as error:
            raise EpisodeError(f"{path} cannot be decoded ({error})") from None

    def whole_columns(self, name: str) -> Iterator[NDArray[Any]]:
        """A column over all episodes, data file by data file."""
        for file in sorted((self.path / "data").glob("*/*.parquet")):
            yield _to_array(_read_table(file, columns=[name])[name])


def import_data(source: Path, out: Path, config: Path | None, skip_bad: bool) -> dict[str, Any]:
    """Write the folder's episodes as a dataset of this project.

    Raises:
        DatasetError: the folder is not a LeRobot v3 dataset, lacks a column, or an episode is bad.
        ConfigError: the YAML does not fit.
    """
    declaration = read_declaration(config, EXAMPLE)
    folder = LeRobotFolder.open(source)
    features = folder.info["features"]
    for name in (declaration.pixels, *declaration.source_columns.values()):
        if name not in features:
            raise DatasetError(f"{source}: column '{name}' is missing; found {', '.join(features)}")
    if features[declaration.pixels]["dtype"] not in ("video", "image"):
        raise DatasetError(f"{source}: '{declaration.pixels}' is {features[declaration.pixels]['dtype']}, not frames")
    fps = float(folder.info["fps"])
    if declaration.control_hz not in (None, fps):
        raise ConfigError(f"{config}: control_hz is {declaration.control_hz:g}, the dataset's fps is {fps:g}")
    if declaration.state:
        refuse_radians(declaration, folder.whole_columns(declaration.state), str(source))

    def episodes() -> Iterator[tuple[str, Callable[[], Episode]]]:
        for episode in folder.episodes:
            yield str(episode["episode_index"]), lambda episode=episode: _read_episode(folder, episode, declaration)

    settings = {"format": "lerobot", "source": str(source.resolve()), **dataclasses.asdict(declaration)}
    return import_episodes(
        out,
        [(fingerprint([source]), episodes())],
        settings,
        declaration.meta(fps),
        declaration.minimum_steps,
        skip_bad,
        len(folder.episodes),
    )


def _read_episode(folder: LeRobotFolder, episode: dict[str, Any], declaration: Declaration) -> Episode:
    video = folder.info["features"][declaration.pixels]["dtype"] == "video"
    names = declaration.source_columns
    source = folder.columns(episode, ["timestamp", *names.values(), *([] if video else [declaration.pixels])])
    stamps_s = source["timestamp"].astype(np.float64)
    check_clock(stamps_s, 1.0 / folder.info["fps"])
    columns = declaration.columns({"timestamp_s": stamps_s} | {name: source[names[name]] for name in names})
    if video:
        frames = folder.frames(episode, declaration.pixels, stamps_s)
    else:
        frames = enumerate(_decode_image(image, row) for row, image in enumerate(source[declaration.pixels]))
    columns["pixels"] = _collect_frames(frames, declaration, len(columns["action"]))
    return columns, {"tasks": episode.get("tasks", [])}


def _collect_frames(
    frames: Iterator[tuple[int, NDArray[np.uint8]]], declaration: Declaration, steps: int
) -> NDArray[np.uint8]:
    """Frames (steps, height, width, 3) in the order of their rows."""
    pixels, source_shape, seen = None, None, np.zeros(steps, dtype=bool)
    for row, frame in frames:
        source_shape = source_shape or frame.shape
        if frame.shape != source_shape:
            height, width = source_shape[:2]
            raise EpisodeError(f"the frame is {frame.shape[1]}x{frame.shape[0]} px, before {width}x{height} px,", row)
        if row < steps:
            fitted = declaration.frame(frame)
            pixels = np.empty((steps, *fitted.shape), np.uint8) if pixels is None else pixels
            pixels[row], seen[row] = fitted, True
    if pixels is None or not seen.all():
        raise EpisodeError(f"'{declaration.pixels}' has no frame", int(np.argmin(seen)))
    return pixels


def _decode_image(image: dict[str, Any], row: int) -> NDArray[np.uint8]:
    encoded = np.frombuffer(image["bytes"] or b"", np.uint8)
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if decoded is None:
        raise EpisodeError("the image cannot be decoded", row)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _read_table(path: Path, **options: Any) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None, **options)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def _to_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers, or of equally long lists of them; images stay objects."""
    values = column.combine_chunks()
    if pa.types.is_struct(values.type):
        return np.array(values.to_pylist(), dtype=object)
    rows = len(values)
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False)
    return array if len(array) == rows else array.reshape(rows, -1)
