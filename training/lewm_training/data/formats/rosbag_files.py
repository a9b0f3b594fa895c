"""Recordings on disk: rosbag2 folders, or single MCAP and SQLite files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from lewm_training.data import DatasetError

METADATA = "metadata.yaml"
STORAGE = (".mcap", ".db3")


def find_bags(source: Path) -> list[Path]:
    """The recordings in a folder, in the order of their names; `source` itself if it is one.

    Raises:
        DatasetError: there are none.
    """
    if source.suffix in STORAGE or (source / METADATA).exists():
        return [source]
    folders = [file.parent for file in source.rglob(METADATA)]
    files = [file for file in source.rglob("*") if file.suffix in STORAGE and file.parent not in folders]
    if not folders and not files:
        raise DatasetError(f"{source}: no recording; expected rosbag2 folders ({METADATA}) or {' or '.join(STORAGE)}")
    return sorted(folders + files)


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """A recording opened for reading.

    Raises:
        DatasetError: it cannot be read.
    """
    # Recordings of ROS 2 Humble and before hold no message definitions; those of the standard types have not changed.
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
        reader.open()
    except Exception as error:  # of storage, compression or parsing: a damaged file raises any kind
        raise DatasetError(
            f"{path}: not a readable recording ({_line(error)}); `ros2 bag reindex` may mend it"
        ) from None
    try:
        yield reader
    finally:
        reader.close()


def read_messages(reader: AnyReader, topics: Collection[str], path: Path) -> Iterator[tuple[str, Any, int]]:
    """Topic, message and time of reception (ns) of every message of the topics, in the order of reception.

    Raises:
        DatasetError: the file is damaged.
    """
    connections = [connection for connection in reader.connections if connection.topic in topics]
    total = sum(connection.msgcount for connection in connections)
    try:
        for connection, received_ns, data in tqdm(
            reader.messages(connections), total=total, desc=path.name, unit="message"
        ):
            yield connection.topic, reader.deserialize(data, connection.msgtype), received_ns
    except Exception as error:  # as above
        raise DatasetError(f"{path}: damaged ({_line(error)}); `ros2 bag reindex` may mend it") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
