"""Write a dataset as a LeRobot v3 folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.observation.input_spec import UNNAMED
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.formats import lerobot_layout as layout
from lewm_training.data.frames import Frames
from lewm_training.data.locking import exclusive_new
from lewm_training.data.spec import PROPRIO

IMAGES = "observation.images"
STATE = "observation.state"

CODEC, PIXEL_FORMAT = "libx264", "yuv444p"
CODEC_OPTIONS = {"crf": "10", "g": "2"}
"""Full colour resolution and a low quantiser: frames are small, and thin coloured parts matter. As in LeRobot, every
second frame is a key frame, so that random reads are cheap."""

STATISTICS_ROWS, STATISTICS_FRAMES = 100_000, 256
"""At most so many rows and frames, evenly spread, go into `meta/stats.json`."""

MB = 1 << 20


def export_data(source: Path, out: Path) -> dict[str, Any]:
    """Write the dataset `source` as the folder `out`, which appears when it is complete.

    `proprio` becomes `observation.state`, other vectors and labels `observation.NAME`, frames of several cameras
    `observation.images.NAME`, those of the only one `observation.images.camera`.

    Raises:
        DatasetError: the dataset cannot be opened, its rate is not a whole number, which the format needs, a camera's
            name is none that the format can have, or two columns would have the same.
        OutputError: the folder exists, or another process writes it.
    """
    dataset = EpisodeDataset.open(source)
    rate_hz = dataset.spec.action_space.control_hz if dataset.spec.action_space else None
    if rate_hz is None or rate_hz % 1.0:
        raise DatasetError(f"{source}: control_hz is {rate_hz or 'not known'}; LeRobot needs a whole number")
    fps, columns, cameras = int(rate_hz), _columns(dataset), _cameras(dataset)
    with _new_folder(out) as folder:
        (folder / layout.EPISODES).mkdir(parents=True)
        with _Tables(folder, dataset, columns, fps) as tables, contextlib.ExitStack() as stack:
            videos = {camera: stack.enter_context(_Videos(folder, camera, fps)) for camera in cameras}
            for episode in tqdm(range(len(dataset.lengths)), desc="export", unit="episode"):
                place = tables.write(episode)
                for camera, frames in cameras.items():
                    place |= videos[camera].write(frames[dataset.rows(episode)])
                tables.note(episode, place)
        _write_meta(folder, dataset, columns, fps, tables.task)
    return {
        "dataset": str(out),
        "episodes": len(dataset.lengths),
        "control_steps": len(dataset.pixels),
        "bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
    }


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the name `out` once it is complete; until then it stands beside, and is removed on errors."""
    with exclusive_new(out):
        beside = out.with_name(f"{out.name}.writing")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            yield beside
            os.replace(beside, out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _columns(dataset: EpisodeDataset) -> dict[str, str]:
    """The dataset's columns by feature; time stamps are LeRobot's own.

    Raises:
        DatasetError: a name cannot be a feature's, or would be that of two.
    """
    cameras = dict(zip(_cameras(dataset), dataset.spec.cameras.values(), strict=True))
    slashed = [camera for camera in cameras if "/" in camera]
    if slashed:
        raise DatasetError(f"{dataset.path}: a camera would be '{slashed[0]}'; LeRobot's names have no '/'")
    taken = dict(cameras)
    for column in dataset.columns:
        feature = {"action": "action", PROPRIO: STATE}.get(column, f"observation.{column}")
        if column != (other := taken.setdefault(feature, column)):
            raise DatasetError(f"{dataset.path}: columns '{other}' and '{column}' would both be '{feature}'")
    return {feature: column for feature, column in taken.items() if feature not in cameras and column != "timestamp_s"}


def _cameras(dataset: EpisodeDataset) -> dict[str, Frames]:
    """Frames by feature. The only camera has no name there, as its column has none here."""
    names = list(dataset.frames) if len(dataset.frames) > 1 else [UNNAMED]
    return {f"{IMAGES}.{name}": frames for name, frames in zip(names, dataset.frames.values(), strict=True)}


def _column_feature(dataset: EpisodeDataset, column: str) -> dict[str, Any]:
    """What `meta/info.json` says of a column."""
    values, space = dataset.columns[column], dataset.spec.action_space
    size = int(np.prod(values.shape[1:]))
    names = dataset.spec.vectors.get(column) or [f"{column}_{index}" for index in range(size)]
    if column == "action" and space:
        names = space.names
    return {"dtype": str(values.dtype), "shape": [size], "names": list(names)}


def _video_feature(height: int, width: int, fps: int) -> dict[str, Any]:
    """What `meta/info.json` says of a camera."""
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": PIXEL_FORMAT,
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        },
    }


