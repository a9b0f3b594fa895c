"""What a mutation is, and damage that any file can take."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.random import Generator

from lewm_training.data import EpisodeDataset

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22\nsize 12345\n"

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 0.5, -0.0, 1e308, 1e-300, float("nan"), float("inf"),
    "", "x", "0", "nan", "../..", "{chunk_index", "\u00e9\u4e2d", "x" * 5000, [], [None], [1, "2"], [[]], {}, {"x": 1},
)  # fmt: skip
"""For a place in JSON or YAML, whatever it should hold."""


@dataclass(frozen=True)
class Mutation:
    """A way to spoil a good source.

    Args:
        apply: changes the source at the path in place.
        spoils_values: rows may come out unreadable, because what the source says is another number now, and nothing in
            it tells. They may still not be those of other rows.
        harmless: the import must give all rows all the same.
    """

    apply: Callable[[Path, Generator], None]
    spoils_values: bool = False
    harmless: bool = False

    @property
    def kind(self) -> str:
        """What it is called."""
        return self.apply.__name__.replace("_", " ")


@dataclass(frozen=True)
class Source:
    """A good file or folder, and what `--config` says of it."""

    name: str
    path: Path
    config: Path


@dataclass(frozen=True)
class Format:
    """A format of `lewm import`.

    Args:
        name: as in `--from`.
        write_sources: writes good sources into a folder.
        mutations: of them.
        check: of a dataset, the mutated source that it was imported from, and whether all values must be readable;
            raises WrongRow.
        rows: of a whole import of each source, by its name.
    """

    name: str
    write_sources: Callable[[Path], list[Source]]
    mutations: Sequence[Mutation]
    check: Callable[[EpisodeDataset, Path, bool], None]
    rows: dict[str, list[int]]


def choose(rng: Generator, options: Sequence[Any]) -> Any:
    """One of the options as it is; numpy's own choice makes arrays of them."""
    return options[rng.integers(len(options))]


def choose_file(path: Path, rng: Generator) -> Path:
    """A file of the source."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return choose(rng, files)


def bytes_flipped(path: Path, rng: Generator) -> None:
    file = choose_file(path, rng)
    data = bytearray(file.read_bytes())
    for place in rng.integers(len(data), size=choose(rng, (1, 2, 8, 64))):
        data[place] ^= 1 << rng.integers(8)
    file.write_bytes(data)


def bytes_of_a_head_or_tail_flipped(path: Path, rng: Generator) -> None:
    """Where most formats say what they hold."""
    file = choose_file(path, rng)
    data = bytearray(file.read_bytes())
    for _ in range(choose(rng, (1, 2, 8))):
        place = rng.integers(min(len(data), 512))
        data[choose(rng, (place, -1 - place))] = choose(rng, (0, 1, 127, 128, 255, rng.integers(256)))
    file.write_bytes(data)


def bytes_cut(path: Path, rng: Generator) -> None:
    file = choose_file(path, rng)
    data = file.read_bytes()
    file.write_bytes(data[: rng.integers(len(data))])


def bytes_zeroed(path: Path, rng: Generator) -> None:
    file = choose_file(path, rng)
    data = bytearray(file.read_bytes())
    start, length = rng.integers(len(data)), _odd_length(rng)
    data[start : start + length] = bytes(len(data[start : start + length]))
    file.write_bytes(data)


def bytes_repeated(path: Path, rng: Generator) -> None:
    file = choose_file(path, rng)
    data = file.read_bytes()
    start, length = rng.integers(len(data)), _odd_length(rng)
    file.write_bytes(data[: start + length] + data[start:])


def bytes_left_out(path: Path, rng: Generator) -> None:
    file = choose_file(path, rng)
    data = file.read_bytes()
    start, length = rng.integers(len(data)), _odd_length(rng)
    file.write_bytes(data[:start] + data[start + length :])


def file_replaced(path: Path, rng: Generator) -> None:
    """By nothing, a folder, a pointer of git LFS, a text, a picture's beginning, an archive's, another file of it."""
    file = choose_file(path, rng)
    other = choose_file(path, rng).read_bytes()
    contents = (
        None,
        "folder",
        b"",
        LFS_POINTER.encode(),
        b"<html>404</html>",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        other,
    )
    content = choose(rng, contents)
    if content == other and file == path:
        content = b"\0" * 4096
    file.unlink()
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)


DAMAGE = (
    Mutation(bytes_flipped, spoils_values=True),
    Mutation(bytes_of_a_head_or_tail_flipped, spoils_values=True),
    Mutation(bytes_cut),
    Mutation(bytes_zeroed, spoils_values=True),
    Mutation(bytes_repeated, spoils_values=True),
    Mutation(bytes_left_out, spoils_values=True),
    Mutation(file_replaced),
)


def copy_source(source: Path, to: Path) -> None:
    """Copy a file or folder, in the place of whatever is there."""
    if to.is_dir():
        shutil.rmtree(to)
    to.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, to)
    else:
        shutil.copy2(source, to)


def _odd_length(rng: Generator) -> int:
    """Shorter than a frame and odd: whole rows that move cannot be told where a format has no checksums."""
    return 2 * int(rng.integers(512)) + 1
