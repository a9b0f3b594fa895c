"""LeRobot folders, as LeRobot itself writes them, and what can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.random import Generator
from numpy.typing import NDArray

from fuzzing import hdf5, marks
from fuzzing.mutation import DAMAGE, ODD_VALUES, Format, Mutation, Source, choose
from lewm_ros.robot.arm import PANDA
from lewm_training.data import EpisodeDataset

CAMERA = "observation.images.front"
NUMBERS = ("observation.state", "action", "tip")
ROW_NUMBERS = ("frame_index", "episode_index", "index", "timestamp")
INFO = "meta/info.json"
DATA, EPISODES, VIDEO = ("data/{}.parquet", "meta/episodes/{}.parquet", f"videos/{CAMERA}/{{}}.mp4")
DECLARED = {
    "action_space": "joint_delta",
    "angles": "radians",
    "limit": [marks.LIMIT_RAD] * 7,
    "joint_names": list(PANDA.joint_names),
    "pixels": CAMERA,
    "action": "action",
    "state": "observation.state",
    "labels": {"ee_position": "tip"},
    "minimum_steps": 3,
}
FRACTION = Fraction(1, marks.HZ)


def write_sources(folder: Path) -> list[Source]:
    """A folder of one video, one of a file per episode, and one with pictures in its tables."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(DECLARED), encoding="utf-8")
    together, apart = [[0, 1, 2]], [[0], [1], [2]]
    sources = []
    for name, files, video in (("one video", together, True), ("videos", apart, True), ("pictures", together, False)):
        path = folder / name.replace(" ", "_")
        write_folder(path, files, video)
        sources.append(Source(name, path, config))
    return sources


def write_folder(path: Path, files: Sequence[Sequence[int]], video: bool) -> None:
    """Write the episodes, distributed over files as they are listed."""
    episodes, start = [], 0
    for number, listed in enumerate(files):
        place = f"chunk-000/file-{number:03d}"
        tables, begin = [], 0
        for episode in listed:
            steps = marks.LENGTHS[episode]
            tables.append(_table(episode, start, video))
            row = {
                "episode_index": episode,
                "tasks": ["reach"],
                "length": steps,
                "data/chunk_index": 0,
                "data/file_index": number,
                "dataset_from_index": start,
                "dataset_to_index": start + steps,
            }
            if video:
                row[f"videos/{CAMERA}/chunk_index"], row[f"videos/{CAMERA}/file_index"] = 0, number
                row[f"videos/{CAMERA}/from_timestamp"] = begin / marks.HZ
                row[f"videos/{CAMERA}/to_timestamp"] = (begin + steps) / marks.HZ
            episodes.append(row)
            start, begin = start + steps, begin + steps
        _write_table(path / DATA.format(place), pa.concat_tables(tables))
        if video:
            pictures = np.concatenate([marks.frames(episode) for episode in listed])
            write_video(path / VIDEO.format(place), enumerate(pictures))
    _write_table(path / EPISODES.format("chunk-000/file-000"), pa.Table.from_pylist(episodes))
    (path / INFO).write_text(json.dumps(_info(start, video), indent=4), encoding="utf-8")