class _Tables:
    """The parquet files of rows and of episodes, each closed and followed by the next when it has grown enough."""

    def __init__(self, folder: Path, dataset: EpisodeDataset, columns: Mapping[str, str], fps: int) -> None:
        self._folder, self._dataset, self._columns, self._fps = folder, dataset, columns, fps
        self.task = str(dataset.meta.get("config", {}).get("task", "none"))
        self._file, self._writer, self._path = 0, None, folder
        self._notes: list[dict[str, Any]] = []

    def __enter__(self) -> _Tables:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close()
        if kind is None:
            path = self._folder / layout.EPISODES_PATH.format(chunk_index=0, file_index=0)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(self._notes), path)

    def write(self, episode: int) -> dict[str, Any]:
        """Add the rows of an episode; returns where they are."""
        table = self._table(episode)
        if self._writer and self._path.stat().st_size >= layout.DATA_FILE_MB * MB:
            self._close()
            self._file += 1
        place = _place(self._file)
        if self._writer is None:
            self._path = self._folder / layout.DATA_PATH.format(**place)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy", write_page_checksum=True)
        self._writer.write_table(table)
        return {f"data/{name}": value for name, value in place.items()}

    def note(self, episode: int, place: dict[str, Any]) -> None:
        """Add the episode to `meta/episodes`."""
        rows = self._dataset.rows(episode)
        self._notes.append(
            {
                "episode_index": episode,
                "tasks": [self.task],
                "length": rows.stop - rows.start,
                "dataset_from_index": rows.start,
                "dataset_to_index": rows.stop,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **place,
            }
        )

    def _table(self, episode: int) -> pa.Table:
        rows = self._dataset.rows(episode)
        steps = np.arange(rows.stop - rows.start)
        columns = {name: _arrow(self._dataset.columns[column][rows]) for name, column in self._columns.items()}
        return pa.table(
            columns
            | {
                "timestamp": pa.array((steps / self._fps).astype(np.float32)),
                "frame_index": pa.array(steps),
                "episode_index": pa.array(np.full(len(steps), episode)),
                "index": pa.array(steps + rows.start),
                "task_index": pa.array(np.zeros(len(steps), np.int64)),
            }
        )

    def _close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None


class _Videos:
    """A camera's video files, several episodes one after the other in each."""

    def __init__(self, folder: Path, camera: str, fps: int) -> None:
        self._folder, self._camera, self._fps = folder, camera, fps
        self._file, self._frames = 0, 0
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._path = folder

    def __enter__(self) -> _Videos:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, frames: NDArray[np.uint8]) -> dict[str, Any]:
        """Add the frames (steps, height, width, 3) of an episode; returns where they are."""
        if self._container and self._path.stat().st_size >= layout.VIDEO_FILE_MB * MB:
            self._close()
            self._file += 1
        place = _place(self._file)
        if self._container is None:
            self._open(layout.VIDEO_PATH.format(video_key=self._camera, **place), *frames.shape[1:3])
        start = self._frames
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = self._frames, Fraction(1, self._fps)
            if index == 0:
                picture.pict_type = av.video.frame.PictureType.I
            self._container.mux(self._stream.encode(picture))
            self._frames += 1
        stamps_s = {"from_timestamp": start / self._fps, "to_timestamp": self._frames / self._fps}
        return {f"videos/{self._camera}/{name}": value for name, value in (place | stamps_s).items()}

    def _open(self, path: str, height: int, width: int) -> None:
        self._path, self._frames = self._folder / path, 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._path), "w")
        self._stream = self._container.add_stream(CODEC, self._fps, options=CODEC_OPTIONS)
        self._stream.pix_fmt, self._stream.height, self._stream.width = PIXEL_FORMAT, height, width

    def _close(self) -> None:
        if self._container:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None


