"""SQLite files of rosbag2: their channels, and the messages of those that are wanted."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from lewm_training.data.formats.rosbag_channels import StorageError, StoredMessage, TopicChannel

MAGIC = b"SQLite format 3\0"


class SqliteFile:
    """A SQLite file opened for reading.

    Args:
        path: of the file.

    Raises:
        StorageError: it is damaged, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        self._database.text_factory = lambda text: text.decode(errors="replace")
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def messages(self, channels: Collection[int]) -> Iterator[StoredMessage]:
        """The messages of some channels, in the order of reception."""
        wanted = ", ".join("?" * len(channels))
        query = (
            "SELECT topic_id, CAST(timestamp AS INTEGER), CAST(data AS BLOB) FROM messages "
            f"WHERE topic_id IN ({wanted}) ORDER BY timestamp, id"
        )
        return (StoredMessage(*row) for row in self._database.execute(query, tuple(channels)))

    def _index(self) -> None:
        tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise StorageError("the tables of rosbag2 are missing")
        definitions: dict[str, tuple[str, str]] = {}
        if "message_definitions" in tables:  # since ROS 2 Iron
            query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            definitions = {kind: (encoding, text) for kind, encoding, text in self._database.execute(query)}
        self.channels = {
            number: TopicChannel(topic, encoding, kind, *definitions.get(kind, ("", "")))
            for number, topic, kind, encoding in self._database.execute(
                "SELECT id, name, type, serialization_format FROM topics"
            )
        }
        self.counts = dict(self._database.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