def write_video(
    path: Path,
    pictures: Iterable[tuple[int, NDArray[np.uint8]]],
    codec: str = "libx264",
    period: Fraction = FRACTION,
) -> None:
    """Write pictures at the numbers given, in periods, as LeRobot encodes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"crf": "20", "g": "2"} if codec == "libx264" else {"qscale": "2"}
    with av.open(str(path), "w") as container:
        stream = None
        for number, picture in pictures:
            if stream is None:
                stream = container.add_stream(codec, 1 / period, options=options)
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, period
            container.mux(stream.encode(frame))
        if stream is None:
            container.add_stream("aac", 48000)
        else:
            container.mux(stream.encode())


def check(dataset: EpisodeDataset, source: Path, readable: bool) -> None:
    """Every row is one row of the source, at its time."""
    hdf5.check(dataset, source, readable)
    for episode in range(len(dataset.lengths)):
        stamps_s = dataset.columns["timestamp_s"][dataset.rows(episode)]
        if not np.allclose(stamps_s - stamps_s[0], np.arange(len(stamps_s)) / marks.HZ, atol=0.5 / marks.HZ):
            raise marks.WrongRow(f"episode {episode} is stamped {stamps_s.tolist()}")


def _table(episode: int, start: int, video: bool) -> pa.Table:
    steps = np.arange(marks.LENGTHS[episode])
    columns = {
        "observation.state": pa.array(list(marks.states(episode)), pa.list_(pa.float32())),
        "action": pa.array(list(marks.actions(episode)), pa.list_(pa.float32(), 7)),
        "tip": pa.array(list(marks.tips(episode)), pa.list_(pa.float32())),
        "timestamp": pa.array((steps / marks.HZ).astype(np.float32)),
        "frame_index": pa.array(steps),
        "episode_index": pa.array(np.full(len(steps), episode)),
        "index": pa.array(steps + start),
        "task_index": pa.array(np.zeros(len(steps), np.int64)),
    }
    if not video:
        columns[CAMERA] = pa.array([{"bytes": _png(frame), "path": None} for frame in marks.frames(episode)])
    return pa.table(columns)


def _png(rgb: NDArray[np.uint8], kind: str = ".png") -> bytes:
    return cv2.imencode(kind, rgb[..., ::-1] if rgb.ndim == 3 else rgb)[1].tobytes()


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _info(rows: int, video: bool) -> dict[str, Any]:
    size = [marks.IMAGE_SIZE, marks.IMAGE_SIZE, 3]
    sizes = {"observation.state": 7, "action": 7, "tip": 3}
    features = {name: {"dtype": "float32", "shape": [size], "names": None} for name, size in sizes.items()}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    features[CAMERA] = {"dtype": "video" if video else "image", "shape": size, "names": ["height", "width", "channels"]}
    place = "chunk-{chunk_index:03d}/file-{file_index:03d}"
    return {
        "codebase_version": "v3.0",
        "robot_type": "panda",
        "total_episodes": len(marks.LENGTHS),
        "total_frames": rows,
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": marks.HZ,
        "splits": {"train": f"0:{len(marks.LENGTHS)}"},
        "data_path": DATA.format(place),
        "video_path": VIDEO.format(place).replace(CAMERA, "{video_key}"),
        "features": features,
    }


def edit_info(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change what `meta/info.json` says."""
    info = json.loads((path / INFO).read_text(encoding="utf-8"))
    edit(info)
    (path / INFO).write_text(json.dumps(info), encoding="utf-8")


