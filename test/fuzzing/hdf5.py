"""HDF5 files, as this project and as stable-worldmodel write them, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from numpy.random import Generator

from fuzzing import marks
from fuzzing.mutation import DAMAGE, ODD_VALUES, Format, Mutation, Source, choose
from lewm_ros.robot.arm import PANDA
from lewm_training.data import EpisodeDataset

COLUMNS = ("camera", "command", "joints", "tip")
INDEX = ("ep_len", "ep_offset")
DECLARED = {
    "action_space": "joint_delta",
    "angles": "radians",
    "limit": [marks.LIMIT_RAD] * 7,
    "joint_names": list(PANDA.joint_names),
    "control_hz": marks.HZ,
    "pixels": "camera",
    "action": "command",
    "state": "joints",
    "labels": {"ee_position": "tip"},
    "minimum_steps": 3,
}
TYPES = (
    "f2", "f8", ">f4", "i1", "i8", "u1", "u8", "?", "c8", "S4", h5py.string_dtype(), h5py.ref_dtype,
    h5py.vlen_dtype(np.float32), [("x", "f4"), ("y", "i4")], h5py.enum_dtype({"a": 0, "b": 1}), "V8",
)  # fmt: skip


def write_sources(folder: Path) -> list[Source]:
    """A contiguous file, and a chunked one with checksums, channels first, floats and NaN as the last action."""
    episodes = range(len(marks.LENGTHS))
    makers = (marks.frames, marks.actions, marks.states, marks.tips)
    columns = {name: np.concatenate([make(e) for e in episodes]) for name, make in zip(COLUMNS, makers, strict=True)}
    columns |= {"ep_len": np.array(marks.LENGTHS), "ep_offset": np.cumsum((0, *marks.LENGTHS[:-1]))}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(DECLARED), encoding="utf-8")
    contiguous, chunked = folder / "contiguous.h5", folder / "chunked.h5"
    with h5py.File(contiguous, "w") as file:
        for name, values in columns.items():
            file[name] = values
        file.attrs["meta"] = "{}"
    columns["camera"] = (columns["camera"].transpose(0, 3, 1, 2) / 255.0).astype(np.float32)
    columns["command"][np.cumsum(marks.LENGTHS) - 1] = np.nan
    with h5py.File(chunked, "w", libver="latest") as file:
        for name, values in columns.items():
            file.create_dataset(
                name, data=values, chunks=(1, *values.shape[1:]), fletcher32=True, compression="gzip", shuffle=True
            )
    return [Source("contiguous", contiguous, config), Source("chunked", chunked, config)]


def check(dataset: EpisodeDataset, _: Path, readable: bool) -> None:
    """Every row is one row of the source."""
    for episode in range(len(dataset.lengths)):
        rows = dataset.rows(episode)
        found = {"pixels": marks.frame_marks(dataset.pixels[rows])}
        found |= {name: marks.column_marks(name, dataset, rows) for name in marks.TOLERANCES}
        marks.check_marks(found, readable)


def replace(file: h5py.File, name: str, values: Any, **options: Any) -> None:
    """Put other values in the place of a dataset."""
    if name in file:
        del file[name]
    file.create_dataset(name, data=values, **options)


def numbers_out_of_range(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        column = file[choose(rng, COLUMNS[1:])]
        for _ in range(choose(rng, (1, 3))):
            row, number = rng.integers(len(column)), rng.integers(column.shape[1])
            column[row, number] = choose(rng, (np.nan, np.inf, -np.inf, 1e30, -7.0))


def column_of_another_type(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        name, kind = choose(rng, COLUMNS[1:]), np.dtype(choose(rng, TYPES))
        values = file[name][:]
        del file[name]
        column = file.create_dataset(name, values.shape, kind)
        if kind.kind in "fiu?c":
            column[:] = np.nan_to_num(values).astype(kind)


def column_of_another_shape(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        name = choose(rng, (*COLUMNS, *INDEX))
        values = file[name][:]
        shapes = (
            values.reshape(-1), values[..., None], values[None], values.T, values[:-1], values[1:], values[:0],
            np.concatenate([values, values[-1:]]), values[..., :-1], np.concatenate([values, values], axis=-1),
            values[0], values.flat[0], values.reshape(len(values), -1),
        )  # fmt: skip
        replace(file, name, choose(rng, shapes))


def frames_of_another_kind(path: Path, rng: Generator) -> None:
    episodes = range(len(marks.LENGTHS))
    pixels = np.concatenate([marks.frames(e) for e in episodes])
    unit = (pixels / 255.0).astype(np.float32)
    holes = unit.copy()
    holes[rng.integers(len(holes)), :9] = choose(rng, (np.nan, np.inf, -np.inf, 7.0))
    kinds = (
        pixels[..., 0], pixels[..., :1], pixels[..., :2], np.concatenate([pixels, pixels[..., :1]], axis=-1), unit,
        2.0 * unit - 1.0, holes, holes, pixels.astype(np.float32), pixels.astype(np.uint16), pixels.astype(np.int64),
        257 * pixels.astype(np.uint16), pixels > 128, unit.astype(np.float16), pixels[:, :0], pixels[:, :, :, None],
        pixels.transpose(0, 3, 1, 2), pixels.transpose(3, 0, 1, 2), pixels[:, ::2, ::2],
    )  # fmt: skip
    with h5py.File(path, "r+") as file:
        replace(file, "camera", choose(rng, kinds))


def index_values(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        column = file[choose(rng, INDEX)]
        value = int(choose(rng, (-1, 0, 1, 2**31, 2**62, column[0] + 1, column[-1] - 1, -(2**62))))
        column[rng.integers(len(column))] = value


def index_of_another_type(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        name = choose(rng, INDEX)
        values = file[name][:]
        kinds = (
            values.astype(float), values + 0.5, np.where(values == values[1], np.nan, values), values.astype("S4"),
            values.astype(complex), values > 8, values.astype(float) - 2.0**63, values[:, None] + np.zeros(3, int),
            values.astype(np.uint64) + np.uint64(2**63), values.astype(np.float16), 1e300 * values,
        )  # fmt: skip
        replace(file, name, choose(rng, kinds))


def index_rows(path: Path, rng: Generator) -> None:
    """Left out, repeated, in another order; in one of the two or in both."""
    with h5py.File(path, "r+") as file:
        count = len(file["ep_len"])
        orders = ([0, 1], [1, 2], [0, 1, 1, 2], [2, 0, 1], [0, 2], [], [1], [0, 1, 2, 2])
        order = np.array(choose(rng, orders), dtype=int)
        for name in choose(rng, (INDEX, INDEX[:1], INDEX[1:])):
            replace(file, name, file[name][:][order[order < count]])


def harmless_index(path: Path, rng: Generator) -> None:
    """As other writers store it: a column of ones, other integers."""
    with h5py.File(path, "r+") as file:
        for name in INDEX:
            values = file[name][:]
            kinds = (values[:, None], values.astype(np.uint16), values.astype(">i4"), values.astype(np.uint64))
            replace(file, name, choose(rng, kinds))


def member_replaced(path: Path, rng: Generator) -> None:
    """By nothing, a group, a link that leads nowhere or to itself, a type, an empty dataset, another member."""
    with h5py.File(path, "r+") as file:
        name, other = choose(rng, (*COLUMNS, *INDEX)), choose(rng, (*COLUMNS, *INDEX))
        kind = rng.integers(9)
        if kind == 8 and name != other:
            copied = file[other][:]
        del file[name]
        if kind == 1:
            file.create_group(name)
        elif kind == 2:
            file[name] = h5py.SoftLink("/nowhere")
        elif kind == 3:
            file[name] = h5py.SoftLink(f"/{name}")
        elif kind == 4:
            file[name] = h5py.ExternalLink("nowhere.h5", "/x")
        elif kind == 5:
            file[name] = np.dtype("f4")
        elif kind == 6:
            file[name] = h5py.Empty("f4")
        elif kind == 7:
            file[name] = choose(rng, (1, "text", 0.5))
        elif kind == 8 and name != other and {name, other} != {"command", "joints"}:
            file[name] = copied


def members_that_nobody_reads(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        for number in range(choose(rng, (1, 3))):
            name, kind = f"extra_{number}", rng.integers(9)
            if kind == 0:
                file.create_group(name).create_dataset("x", data=[1])
            elif kind == 1:
                file[name] = h5py.SoftLink("/nowhere")
            elif kind == 2:
                file[name] = h5py.ExternalLink("nowhere.h5", "/x")
            elif kind == 3:
                file[name] = np.dtype("f4")
            elif kind == 4:
                file[name] = h5py.Empty("f4")
            elif kind == 5:
                file[name] = choose(rng, (1, "text", 0.5))
            elif kind == 6:
                file[name] = np.full(rng.integers(1, 40), np.nan)
            elif kind == 7:
                file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
            else:
                file.create_dataset(name, (3,), h5py.vlen_dtype(np.int32))


def attributes(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        place = choose(rng, (file, *file.values()))
        name = choose(rng, ("meta", "incomplete", "x", "DIMENSION_LIST", "CLASS"))
        value = choose(
            rng, ("{", "[]", "null", "", b"\xff", 1, np.arange(5), h5py.Empty("f4"), '{"limit": 1}', "CARRAY")
        )
        place.attrs[name] = value


def column_stored_elsewhere(path: Path, rng: Generator) -> None:
    """Chunks that were never written, external or virtual storage whose file is gone."""
    with h5py.File(path, "r+") as file:
        name = choose(rng, COLUMNS)
        column = file[name]
        shape, kind = column.shape, column.dtype
        del file[name]
        storage = rng.integers(4)
        if storage == 0:
            file.create_dataset(name, shape, kind, chunks=(1, *shape[1:]), fillvalue=choose(rng, (0, 0.03)))
        elif storage == 1:
            size = int(np.prod(shape)) * kind.itemsize
            file.create_dataset(name, shape, kind, external=[("nowhere.bin", 0, size)])
        elif storage == 2:
            layout = h5py.VirtualLayout(shape, kind)
            layout[:] = h5py.VirtualSource("nowhere.h5", "x", shape)
            file.create_virtual_dataset(name, layout, fillvalue=choose(rng, (0, 0.03)))
        else:
            file.create_dataset(name, (10**11, *shape[1:]), kind, chunks=(1, *shape[1:]))


def attributes_of_odd_values(path: Path, rng: Generator) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["meta"] = repr(choose(rng, ODD_VALUES))


MUTATIONS = (
    *DAMAGE,
    Mutation(numbers_out_of_range, spoils_values=True),
    Mutation(column_of_another_type, spoils_values=True),
    Mutation(column_of_another_shape, spoils_values=True),
    Mutation(frames_of_another_kind),
    Mutation(index_values),
    Mutation(index_of_another_type),
    Mutation(index_rows),
    Mutation(harmless_index, harmless=True),
    Mutation(member_replaced, spoils_values=True),
    Mutation(members_that_nobody_reads, harmless=True),
    Mutation(attributes),
    Mutation(attributes_of_odd_values, harmless=True),
    Mutation(column_stored_elsewhere, spoils_values=True),
)

FORMAT = Format(
    "hdf5",
    write_sources,
    MUTATIONS,
    check,
    {"contiguous": list(marks.LENGTHS), "chunked": [steps - 1 for steps in marks.LENGTHS]},
)
