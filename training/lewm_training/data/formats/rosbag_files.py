"""Recordings on disk: rosbag2 folders, or single MCAP and SQLite files."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

from tqdm import tqdm

from lewm_ros.config import ConfigError, read_yaml
from lewm_ros.observation.stamps import NS_PER_S
from lewm_training.data import DatasetError
from lewm_training.data.formats import rosbag_mcap, rosbag_sqlite
from lewm_training.data.formats.rosbag_channels import Storage, StoredMessage, TopicChannel
from lewm_training.data.formats.rosbag_mcap import McapFile, zstd
from lewm_training.data.formats.rosbag_sqlite import SqliteFile
from lewm_training.data.formats.rosbag_types import deserialize

METADATA = "metadata.yaml"
ENDINGS = (".mcap", ".db3")
MISTAKEN_ENDINGS = (".bag", ".mcap.zstd", ".db3.zstd")
"""Of what people expect to be read; it is called by its name."""

KINDS: dict[bytes, type[McapFile | SqliteFile]] = {rosbag_mcap.MAGIC: McapFile, rosbag_sqlite.MAGIC: SqliteFile}
"""Formats, by how their files begin."""

OTHERS = {
    b"#ROSBAG": "a ROS 1 bag; `rosbags-convert --src FILE --dst FOLDER` makes a ROS 2 recording of it",
    b"version https://git-lfs": "a Git LFS pointer and not the file itself; `git lfs pull` fetches it",
    b"\x28\xb5\x2f\xfd": "compressed; `zstd -d FILE` unpacks it",
}
"""What is often taken for a recording, by how it begins, and what to do."""

LONGEST_REASON = 300
"""Characters: what a damaged file is said to hold may be of any length."""

MENDING = {
    McapFile: "`mcap recover FILE --output NEW` saves what is whole",
    SqliteFile: "`sqlite3 FILE .recover | sqlite3 NEW` saves what is whole",
}


def find_bags(source: Path) -> list[Path]:
    """The recordings in a folder, in the order of their names; `source` itself if it is one.

    Raises:
        DatasetError: there are none.
    """
    if source.is_file() or (source / METADATA).exists():
        return [source]
    if not source.exists():
        raise DatasetError(f"{source}: no such file or folder")
    folders = [file.parent for file in source.rglob(METADATA)]
    files = [
        file
        for file in source.rglob("*")
        if file.name.endswith(ENDINGS + MISTAKEN_ENDINGS) and file.is_file() and file.parent not in folders
    ]
    if not folders and not files:
        raise DatasetError(f"{source}: no recording; expected rosbag2 folders ({METADATA}) or {' or '.join(ENDINGS)}")
    return sorted(folders + files)


def files_of(bag: Path) -> list[Path]:
    """The files that a recording consists of, for telling whether they have changed."""
    return sorted(file for file in bag.iterdir() if file.is_file()) if bag.is_dir() else [bag]


class Bag:
    """A recording opened for reading; several files follow one another.

    Args:
        storages: its files, with their paths.
        zstd_messages: every message is compressed by itself.
    """

    def __init__(self, storages: Sequence[tuple[Path, Storage]], zstd_messages: bool) -> None:
        self._storages, self._zstd_messages = storages, zstd_messages

    @property
    def channels(self) -> dict[str, list[TopicChannel]]:
        """The different channels of every topic."""
        topics: dict[str, list[TopicChannel]] = {}
        for channel in dict.fromkeys(channel for _, storage in self._storages for channel in storage.channels.values()):
            topics.setdefault(channel.topic, []).append(channel)
        return topics

    def messages(self, topics: Collection[str], name: str) -> Iterator[tuple[str, Any, int]]:
        """Topic, message and time of reception (ns) of every message of the topics, in the order of reception.

        Args:
            topics: of standard types.
            name: of the recording, for the progress bar.

        Raises:
            DatasetError: a file is damaged.
        """
        total = sum(
            storage.counts.get(number, 0)
            for _, storage in self._storages
            for number, channel in storage.channels.items()
            if channel.topic in topics
        )
        with tqdm(total=total or None, desc=name, unit="message") as progress:
            for path, storage in self._storages:
                wanted = {number: channel for number, channel in storage.channels.items() if channel.topic in topics}
                for number, received_ns, data in _stored(path, storage, wanted):
                    progress.update()
                    topic, kind = wanted[number].topic, wanted[number].kind
                    try:
                        message = deserialize(zstd.decompress(data) if self._zstd_messages else data, kind)
                    except (ValueError, zstd.ZstdError) as error:
                        raise DatasetError(
                            f"{path}: {topic}: the message received at {received_ns / NS_PER_S:.3f} s: {_line(error)}"
                        ) from None
                    yield topic, message, received_ns


def _stored(path: Path, storage: Storage, wanted: Collection[int]) -> Iterator[StoredMessage]:
    try:
        yield from storage.messages(wanted)
    except Exception as error:  # of SQLite or compression: damaged data raises any kind
        raise _damaged(path, error, type(storage)) from None


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """A recording opened for reading.

    Raises:
        DatasetError: it cannot be read.
    """
    with ExitStack() as stack:
        zstd_messages, files, unpacked = False, [path], []
        if path.is_dir():
            zstd_files, zstd_messages, files = _read_metadata(path)
            if zstd_files:
                folder = Path(stack.enter_context(TemporaryDirectory()))
                unpacked = [_unpack(file, folder / file.stem) for file in files]
        storages = []
        for name, file in zip(files, unpacked or files, strict=True):
            storage = _open(file, name)
            stack.callback(storage.close)
            storages.append((name, storage))
        yield Bag(storages, zstd_messages)


def _open(path: Path, name: Path) -> Storage:
    """A file of a recording, of which errors speak as `name`."""
    if not path.is_file():
        raise DatasetError(f"{name}: is no file")
    kind = next((kind for magic, kind in KINDS.items() if _begins(path, magic)), None)
    if kind is None:
        what = "empty" if not path.stat().st_size else "neither an MCAP nor a SQLite file"
        raise DatasetError(f"{name}: {_other(path) or what}")
    try:
        return kind(path)
    except Exception as error:  # of SQLite, compression or parsing: damaged data raises any kind
        raise _damaged(name, error, kind) from None


def _read_metadata(folder: Path) -> tuple[bool, bool, list[Path]]:
    """Whether the files, or every message in them, are compressed by zstd, and which files there are."""
    mending = f"`ros2 bag reindex {folder}` writes {METADATA} anew"
    try:
        content = read_yaml(folder / METADATA)["rosbag2_bagfile_information"]
        files = [folder / Path(name).name for name in content["relative_file_paths"]]
        mode, method = str(content.get("compression_mode") or "none").lower(), content.get("compression_format")
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{folder / METADATA}: cannot be read ({_line(error)}); {mending}") from None
    missing = [file.name for file in files if not file.exists()]
    if missing or not files:
        raise DatasetError(f"{folder}: {METADATA} names {', '.join(missing) or 'no file'}, not there; {mending}")
    if mode not in ("none", "file", "message") or (mode != "none" and method != "zstd"):
        raise DatasetError(f"{folder}: compressed by '{method}' ({mode}); zstd can be read")
    return mode == "file", mode == "message", files


def _unpack(packed: Path, path: Path) -> Path:
    try:
        with zstd.open(packed) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (zstd.ZstdError, EOFError) as error:
        raise DatasetError(f"{packed}: damaged ({_line(error)})") from None
    return path


def _other(path: Path) -> str:
    """What a file is that cannot be read as it is, and what to do; empty if that is not known."""
    return next((what.replace("FILE", str(path)) for magic, what in OTHERS.items() if _begins(path, magic)), "")


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _damaged(path: Path, error: Exception, kind: type) -> DatasetError:
    return DatasetError(f"{path}: {_line(error)}; {MENDING[kind].replace('FILE', str(path))}")


def _line(error: Exception) -> str:
    return shorten(str(error), LONGEST_REASON) or type(error).__name__
