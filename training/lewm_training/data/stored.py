"""HDF5 files of any origin, opened and read row by row; whatever is wrong with one is said in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import UserError
from lewm_training.data.checks import DatasetError, EpisodeError, refuse_lfs_pointer

Rows = int | slice | NDArray[np.int64]

NUMBERS = "fiub"
"""Kinds of types that are numbers."""

INCOMPLETE = "incomplete"
"""Attribute of a file of this project that is being written."""

NAMES_SHOWN = 20


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """A file opened for reading.

    Raises:
        DatasetError: it is missing, a folder, cut short, no HDF5, or was never finished.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if not path.exists():
            raise DatasetError(f"{path}: no such file; `lewm collect` and `lewm import` write one") from None
        if path.is_dir():
            raise DatasetError(f"{path}: is a folder, expected an HDF5 file{_import_hint(path)}") from None
        refuse_lfs_pointer(path)
        raise DatasetError(f"{path}: not a whole HDF5 file ({_one_line(error)}){_import_hint(path)}") from None
    with file:
        with damage_named(path):
            if INCOMPLETE in file.attrs:
                raise DatasetError(f"{path}: was never finished; run the command that writes it again")
        yield file


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """What h5py raises inside, where a file is looked through, becomes a DatasetError.

    Raises:
        DatasetError: the file is damaged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file leads h5py anywhere
        raise DatasetError(f"{path}: is damaged ({_one_line(error)})") from None


def find_column(file: h5py.File, name: str) -> h5py.Dataset | None:
    """The member that is an array of numbers with a row per control step, or might be; None if there is none."""
    member = file.get(name)
    is_column = isinstance(member, h5py.Dataset) and member.shape and member.dtype.kind in NUMBERS
    return member if is_column else None


def require_column(file: h5py.File, name: str, hint: str = "") -> h5py.Dataset:
    """As `find_column`.

    Raises:
        DatasetError: there is none; `hint` follows.
    """
    column = find_column(file, name)
    if column is not None:
        return column
    names = list(file)
    kind = "is no column of numbers" if name in file else "is missing"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    raise DatasetError(f"{file.filename}: column '{name}' {kind}; found {', '.join(names[:NAMES_SHOWN])}{more}{hint}")


class StoredColumn:
    """A column (N, ...) that stays in its file, indexed by rows as an array is; what is read is a copy."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._column = h5py.File(path, "r")[name]
        self.shape: tuple[int, ...] = self._column.shape
        self.dtype: np.dtype[Any] = self._column.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> NDArray[Any]:
        """Rows of the column.

        Raises:
            EpisodeError: they cannot be read.
        """
        numbers = row_numbers(rows, len(self))
        wanted, place = np.unique(numbers, return_inverse=True)
        if not len(wanted):
            return np.empty((*numbers.shape, *self.shape[1:]), self.dtype)
        run = wanted[-1] - wanted[0] == len(wanted) - 1
        try:
            values = self._column[wanted[0] : wanted[-1] + 1] if run else self._column[wanted]  # a slice reads faster
        except Exception as error:  # a damaged file leads h5py anywhere
            hint = "; pip install hdf5plugin" if "filter" in str(error) else ""
            where = f"{self._path}: column '{self._name}'"
            raise EpisodeError(f"{where} cannot be read ({_one_line(error)}){hint}") from None
        return values[place.reshape(numbers.shape)]


def row_numbers(rows: Rows, count: int) -> NDArray[np.int64]:
    """The numbers of the rows that an index means, each from 0 to below `count`."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(count))
    numbers = np.asarray(rows)
    if numbers.size and not -count <= numbers.min() <= numbers.max() < count:
        raise IndexError(f"rows from {numbers.min()} to {numbers.max()}, there are {count}")
    return np.where(numbers < 0, numbers + count, numbers)


def _import_hint(path: Path) -> str:
    """How to import what is given in place of a dataset."""
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    recorded = any(name.endswith((".mcap", ".db3")) or name == "metadata.yaml" for name in names)
    source = "rosbag" if recorded else "lerobot" if "meta" in names else "lerobot|rosbag" if path.is_dir() else ""
    return f"; import it first: lewm import --from {source} {path} --out DATASET.h5 --config YAML" if source else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
