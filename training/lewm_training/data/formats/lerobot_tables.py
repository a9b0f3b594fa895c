"""Columns of Parquet files as arrays; what does not fit is named with its row."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lewm_training.data import EpisodeError
from lewm_training.data.checks import refuse_lfs_pointer

LONGEST_REASON = 120
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)


def read_table(path: Path, names: Sequence[str], episode: int | None = None) -> pa.Table:
    """Read columns of a file, all rows or those of an episode.

    Raises:
        EpisodeError: there is no such file or column, or it cannot be read.
        DatasetError: the file is a Git LFS pointer.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, also of a name too long
        raise EpisodeError(f"{short(path)}: no such file")
    refuse_lfs_pointer(path)
    filters = None if episode is None else [("episode_index", "=", episode)]
    with _reading(path):
        found = pq.read_schema(path).names
        for name in names if episode is None else (*names, "episode_index"):
            if found.count(name) != 1:
                raise EpisodeError(f"{path}: has {found.count(name) or 'no'} column '{name}', expected one")
        return pq.read_table(
            path, columns=list(names), filters=filters, partitioning=None, page_checksum_verification=True
        )


def column_names(path: Path) -> list[str]:
    """The columns of a file that `read_table` can read; none if it cannot."""
    try:
        return pq.read_schema(path).names
    except (OSError, ValueError, pa.ArrowException):
        return []


def to_rows(table: pa.Table, path: Path) -> list[dict[str, Any]]:
    """The rows of a table as Python's own types.

    Raises:
        EpisodeError: a value has none, such as text that is not UTF-8.
    """
    with _reading(path):
        return table.to_pylist()


def to_array(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """A column of numbers (rows,), or of equally long lists of them (rows, K), nested lists one after the other.

    Raises:
        EpisodeError: a number is missing, a list is longer than the first, or these are no numbers; names the row.
    """
    values, rows, per_row = _plain(column.combine_chunks()), len(column), 1
    _refuse_nulls(values, name, per_row)
    while any(is_list(values.type) for is_list in LISTS):
        sizes = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        ragged = np.flatnonzero(sizes != sizes[:1])
        if len(ragged):
            reason = f"{name} has {sizes[ragged[0]]} numbers, the first row has {sizes[0]},"
            raise EpisodeError(reason, int(ragged[0]) // per_row)
        per_row *= int(sizes[0]) if rows and per_row else 0
        values = _plain(values.flatten())
        _refuse_nulls(values, name, per_row)
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    if not any(is_number(values.type) for is_number in NUMBERS):
        raise EpisodeError(f"{name} holds {short(values.type)}, expected numbers")
    if rows and not per_row:
        raise EpisodeError(f"{name} has no numbers", 0)
    array = values.to_numpy(zero_copy_only=False)
    return array if per_row == 1 or not rows else array.reshape(rows, per_row)


def short(words: object) -> str:
    """The first line of a library's message, cut to what fits into a line."""
    line = next(iter(str(words).splitlines()), "") or type(words).__name__
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of the library are the episode's."""
    try:
        yield
    except EpisodeError:
        raise
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise EpisodeError(f"{path}: cannot be read ({short(error)})") from None


def _plain(values: pa.Array) -> pa.Array:
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _refuse_nulls(values: pa.Array, name: str, per_row: int) -> None:
    if values.null_count:
        place = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise EpisodeError(f"{name} is null", place // per_row)
