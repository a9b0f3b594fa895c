"""MCAP files for tests, written record by record (https://mcap.dev/spec), also with odd channels."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import lz4.frame
from recordings import TYPES, Message

from lewm_training.data.formats.rosbag_mcap import zstd

MAGIC = b"\x89MCAP0\r\n"
COMPRESS = {"": bytes, "lz4": lz4.frame.compress, "zstd": zstd.compress}


@dataclass(frozen=True)
class Odd:
    """A channel that no row needs, and the data of its messages."""

    topic: str
    kind: str
    definition_format: str = "ros2msg"
    definition: bytes = b""
    encoding: str = "cdr"
    data: bytes = b"\0\1\0\0"


@dataclass(frozen=True)
class Layout:
    """How messages are laid into the file. Chunks hold every so many messages, so that their times overlap."""

    chunks: int = 2
    compression: str = ""
    summary: bool = True
    checksums: bool = True


def ros2msg(kind: str) -> tuple[str, str]:
    """Format and text of a type's definition, as ROS 2 records it."""
    return "ros2msg", TYPES.generate_msgdef(kind, ros_version=2)[0]


def write_mcap(
    path: Path,
    messages: Iterable[Message],
    layout: Layout = Layout(),
    odd: Sequence[Odd] = (),
    define: Callable[[str], tuple[str, str]] = ros2msg,
) -> Path:
    """Write the messages, and one of every odd channel at the first one's time.

    Args:
        path: of the file.
        messages: in any order.
        layout: of the file.
        odd: further channels.
        define: gives format and text of the definition of a type.
    """
    messages = sorted(messages, key=lambda entry: entry[1])
    described, records, numbers = b"", [], {}
    for topic, received_ns, message in messages:
        kind = message.__msgtype__
        if topic not in numbers:
            numbers[topic] = len(numbers) + 1
            definition_format, text = define(kind)
            described += channel(numbers[topic], Odd(topic, kind, definition_format, text.encode()))
        records.append(stored(numbers[topic], received_ns, bytes(TYPES.serialize_cdr(message, kind))))
    for number, other in enumerate(odd, start=len(numbers) + 1):
        described += channel(number, other)
        records.insert(0, stored(number, messages[0][1], other.data))
    content = MAGIC + record(0x01, text_of("ros2") + text_of("test"))
    if layout.chunks:
        begin_ns = messages[0][1]
        for index in range(layout.chunks):
            inside = described + b"".join(records[index :: layout.chunks])
            content += chunk(inside, begin_ns, layout)
    else:
        content += described + b"".join(records)
    content += record(0x0F, bytes(4))
    content += described if layout.summary else b""
    path.write_bytes(content + record(0x02, bytes(20)) + MAGIC)
    return path


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def text_of(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(data)) + data


def channel(number: int, other: Odd) -> bytes:
    """A schema and a channel of the same number."""
    schema = (
        struct.pack("<H", number) + text_of(other.kind) + text_of(other.definition_format) + text_of(other.definition)
    )
    fields = struct.pack("<HH", number, number) + text_of(other.topic) + text_of(other.encoding) + text_of(b"")
    return record(0x03, schema) + record(0x04, fields)


def stored(number: int, received_ns: int, data: bytes) -> bytes:
    return record(0x05, struct.pack("<HIQQ", number, 0, received_ns, received_ns) + data)


def chunk(inside: bytes, begin_ns: int, layout: Layout) -> bytes:
    packed = COMPRESS[layout.compression](inside)
    checksum = crc32(inside) if layout.checksums else 0
    head = struct.pack("<QQQI", begin_ns, begin_ns, len(inside), checksum) + text_of(layout.compression)
    return record(0x06, head + struct.pack("<Q", len(packed)) + packed)