def _place(file: int) -> dict[str, int]:
    return {"chunk_index": file // layout.FILES_PER_CHUNK, "file_index": file % layout.FILES_PER_CHUNK}


def _arrow(values: NDArray[Any]) -> pa.Array:
    """Rows of numbers as lists of fixed size; single numbers as they are."""
    rows = values.reshape(len(values), -1)
    flat = pa.array(rows.ravel())
    return flat if rows.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _write_meta(folder: Path, dataset: EpisodeDataset, columns: Mapping[str, str], fps: int, task: str) -> None:
    tables = {name: _column_feature(dataset, column) for name, column in columns.items()}
    videos = {name: _video_feature(*frames.shape[1:3], fps=fps) for name, frames in _cameras(dataset).items()}
    info = {
        "codebase_version": layout.VERSION,
        "robot_type": None,
        "total_episodes": len(dataset.lengths),
        "total_frames": len(dataset.pixels),
        "total_tasks": 1,
        "chunks_size": layout.FILES_PER_CHUNK,
        "data_files_size_in_mb": layout.DATA_FILE_MB,
        "video_files_size_in_mb": layout.VIDEO_FILE_MB,
        "fps": fps,
        "splits": {"train": f"0:{len(dataset.lengths)}"},
        "data_path": layout.DATA_PATH,
        "video_path": layout.VIDEO_PATH,
        "features": tables | videos | layout.DEFAULT_FEATURES,
    }
    (folder / layout.INFO).write_text(json.dumps(info, indent=4), encoding="utf-8")
    statistics = dict(_statistics(dataset, columns))
    (folder / layout.STATS).write_text(json.dumps(statistics, indent=4), encoding="utf-8")
    pq.write_table(_tasks_table(task), folder / layout.TASKS)


def _statistics(dataset: EpisodeDataset, columns: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Per feature what LeRobot's policies normalise with."""
    step = -(-len(dataset.pixels) // STATISTICS_ROWS)
    for name, column in columns.items():
        rows = dataset.columns[column][::step]
        yield name, _moments(rows.reshape(len(rows), -1).astype(np.float64))
    spread = np.unique(np.linspace(0, len(dataset.pixels) - 1, STATISTICS_FRAMES).astype(np.int64))
    for name, frames in _cameras(dataset).items():
        channels = _moments(frames[spread].reshape(-1, 3) / 255.0)
        yield name, {n: [[[v]] for v in values] for n, values in channels.items()} | {"count": [len(spread)]}


def _moments(rows: NDArray[np.float64]) -> dict[str, list[float]]:
    """Statistics of rows (N, K), each a list of K."""
    quantiles = {f"q{round(100 * q):02d}": np.quantile(rows, q, axis=0).tolist() for q in layout.QUANTILES}
    return {
        "min": rows.min(0).tolist(),
        "max": rows.max(0).tolist(),
        "mean": rows.mean(0).tolist(),
        "std": rows.std(0).tolist(),
        "count": [len(rows)],
        **quantiles,
    }


def _tasks_table(task: str) -> pa.Table:
    """A pandas table with the task as its index, which is what LeRobot reads, written without pandas."""
    described = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}
        for name, kind, numpy_kind in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": described,
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array([0]), "task": pa.array([task])})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
