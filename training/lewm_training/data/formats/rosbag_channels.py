"""What a recording's file holds, whatever its format."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class StorageError(Exception):
    """A file that cannot be read; the message says why."""


@dataclass(frozen=True)
class TopicChannel:
    """A topic with one type of messages: how they are encoded (`cdr`), and how their type is defined."""

    topic: str
    encoding: str
    kind: str
    definition_format: str
    definition: str


class StoredMessage(NamedTuple):
    """A message as it was recorded, and when (ns)."""

    channel: int
    received_ns: int
    data: bytes


class Storage(Protocol):
    """A file of a recording, opened for reading."""

    channels: dict[int, TopicChannel]
    counts: dict[int, int]
    """Messages by channel, as far as they are known."""

    def messages(self, channels: Collection[int]) -> Iterator[StoredMessage]:
        """The messages of some channels, in the order of reception."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