def edit_rows(path: Path, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change the rows of a table; the types are what they become."""
    table = pq.read_table(path)
    rows = edit(table.to_pylist())
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row) or table.column_names:
        values = [row.get(name) for row in rows]
        kind = table.schema.field(name).type if name in table.column_names else None
        columns[name] = _array(values, kind)
    pq.write_table(pa.table(columns), path)


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """Of the type, or if the values do not fit of any that they do, or as text."""
    for wanted in (kind, None):
        try:
            return pa.array(values, wanted)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            continue
    return pa.array([None if value is None else str(value) for value in values])


def tables(path: Path) -> list[Path]:
    """The files of rows."""
    return sorted((path / "data").rglob("*.parquet"))


def episodes_table(path: Path) -> Path:
    """The file of episodes."""
    return path / EPISODES.format("chunk-000/file-000")


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in nested JSON something stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [found for key, entry in inside for found in _places(entry, (*place, key))]


def _container(info: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        info = info[key]
    return info


def info_values(path: Path, rng: Generator) -> None:
    def edit(info: dict[str, Any]) -> None:
        place = choose(rng, _places(info))
        _container(info, place)[place[-1]] = choose(rng, ODD_VALUES)

    edit_info(path, edit)


def info_keys(path: Path, rng: Generator) -> None:
    def edit(info: dict[str, Any]) -> None:
        place = choose(rng, _places(info))
        inside, key = _container(info, place), place[-1]
        value = inside.pop(key)
        if isinstance(inside, dict) and rng.random() < 0.5:
            inside[choose(rng, (key.upper(), f"{key}.x", "", "fps", "features"))] = value

    edit_info(path, edit)


def info_rates_and_versions(path: Path, rng: Generator) -> None:
    changes = (
        ("fps", (0, -20, 19, 10, 21, 1e-9, 1e9, 20.5, "20", None)),
        ("codebase_version", ("v2.0", "v2.1", "v4.0", "3.0", "", None, 3, "v3.")),
        (
            "data_path",
            ("data/{}.parquet", "data/{chunk}.parquet", "{", "", "data/x.parquet", "/", "data", "{chunk_index:q}"),
        ),
        ("video_path", ("videos/{}.mp4", "{video_key}", "", None, INFO, "videos/{file_index.x}.mp4")),
        ("total_episodes", (0, 2, 4, -1)),
        ("total_frames", (0, 24, 26)),
    )
    key, values = choose(rng, changes)
    edit_info(path, lambda info: info.__setitem__(key, choose(rng, values)))


def info_as_text(path: Path, rng: Generator) -> None:
    text = (path / INFO).read_text(encoding="utf-8")
    kinds = (
        text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), text.encode() + b"x", b"[" * 100_000, b"[]", b"null",
        b"1", b'"x"', b"{}", text[: rng.integers(len(text))].encode(), text.replace(":", "=", 1).encode(),
        text.replace("20", "NaN", 1).encode(), text.replace('"fps": 20', '"fps": 1' + "0" * 5000).encode(),
        b"\xff\xfe" + text.encode(),
    )  # fmt: skip
    (path / INFO).write_bytes(choose(rng, kinds))


def numbers_of_rows(path: Path, rng: Generator) -> None:
    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for _ in range(choose(rng, (1, 3))):
            row, name = choose(rng, rows), choose(rng, NUMBERS)
            row[name] = list(row[name])
            row[name][rng.integers(len(row[name]))] = choose(rng, (None, np.nan, np.inf, -np.inf, 1e30, -7.0))
        return rows

    edit_rows(choose(rng, tables(path)), edit)


def ragged_rows(path: Path, rng: Generator) -> None:
    """Lists of a row too short, too long, empty, null, nested; as many numbers too few as too many."""

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        name = choose(rng, NUMBERS)
        first, second = rng.choice(len(rows), 2, replace=False)
        values = list(rows[first][name])
        kinds = (values[:-1], [*values, 0.0], [], None, [values], [None] * len(values), values[:1])
        rows[first][name] = choose(rng, kinds)
        if rng.random() < 0.3:
            rows[first][name], rows[second][name] = values[:-1], [*rows[second][name], values[-1]]
        return rows

    edit_rows(choose(rng, tables(path)), edit)


def columns_of_another_type(path: Path, rng: Generator) -> None:
    file = choose(rng, tables(path))
    table = pq.read_table(file)
    name = choose(rng, table.column_names)
    column = table[name].combine_chunks()
    listed = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
    scalars = (
        pa.string(), pa.float64(), pa.float16(), pa.int8(), pa.uint64(), pa.bool_(), pa.decimal128(30, 10), pa.null(),
        pa.large_string(), pa.timestamp("us"), pa.duration("s"), pa.binary(), pa.date32(),
        pa.dictionary(pa.int32(), pa.string()),
    )  # fmt: skip
    scalar = choose(rng, scalars)
    kind = choose(rng, (pa.list_, pa.large_list, pa.list_view))(scalar) if listed and rng.random() < 0.7 else scalar
    try:
        changed = column.cast(kind)
    except pa.ArrowException:
        make = choose(
            rng, (str, lambda value: [value], lambda value: {"x": value}, lambda _: None, bool, lambda _: b"x")
        )
        changed = _array([make(value) for value in column.to_pylist()], None)
    try:
        pq.write_table(table.set_column(table.column_names.index(name), name, changed), file)
    except pa.ArrowException:  # Parquet has no such type
        pq.write_table(table.drop_columns([name]), file)


def harmless_types(path: Path, rng: Generator) -> None:
    """As other writers store the same numbers."""
    for file in tables(path):
        table = pq.read_table(file)
        for name in choose(rng, (NUMBERS, NUMBERS[:1], NUMBERS[1:2], ("timestamp",), ROW_NUMBERS[:3])):
            size = 3 if name == "tip" else 7
            wide = (
                pa.list_(pa.float64()),
                pa.large_list(pa.float32()),
                pa.list_(pa.float64(), size),
                pa.large_list(pa.float64()),
            )
            kinds = wide if name in NUMBERS else (pa.float64(),) if name == "timestamp" else (pa.int32(), pa.uint16())
            table = table.set_column(table.column_names.index(name), name, table[name].cast(choose(rng, kinds)))
        pq.write_table(
            table, file, row_group_size=int(rng.integers(1, 30)), compression=choose(rng, ("zstd", "none", "gzip"))
        )


def rows_in_another_order(path: Path, rng: Generator) -> None:
    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first, second = sorted(rng.integers(len(rows) + 1, size=2))
        kind = rng.integers(7)
        if kind == 0:
            return [rows[row] for row in rng.permutation(len(rows))]
        if kind == 1:
            return rows[::-1]
        if kind == 2:
            return rows[:first] + rows[second:]
        if kind == 3:
            return rows[:second] + rows[first:]
        if kind == 4:
            return sorted(rows, key=lambda row: row["frame_index"])
        if kind == 5:
            return rows[first:] + rows[:first]
        return rows + rows

    edit_rows(choose(rng, tables(path)), edit)


def row_numbers(path: Path, rng: Generator) -> None:
    """Indices and stamps of a row, or of all rows."""

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        name = choose(rng, ROW_NUMBERS)
        values = (None, -1, 0, 1, 2, 3, 0.5, np.nan, np.inf, "1", 2**40, -(2**62), [0], True, b"")
        if rng.random() < 0.7:
            for _ in range(choose(rng, (1, 2))):
                choose(rng, rows)[name] = choose(rng, values)
        else:
            shift = choose(rng, (-1, 1, 0.5, 1000))
            for row in rows:
                row[name] = row[name] + shift
        return rows

    edit_rows(choose(rng, tables(path)), edit)


def rows_of_two_episodes_swapped(path: Path, rng: Generator) -> None:
    """Two rows with the same frame_index change their episodes, and keep their places."""

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = choose(rng, rows)
        others = [row for row in rows if row["frame_index"] == first["frame_index"] and row is not first]
        if others:
            second = choose(rng, others)
            first["episode_index"], second["episode_index"] = second["episode_index"], first["episode_index"]
        return rows

    edit_rows(tables(path)[0], edit)


def columns_missing_or_renamed(path: Path, rng: Generator) -> None:
    file = choose(rng, [*tables(path), episodes_table(path)])
    table = pq.read_table(file)
    name = choose(rng, table.column_names)
    kind = rng.integers(4)
    if kind == 0:
        table = table.drop_columns([name])
    elif kind == 1:
        table = table.rename_columns([n.upper() if n == name else n for n in table.column_names])
    elif kind == 2:
        table = table.append_column(name, table[name])
    else:
        table = table.append_column(choose(rng, ("x", "", "pixels", "stats/x")), table[name])
    pq.write_table(table, file)


def stamps(path: Path, rng: Generator) -> None:
    """That run on over episodes, are of another rate, are late or noisy, or stand still."""
    kind, late_s, rate = (
        rng.integers(6),
        float(rng.choice([-0.05, 0.05, 0.1, 1.0, 1e6])),
        float(rng.choice([0.9, 1.1, 2, 0, -1])),
    )

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        chosen = rng.integers(len(rows))
        for number, row in enumerate(rows):
            if kind == 0:
                row["timestamp"] = row["index"] / marks.HZ
            elif kind == 1:
                row["timestamp"] *= rate
            elif kind == 2:
                row["timestamp"] += late_s
            elif kind == 3:
                row["timestamp"] += rng.uniform(-0.06, 0.06)
            elif kind == 4 and number >= chosen:
                row["timestamp"] += late_s
            elif kind == 5:
                row["timestamp"] *= 1 + 0.1 * (row["frame_index"] > 3)
        return rows

    for file in tables(path):
        edit_rows(file, edit)


def episodes_values(path: Path, rng: Generator) -> None:
    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        row = choose(rng, rows)
        values = (None, -1, 0, 1, 2, 7, 10, 0.5, np.nan, np.inf, "1", "", 2**40, -(2**62), [0], [], True, {"x": 1})
        row[choose(rng, list(row))] = choose(rng, values)
        return rows

    edit_rows(episodes_table(path), edit)


def episodes_rows(path: Path, rng: Generator) -> None:
    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        orders = ([0, 1], [1, 2], [2, 0, 1], [0, 1, 1, 2], [], [1], [0, 0, 0], [0, 1, 2, 0])
        return [rows[number] for number in choose(rng, orders)]

    edit_rows(episodes_table(path), edit)


def episodes_lengths(path: Path, rng: Generator) -> None:
    """Rows that go from one episode to its neighbour, in `meta/episodes` only."""

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        name = choose(rng, [n for n in ("length", "dataset_from_index", "dataset_to_index") if n in rows[0]])
        rows[0][name] += 1
        rows[1][name] -= 1
        return rows

    edit_rows(episodes_table(path), edit)


def video_ranges(path: Path, rng: Generator) -> None:
    """Of one episode or of all: late, early, overlapping, exchanged, turned round."""
    begin, end = f"videos/{CAMERA}/from_timestamp", f"videos/{CAMERA}/to_timestamp"

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if begin not in rows[0]:
            return rows
        chosen = [choose(rng, rows)] if rng.random() < 0.6 else rows
        kind, shift_s = rng.integers(6), choose(rng, (-1, 1, 2, 5, 100)) / marks.HZ
        for row in chosen:
            if kind in (0, 1):
                row[begin] += shift_s
            if kind in (0, 2):
                row[end] += shift_s
            if kind == 3:
                row[begin], row[end] = row[end], row[begin]
            if kind == 4:
                other = choose(rng, rows)
                row[begin], row[end] = other[begin], other[end]
            if kind == 5:
                row[choose(rng, (begin, end))] = choose(rng, (None, np.nan, np.inf, -1.0, 1e18, "x"))
        return rows

    edit_rows(episodes_table(path), edit)


def videos_exchanged(path: Path, rng: Generator) -> None:
    """Episodes say that they are in the file of another one."""

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        name = choose(rng, (f"videos/{CAMERA}/file_index", "data/file_index", f"videos/{CAMERA}/chunk_index"))
        if name in rows[0]:
            first, second = choose(rng, rows), choose(rng, rows)
            first[name], second[name] = second[name], choose(rng, (first[name], 1, 7, -1))
        return rows

    edit_rows(episodes_table(path), edit)


def video_encoded_anew(path: Path, rng: Generator) -> None:
    """Frames left out or repeated, with or without a gap; of other rates, sizes and kinds; cut; none at all."""
    videos = sorted((path / "videos").rglob("*.mp4"))
    if not videos:
        return
    chosen = rng.integers(len(videos))
    listed = range(len(marks.LENGTHS)) if len(videos) == 1 else [chosen]
    pictures = np.concatenate([marks.frames(episode) for episode in listed])
    numbers = list(range(len(pictures)))
    place, kind = int(rng.integers(1, len(pictures) - 1)), rng.integers(12)
    frames = list(zip(numbers, pictures, strict=True))
    options: dict[str, Any] = {}
    if kind == 0:
        del frames[place]
    elif kind == 1:
        frames = list(enumerate(np.delete(pictures, place, axis=0)))
    elif kind == 2:
        frames = list(enumerate(np.insert(pictures, place, pictures[place], axis=0)))
    elif kind == 3:
        frames = frames[:place]
    elif kind == 4:
        late = choose(rng, (1, 3))
        frames = [(number + late, picture) for number, picture in frames]
    elif kind == 5:
        options["period"] = Fraction(1, choose(rng, (10, 19, 21, 40)))
    elif kind == 6:
        size = choose(rng, (16, 64, 48))
        frames = [
            (number, cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)) for number, picture in frames
        ]
    elif kind == 7:
        options = {"codec": "mpeg4"}
    elif kind == 8:
        frames = []
    elif kind == 9:
        frames = frames[place:]
    elif kind == 10:
        frames = list(enumerate(pictures[::2]))
    else:
        frames = list(enumerate(pictures.repeat(2, axis=0)))
    write_video(videos[chosen], frames, **options)


def pictures(path: Path, rng: Generator) -> None:
    """In the tables: null, no bytes, no picture, of other sizes, kinds and formats."""
    picture = marks.frame(0)
    odd = (
        None, {"bytes": None, "path": None}, {"bytes": b"", "path": None}, {"bytes": b"no picture", "path": None},
        {"bytes": None, "path": "images/x.png"}, {"bytes": _png(marks.frame(0, 16)), "path": None},
        {"bytes": _png(picture)[:-40], "path": None}, {"bytes": _png(picture)[:30], "path": None},
        {"bytes": _png(picture[..., 0]), "path": None}, {"path": None}, {"bytes": b"\x89PNG\r\n\x1a\n", "path": None},
    )  # fmt: skip

    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if CAMERA in rows[0]:
            choose(rng, rows)[CAMERA] = choose(rng, odd)
        return rows

    edit_rows(tables(path)[0], edit)


MUTATIONS = (
    *DAMAGE,
    Mutation(info_values),
    Mutation(info_keys),
    Mutation(info_rates_and_versions),
    Mutation(info_as_text),
    Mutation(numbers_of_rows, spoils_values=True),
    Mutation(ragged_rows, spoils_values=True),
    Mutation(columns_of_another_type, spoils_values=True),
    Mutation(harmless_types, harmless=True),
    Mutation(rows_in_another_order),
    Mutation(row_numbers),
    Mutation(rows_of_two_episodes_swapped),
    Mutation(columns_missing_or_renamed),
    Mutation(stamps),
    Mutation(episodes_values),
    Mutation(episodes_rows),
    Mutation(episodes_lengths),
    Mutation(video_ranges),
    Mutation(videos_exchanged),
    Mutation(video_encoded_anew),
    Mutation(pictures, spoils_values=True),
)

FORMAT = Format(
    "lerobot",
    write_sources,
    MUTATIONS,
    check,
    {name: list(marks.LENGTHS) for name in ("one video", "videos", "pictures")},
)
