"""Write a dataset as a LeRobot v3 folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.formats import lerobot_layout as layout
from lewm_training.data.locking import exclusive_new

CAMERA = "observation.images.camera"
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

    Joint positions become `observation.state` (rad), other columns `observation.NAME`, frames
    `observation.images.camera`.

    Raises:
        DatasetError: the dataset cannot be opened, its rate is not a whole number, which the format needs, or two
            columns would have the same name.
        OutputError: the folder exists, or another process writes it.
    """
    dataset = EpisodeDataset.open(source)
    fps = dataset.meta.get("control_hz")
    if not isinstance(fps, int | float) or fps <= 0 or not float(fps).is_integer():
        raise DatasetError(f"{source}: control_hz is {fps or 'not known'}; LeRobot needs a whole number")
    _refuse_equal_names(source, dataset)
    with _new_folder(out) as folder:
        (folder / layout.EPISODES).mkdir(parents=True)
        with _Tables(folder, dataset) as tables, _Videos(folder, int(fps)) as videos:
            for episode in tqdm(range(len(dataset.lengths)), desc="export", unit="episode"):
                place = tables.write(episode) | videos.write(dataset.pixels[dataset.rows(episode)])
                tables.note(episode, place)
        _write_meta(folder, dataset, int(fps), tables.task)
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


def _features(dataset: EpisodeDataset, fps: int) -> dict[str, Any]:
    """Features as in `meta/info.json`, in the order of the tables' columns."""
    height, width = dataset.pixels.shape[1:3]
    features: dict[str, Any] = {}
    for name, (column, values) in _columns(dataset).items():
        names = list(dataset.meta.get("joint_names", [])) if column == "proprio" else []
        size = int(np.prod(values.shape[1:]))
        names = names if len(names) == size else [f"{column}_{index}" for index in range(size)]
        features[name] = {"dtype": str(values.dtype), "shape": [size], "names": names}
    features[CAMERA] = {
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
    return features | layout.DEFAULT_FEATURES


def _columns(dataset: EpisodeDataset) -> dict[str, tuple[str, NDArray[Any]]]:
    """LeRobot's name -> this project's name and column; time stamps are LeRobot's own."""
    return {_renamed(name): (name, values) for name, values in dataset.columns.items() if name != "timestamp_s"}


def _renamed(column: str) -> str:
    return {"action": "action", "proprio": STATE}.get(column, f"observation.{column}")


def _refuse_equal_names(source: Path, dataset: EpisodeDataset) -> None:
    taken = {CAMERA: "pixels"}
    for column in dataset.columns:
        if column != (other := taken.setdefault(_renamed(column), column)):
            raise DatasetError(f"{source}: columns '{other}' and '{column}' would both be '{_renamed(column)}'")


class _Tables:
    """The parquet files of rows and of episodes, each closed and followed by the next when it has grown enough."""

    def __init__(self, folder: Path, dataset: EpisodeDataset) -> None:
        self._folder, self._dataset = folder, dataset
        self._fps = dataset.meta["control_hz"]
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
        columns = {name: _arrow(values[rows]) for name, (_, values) in _columns(self._dataset).items()}
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
    """The video files, several episodes one after the other in each."""

    def __init__(self, folder: Path, fps: int) -> None:
        self._folder, self._fps = folder, fps
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
            self._open(layout.VIDEO_PATH.format(video_key=CAMERA, **place), *frames.shape[1:3])
        start = self._frames
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = self._frames, Fraction(1, self._fps)
            if index == 0:
                picture.pict_type = av.video.frame.PictureType.I
            self._container.mux(self._stream.encode(picture))
            self._frames += 1
        stamps_s = {"from_timestamp": start / self._fps, "to_timestamp": self._frames / self._fps}
        return {f"videos/{CAMERA}/{name}": value for name, value in (place | stamps_s).items()}

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


def _write_meta(folder: Path, dataset: EpisodeDataset, fps: int, task: str) -> None:
    info = {
        "codebase_version": layout.VERSION,
        "robot_type": "panda",
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
        "features": _features(dataset, fps),
    }
    (folder / layout.INFO).write_text(json.dumps(info, indent=4), encoding="utf-8")
    statistics = dict(_statistics(dataset))
    (folder / layout.STATS).write_text(json.dumps(statistics, indent=4), encoding="utf-8")
    pq.write_table(_tasks_table(task), folder / layout.TASKS)


def _statistics(dataset: EpisodeDataset) -> Iterator[tuple[str, dict[str, Any]]]:
    """Per feature what LeRobot's policies normalise with."""
    step = -(-len(dataset.pixels) // STATISTICS_ROWS)
    for name, (_, values) in _columns(dataset).items():
        rows = values[::step].reshape(len(values[::step]), -1).astype(np.float64)
        yield name, _moments(rows)
    spread = np.unique(np.linspace(0, len(dataset.pixels) - 1, STATISTICS_FRAMES).astype(np.int64))
    frames = dataset.pixels[spread]
    channels = _moments(frames.reshape(-1, 3) / 255.0)
    yield CAMERA, {n: [[[v]] for v in values] for n, values in channels.items()} | {"count": [len(frames)]}


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
