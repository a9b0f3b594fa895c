"""MCAP files (https://mcap.dev/spec): their channels, and the messages of those that are wanted.

Nothing is asked of channels that are not wanted: they may hold JSON or protobuf, or be described by anything.
"""

from __future__ import annotations

import heapq
import io
import struct
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from lewm_training.data.formats.rosbag_channels import StorageError, StoredMessage, TopicChannel

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, STATISTICS = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0B
LAST_OPCODE = 0x0F
FROM_CUSTOM = 0x80
"""Records of other programs begin here."""

RECORD_HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")
DECOMPRESS = {"": bytes, "lz4": lz4.frame.decompress, "zstd": zstd.decompress}


@dataclass(frozen=True)
class Record:
    """Where the content of a record lies."""

    opcode: int
    begin: int
    length: int


class McapFile:
    """An MCAP file opened for reading.

    Args:
        path: of the file.

    Raises:
        StorageError: it is cut off or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._blocks: list[tuple[int, Record]] = []  # chunks and lone messages, with the time at which they begin
        self.channels: dict[int, TopicChannel] = {}
        self.counts: dict[int, int] = {}
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, channels: Collection[int]) -> Iterator[StoredMessage]:
        """The messages of some channels, in the order of reception.

        Raises:
            StorageError: a part of the file is damaged.
        """
        waiting: list[tuple[int, int, int, bytes]] = []
        number = 0
        for begin_ns, block in sorted(self._blocks, key=lambda entry: entry[0]):
            while waiting and waiting[0][0] < begin_ns:
                received_ns, _, channel, data = heapq.heappop(waiting)
                yield StoredMessage(channel, received_ns, data)
            for content in self._messages_of(block):
                channel, _, received_ns, _ = MESSAGE_HEAD.unpack_from(content)
                if channel in channels:
                    heapq.heappush(waiting, (received_ns, number, channel, content[MESSAGE_HEAD.size :]))
                    number += 1
        while waiting:
            received_ns, _, channel, data = heapq.heappop(waiting)
            yield StoredMessage(channel, received_ns, data)

    def _index(self) -> None:
        """Note the channels, and where the messages lie."""
        self._file.seek(len(MAGIC))
        for record in records(self._file):
            if record.opcode in (SCHEMA, CHANNEL, STATISTICS):
                self._describe(record.opcode, self._content(record))
            elif record.opcode == CHUNK:
                (begin_ns,) = struct.unpack("<Q", self._file.read(8))
                self._blocks.append((begin_ns, record))
            elif record.opcode == MESSAGE:
                _, _, received_ns, _ = MESSAGE_HEAD.unpack(self._file.read(MESSAGE_HEAD.size))
                self._blocks.append((received_ns, record))
        if not self.channels:  # they are not repeated behind the chunks
            for chunk in (block for _, block in self._blocks if block.opcode == CHUNK):
                content = io.BytesIO(self._unpack(chunk))
                for record in records(content, whole_file=False):
                    if record.opcode in (SCHEMA, CHANNEL):
                        content.seek(record.begin)
                        self._describe(record.opcode, content.read(record.length))

    def _describe(self, opcode: int, content: bytes) -> None:
        """Take in a schema, a channel or the statistics."""
        fields = io.BytesIO(content)
        if opcode == SCHEMA:
            (number,) = struct.unpack("<H", fields.read(2))
            self._schemas[number] = _text(fields), _text(fields), _text(fields)
        elif opcode == CHANNEL:
            number, schema = struct.unpack("<HH", fields.read(4))
            topic, encoding = _text(fields), _text(fields)
            self.channels[number] = TopicChannel(topic, encoding, *self._schemas.get(schema, ("", "", "")))
        else:
            fields.seek(42)
            self.counts = dict(struct.iter_unpack("<HQ", _sized(fields)))

    def _messages_of(self, block: Record) -> Iterator[bytes]:
        """The contents of the message records in a block."""
        if block.opcode == MESSAGE:
            yield self._content(block)
            return
        content = self._unpack(block)
        for record in records(io.BytesIO(content), whole_file=False):
            if record.opcode == MESSAGE:
                yield content[record.begin : record.begin + record.length]

    def _unpack(self, chunk: Record) -> bytes:
        """The records in a chunk."""
        fields = io.BytesIO(self._content(chunk))
        _, _, size, checksum = CHUNK_HEAD.unpack(fields.read(CHUNK_HEAD.size))
        compression = _text(fields)
        if compression not in DECOMPRESS:
            raise StorageError(f"chunks are compressed by '{compression}'; known are lz4 and zstd")
        (packed,) = struct.unpack("<Q", fields.read(8))
        content = DECOMPRESS[compression](fields.read(packed))
        if len(content) != size or (checksum and crc32(content) != checksum):
            raise StorageError(f"the chunk at byte {chunk.begin} is damaged")
        return content

    def _content(self, record: Record) -> bytes:
        self._file.seek(record.begin)
        return self._file.read(record.length)


def records(file: BinaryIO, whole_file: bool = True) -> Iterator[Record]:
    """The records from where the file stands up to its footer, or inside a chunk up to its end.

    Between two of them, the file stands where the content of the first begins, and may be moved.

    Raises:
        StorageError: the file is cut off, or holds something else.
    """
    position = file.tell()
    end = file.seek(0, io.SEEK_END)
    while whole_file or position < end:
        file.seek(position)
        head = file.read(RECORD_HEAD.size)
        if len(head) < RECORD_HEAD.size:
            raise StorageError(f"cut off at byte {end}")
        opcode, length = RECORD_HEAD.unpack(head)
        begin = position + RECORD_HEAD.size
        if opcode == 0 or LAST_OPCODE < opcode < FROM_CUSTOM:
            raise StorageError(f"no record at byte {position}")
        if begin + length > end:
            raise StorageError(f"cut off at byte {end}")
        yield Record(opcode, begin, length)
        if opcode == FOOTER and whole_file:
            return
        position = begin + length


def _sized(fields: BinaryIO) -> bytes:
    (length,) = struct.unpack("<I", fields.read(4))
    return fields.read(length)


def _text(fields: BinaryIO) -> str:
    return _sized(fields).decode(errors="replace")
