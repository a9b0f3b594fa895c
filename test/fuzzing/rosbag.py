"""Recordings of rosbag2, and what can be wrong with them."""

from __future__ import annotations

import contextlib
import copy
import math
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import recordings as ros
import yaml
from numpy.random import Generator
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.writer import CompressionFormat, CompressionMode

from fuzzing import marks
from fuzzing.marks import WrongRow
from fuzzing.mutation import DAMAGE, LFS_POINTER, ODD_VALUES, Format, Mutation, Source, choose
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.robot.arm import PANDA
from lewm_training.data import EpisodeDataset

IMAGE, WRIST, JOINTS, COMMAND, GRIPPER = "/image", "/wrist", "/joint_states", "/command", "/gripper"
STRETCHES_S = ((0.0, 0.6), (1.2, 1.8))
"""Between them nothing is recorded: each gives an episode."""

STRETCH_ROWS = [12, 12]
JOINT_HZ = 40
MAX_AGE_S = 0.2
PAIR_TOLERANCE_S = 0.025
WRIST_LATER_S = 0.005
MAGIC_BYTES = 8
"""At the beginning and at the end of an MCAP file."""

DECLARED = {
    "image": IMAGE,
    "joint_states": JOINTS,
    "joint_names": list(PANDA.joint_names),
    "limit": [marks.LIMIT_RAD] * 7,
    "control_hz": marks.HZ,
    "image_size": 16,
    "max_age_s": MAX_AGE_S,
    "min_episode_s": 0.2,
}
TWISTS = {"command": COMMAND, "gripper": GRIPPER, "action_space": "ee_delta", "limit": [0.05] * 6 + [1.0]}
CAMERAS = {"image": "", "cameras": {"scene": IMAGE, "wrist": WRIST}}
SETTINGS = {
    "mcap": {},
    "sqlite": {"command": COMMAND},
    "folder": {"command": COMMAND},
    "twists": TWISTS,
    "cameras": CAMERAS,
}
"""What the sources declare besides."""

ENCODINGS = ("", "x", "mono8", "mono16", "rgba8", "8UC3", "16UC1", "32FC1", "uyvy", "rgb16", "bayer_rggb8", "8UC1000")
FORMATS = ("", "x", "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth", "bayer_rggb8; png compressed bgr8", ";")
"""For images that are rgb8, and for compressed ones that are `png`."""

EVENT = "int64 a\n---\nint64 sum\n"
IDL = "=" * 80 + "\nIDL: a_msgs/msg/Idl\nmodule {"

SQL = (
    "DROP TABLE {table}",
    "DELETE FROM {table}",
    "ALTER TABLE {table} RENAME TO x",
    "UPDATE messages SET data = NULL WHERE id = {id}",
    "UPDATE messages SET data = 'x' WHERE id = {id}",
    "UPDATE messages SET data = 5",
    "UPDATE messages SET timestamp = 'x' WHERE id = {id}",
    "UPDATE messages SET timestamp = -timestamp WHERE id = {id}",
    "UPDATE messages SET timestamp = NULL",
    "UPDATE messages SET topic_id = {id}",
    "UPDATE messages SET topic_id = 99 WHERE id = {id}",
    "UPDATE topics SET type = 'x/msg/Y' WHERE id = {topic}",
    "UPDATE topics SET type = NULL WHERE id = {topic}",
    "UPDATE topics SET name = '/x' WHERE id = {topic}",
    "UPDATE topics SET serialization_format = 'x'",
    "UPDATE topics SET name = '/image'",
    "DELETE FROM topics WHERE id = {topic}",
    "UPDATE topics SET offered_qos_profiles = '['",
    "UPDATE topics SET id = id + 7",
    "UPDATE schema SET schema_version = 99",
    "UPDATE message_definitions SET encoded_message_definition = 'x y z'",
    "UPDATE message_definitions SET topic_type = 'x'",
    "DELETE FROM messages WHERE id % 2",
    "UPDATE messages SET timestamp = 1e300 WHERE id = {id}",
)
"""Changes of the storage of SQLite that it lets pass, or refuses."""

JOINT_SIGNS = np.array([1.0, -1.0, 0.5, 1.0, -0.5, -1.0, 0.25])

Times = dict[str, list[tuple[int, int]]]
"""By topic the times (ns) of messages and their numbers."""


@dataclass(frozen=True)
class Entry:
    """A message of a recording, written as `data` if there is any; `definition` describes a type that is not ROS's."""

    topic: str
    received_ns: int
    kind: str
    message: Any = None
    data: bytes | None = None
    definition: str = ""
    encoding: str = "cdr"


def measured(number: int) -> NDArray[np.float64]:
    """Joint positions (7,) that the joint state of a number says."""
    return 0.1 + 0.005 * number * JOINT_SIGNS


def commanded(number: int) -> NDArray[np.float64]:
    """Joint positions (7,) of the command of a number; each differs from the one before by what no other does."""
    return 0.1 + 0.0005 * number * (number + 1) / 2 * JOINT_SIGNS


MEASURED, COMMANDED = (np.stack([make(k) for k in range(2 * JOINT_HZ)]) for make in (measured, commanded))
"""Of every number that a recording may hold."""


PICTURES = {ros.compressed(0, marks.frame(number)).data.tobytes(): number for number in range(2 * marks.HZ)}
"""Numbers of frames by their bytes in compressed images."""


def twist(number: int) -> list[float]:
    """Of a number: m/s and rad/s."""
    return [0.01 * (number + 1), -0.01 * (number + 1), 0.1, 0.0, 0.0, 0.0]


def gripper(number: int) -> float:
    """From -1 to 1."""
    return number / 100.0


def write_sources(folder: Path) -> list[Source]:
    """MCAP and SQLite, raw and compressed, with each kind of command and without, and a folder of two recordings."""
    sources = []
    for name, settings in SETTINGS.items():
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(DECLARED | settings), encoding="utf-8")
        path = folder / name
        for bag in folders(path):
            write(bag, entries(bag.name))
        sources.append(Source(name, path, config))
    return sources


def entries(bag: str) -> list[Entry]:
    """The messages of the good recording of a name."""
    found: list[Entry] = []

    def add(topic: str, time_s: float, make: Callable[[int], Any]) -> None:
        time_ns = ros.seconds(time_s)
        message = make(time_ns)
        found.append(Entry(topic, time_ns + ros.LATENCY_NS, message.__msgtype__, message))

    for begin_s, end_s in STRETCHES_S:
        for k in range(round(begin_s * marks.HZ), round(end_s * marks.HZ) + 1):
            picture = marks.frame(k)
            add(IMAGE, k / marks.HZ, lambda t, p=picture: ros.compressed(t, p) if bag == "sqlite" else ros.image(t, p))
            if bag == "cameras":
                add(WRIST, k / marks.HZ + WRIST_LATER_S, lambda t, p=picture: ros.image(t, p))
        for k in range(round(begin_s * JOINT_HZ), round(end_s * JOINT_HZ) + 1):
            add(JOINTS, k / JOINT_HZ, lambda t, k=k: ros.joint_state(t, measured(k)))
        # Commands come between the rows; the first row has one before it.
        for k in range(round(begin_s * marks.HZ) - 1, round(end_s * marks.HZ) + 1):
            time_s, number = k / marks.HZ + 0.01, k + 1
            if bag == "twists":
                add(COMMAND, time_s, lambda t, n=number: ros.twist(t, twist(n)))
                add(GRIPPER, time_s, lambda _, n=number: ros.number(gripper(n)))
            elif bag == "sqlite":
                add(COMMAND, time_s, lambda t, n=number: ros.trajectory(t, [(0.02, commanded(n))]))
            elif bag in ("first", "second"):
                add(COMMAND, time_s, lambda _, n=number: ros.numbers(commanded(n)))
    return sorted(found, key=lambda entry: entry.received_ns)


def write(path: Path, messages: Sequence[Entry]) -> None:
    """Write a rosbag2 folder; its name says which storage it has, and whether that is compressed."""
    storage = StoragePlugin.SQLITE3 if path.name == "sqlite" else StoragePlugin.MCAP
    writer = Writer(path, version=9, storage_plugin=storage)
    if path.name == "second":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connections: dict[tuple[str, str, str], Any] = {}
        for entry in messages:
            key = entry.topic, entry.kind, entry.encoding
            if key not in connections:
                described = (
                    {"msgdef": entry.definition, "rihs01": "x"} if entry.definition else {"typestore": ros.TYPES}
                )
                connections[key] = writer.add_connection(*key[:2], serialization_format=entry.encoding, **described)
            data = ros.TYPES.serialize_cdr(entry.message, entry.kind) if entry.data is None else entry.data
            writer.write(connections[key], entry.received_ns, data)


def folders(path: Path) -> list[Path]:
    """The rosbag2 folders of a source."""
    return [path / "first", path / "second"] if path.name == "folder" else [path]


# What the rows must be.


def check(dataset: EpisodeDataset, source: Path, readable: bool) -> None:
    """Every row holds what its topics said at its time, by their own stamps."""
    said = history(source, readable)
    for episode in range(len(dataset.lengths)):
        rows = dataset.rows(episode)
        begin_ns = dataset.meta["episodes"][episode]["begin_ns"]
        times_ns = [begin_ns + math.ceil(k * NS_PER_S / marks.HZ) for k in range(int(dataset.lengths[episode]) + 1)]
        _check_frames(dataset, rows, times_ns, said[IMAGE], readable)
        if "wrist" in dataset.frames:
            _check_partners(dataset, rows, said[WRIST], readable)
        _check_joints(dataset.columns["proprio"][rows], times_ns, said[JOINTS], readable)
        if said[COMMAND]:
            _check_commands(dataset.columns["action"][rows], times_ns, said, readable)
        else:
            changes = np.diff(dataset.columns["proprio"][rows], axis=0)
            if np.abs(changes - dataset.columns["action"][rows][:-1]).max(initial=0.0) > 1e-5:
                raise WrongRow(f"episode {episode}: actions are not the changes of the joints")


def history(source: Path, readable: bool) -> Times:
    """When which message was said; of a recording whose bytes are damaged also what was said before the damage."""
    said: Times = {topic: [] for topic in (IMAGE, WRIST, JOINTS, COMMAND, GRIPPER)}
    good = [] if readable else [entry for bag in folders(source) for entry in entries(bag.name)]
    for entry in [*read_all(source), *good]:
        number = _number(entry.message) if entry.topic in said else None
        if number is not None:
            stamped = hasattr(entry.message, "header") and stamp_to_ns(entry.message.header.stamp)
            said[entry.topic].append((stamped or entry.received_ns, number))
    return said


def read_all(source: Path) -> Iterator[Entry]:
    """The messages of all recordings of a source; of one whose metadata or end cannot be read also good ones."""
    for bag in folders(source):
        try:
            with Reader(bag) as reader:
                listed = {connection.topic for connection in reader.connections}
                yield from _read(reader)
            yield from (entry for entry in entries(bag.name) if entry.topic not in listed)
        except Exception:  # of storage, compression or parsing: a damaged file raises any kind
            yield from entries(bag.name)


def _read(reader: Reader) -> Iterator[Entry]:
    for connection, received_ns, data in reader.messages():
        with contextlib.suppress(Exception):
            message = ros.TYPES.deserialize_cdr(data, connection.msgtype)
            yield Entry(connection.topic, received_ns, connection.msgtype, message)


def _number(message: Any) -> int | None:
    """Which message this is; None: none that was written."""
    kind = message.__msgtype__.rpartition("/")[2]
    with contextlib.suppress(Exception):
        if kind == "Image":
            return marks.read_frame(message.data.reshape(message.height, message.width, 3))
        if kind == "CompressedImage":
            return PICTURES.get(message.data.tobytes())
        if kind == "JointState":
            order = [message.name.index(name) for name in PANDA.joint_names]
            return _find(message.position[order], MEASURED)
        if kind == "Float64MultiArray":
            return _find(message.data, COMMANDED)
        if kind == "JointTrajectory":
            return _find(message.points[-1].positions[: len(JOINT_SIGNS)], COMMANDED)
        if kind == "TwistStamped":
            return round(100.0 * message.twist.linear.x) - 1
        if kind == "Float64":
            return round(100.0 * message.data)
    return None


def _find(values: NDArray[np.floating], table: NDArray[np.float64]) -> int | None:
    return marks.nearest(np.asarray(values)[None], table, 1e-4)[0]


def _check_frames(
    dataset: EpisodeDataset, rows: slice, times_ns: list[int], said: list[tuple[int, int]], readable: bool
) -> None:
    stamps = dataset.columns["frame_stamp_ns"][rows]
    for row, (pixels, stamp_ns) in enumerate(zip(dataset.pixels[rows], stamps.tolist(), strict=True)):
        number = marks.read_frame(pixels)
        if number is None and readable:
            raise WrongRow(f"row {row}: the frame cannot be read")
        if number is not None and (stamp_ns, number) not in said:
            raise WrongRow(f"row {row}: frame {number} was not stamped {stamp_ns}")
        if not -MAX_AGE_S * NS_PER_S <= stamp_ns - times_ns[row] <= 0:
            raise WrongRow(f"row {row}: the frame is of {(stamp_ns - times_ns[row]) / NS_PER_S:.3f} s later")


def _check_partners(dataset: EpisodeDataset, rows: slice, said: list[tuple[int, int]], readable: bool) -> None:
    tolerance_ns = PAIR_TOLERANCE_S * NS_PER_S
    stamps = dataset.columns["frame_stamp_ns"][rows].tolist()
    for row, (pixels, stamp_ns) in enumerate(zip(dataset.frames["wrist"][rows], stamps, strict=True)):
        number = marks.read_frame(pixels)
        if number is None and readable:
            raise WrongRow(f"row {row}: the wrist's frame cannot be read")
        near = {other for time_ns, other in said if abs(time_ns - stamp_ns) <= tolerance_ns}
        if number is not None and number not in near:
            raise WrongRow(f"row {row}: the wrist's frame {number} is not of the time of the other camera's")


def _check_joints(
    positions: NDArray[np.floating], times_ns: list[int], said: list[tuple[int, int]], readable: bool
) -> None:
    for row, values in enumerate(positions):
        number = _find(values, MEASURED)
        if number is None and readable:
            raise WrongRow(f"row {row}: the joints cannot be read")
        if number is not None and number not in _in_force(said, times_ns[row]):
            raise WrongRow(f"row {row}: joint state {number} is not of its time")


def _check_commands(action: NDArray[np.floating], times_ns: list[int], said: Times, readable: bool) -> None:
    for row, values in enumerate(action):
        before, after = (_in_force(said[COMMAND], time_ns) for time_ns in times_ns[row : row + 2])
        if said[GRIPPER]:
            moves = [np.array(twist(number)) / marks.HZ for number in after]
            known = any(abs(gripper(number) - values[6]) < 1e-4 for _, number in said[GRIPPER])
            values = values[:6]
        else:
            moves = [commanded(second) - commanded(first) for first in before for second in after]
            known = True
        if readable and not (known and any(np.abs(values - move).max() < 1e-4 for move in moves)):
            raise WrongRow(f"row {row}: the action is not what was commanded in its time")


def _in_force(said: list[tuple[int, int]], time_ns: int) -> set[int]:
    """Numbers of the messages that a row of a time may hold; trajectories take 0.02 s more to be reached."""
    oldest_ns = time_ns - round((MAX_AGE_S + 0.02) * NS_PER_S)
    return {number for stamp_ns, number in said if oldest_ns <= stamp_ns <= time_ns}


# Mutations of messages.


def edit(path: Path, rng: Generator, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Write a recording of the source anew, with its good messages changed."""
    bag = choose(rng, folders(path))
    messages = change(entries(bag.name))
    shutil.rmtree(bag)
    write(bag, messages)


def of_topics(messages: Sequence[Entry], topics: Sequence[str]) -> list[int]:
    """Places of the messages of the topics."""
    return [place for place, entry in enumerate(messages) if entry.topic in topics]


def change_some(path: Path, rng: Generator, topics: Sequence[str], change: Callable[[Any], None]) -> None:
    """Change one message of the topics, some, or all."""

    def changed(messages: list[Entry]) -> list[Entry]:
        places = of_topics(messages, topics)
        for place in rng.permutation(places)[: choose(rng, (1, 1, 3, len(places)))]:
            message = copy.deepcopy(messages[place].message)
            change(message)
            messages[place] = replace(messages[place], message=message)
        return messages

    edit(path, rng, changed)


def some_topics(messages: Sequence[Entry], rng: Generator) -> list[str]:
    """One topic, or all."""
    topics = sorted({entry.topic for entry in messages})
    return [choose(rng, topics)] if rng.random() < 0.7 else topics


def messages_missing(path: Path, rng: Generator) -> None:
    """One, a stretch, every second, or all of a topic."""

    def change(messages: list[Entry]) -> list[Entry]:
        places = of_topics(messages, some_topics(messages, rng))
        first, last = sorted(rng.integers(len(places) + 1, size=2))
        gone = set(choose(rng, (places[first : first + 1], places[first:last], places[::2], places)))
        return [entry for place, entry in enumerate(messages) if place not in gone]

    edit(path, rng, change)


def messages_repeated(path: Path, rng: Generator) -> None:
    def change(messages: list[Entry]) -> list[Entry]:
        later_ns = choose(rng, (0, 1, NS_PER_S // 100, NS_PER_S // 10, NS_PER_S))
        places = of_topics(messages, some_topics(messages, rng))
        again = [messages[place] for place in rng.choice(places, 3)]
        return [*messages, *(replace(entry, received_ns=entry.received_ns + later_ns) for entry in again)]

    edit(path, rng, change)


def times_of_reception(path: Path, rng: Generator) -> None:
    """Of a topic or all: shuffled, late, early, all the same, at the ends of what can be said."""

    def change(messages: list[Entry]) -> list[Entry]:
        places = of_topics(messages, some_topics(messages, rng))
        kind, shift_ns = rng.integers(5), choose(rng, (-1, 1)) * choose(rng, (NS_PER_S // 10, NS_PER_S, 10 * NS_PER_S))
        shuffled = rng.permutation(places)
        given = [messages[place].received_ns for place in shuffled]
        for place, received_ns in zip(places, given, strict=True):
            now_ns = messages[place].received_ns
            values = (received_ns, now_ns + shift_ns, ros.BEGIN_NS, 0, 2**62)
            messages[place] = replace(messages[place], received_ns=int(values[kind]))
        return messages

    edit(path, rng, change)


def stamps(path: Path, rng: Generator) -> None:
    """Of a topic, from a message on or of some: zero, negative, impossible, early, late, standing still, noisy."""

    def change(messages: list[Entry]) -> list[Entry]:
        stamped = sorted({entry.topic for entry in messages if hasattr(entry.message, "header")})
        places = of_topics(messages, [choose(rng, stamped)])
        chosen = places[rng.integers(len(places) + 1) :] if rng.random() < 0.5 else rng.permutation(places)[:2]
        shift_ns = choose(rng, (-1, 1)) * choose(rng, (1, 10**7, 6 * 10**7, 15 * 10**7, NS_PER_S, 3600 * NS_PER_S))
        kind = rng.integers(8)
        for place in chosen:
            message = copy.deepcopy(messages[place].message)
            stamp = message.header.stamp
            now_ns = stamp_to_ns(stamp)
            if kind == 0:
                stamp.sec, stamp.nanosec = 0, 0
            elif kind == 1:
                stamp.sec = -choose(rng, (1, stamp.sec))
            elif kind == 2:
                stamp.nanosec = choose(rng, (10**9, 2**32 - 1))
            elif kind == 3:
                stamp.sec, stamp.nanosec = 2**31 - 1, 999_999_999
            elif kind == 4:
                stamp.sec, stamp.nanosec = divmod(ros.BEGIN_NS, NS_PER_S)
            elif kind == 5:
                stamp.sec, stamp.nanosec = divmod(now_ns + int(rng.integers(-(10**7), 10**7)), NS_PER_S)
            else:
                stamp.sec, stamp.nanosec = divmod(now_ns + shift_ns, NS_PER_S)
            messages[place] = replace(messages[place], message=message)
        return messages

    edit(path, rng, change)


def images(path: Path, rng: Generator) -> None:
    """Sizes, steps, encodings and data that contradict each other, or are of another camera."""

    def change(message: Any) -> None:
        data = message.data
        if hasattr(message, "format"):
            other = ros.compressed(1, marks.frame(0, choose(rng, (8, 64)))).data
            pieces = (data[:0], data[: len(data) // 2], data[:-30], data[::-1].copy(), other, np.zeros(9, np.uint8))
            if rng.random() < 0.7:
                message.data = choose(rng, pieces)
            else:
                message.format = choose(rng, FORMATS)
            return
        changes = (
            ("height", (0, 1, 31, 33, 2**32 - 1)),
            ("width", (0, 1, 31, 33, 2**32 - 1)),
            ("step", (0, 1, 95, 97, 2**32 - 1)),
            ("encoding", ENCODINGS),
            ("data", (data[:0], data[:-1], data[:100], np.append(data, data))),
        )
        field, values = choose(rng, changes)
        setattr(message, field, choose(rng, values))

    change_some(path, rng, [IMAGE, WRIST], change)


def images_of_another_size(path: Path, rng: Generator) -> None:
    def change(message: Any) -> None:
        size = choose(rng, (4, 16, 48))
        made = (ros.compressed if hasattr(message, "format") else ros.image)(1, marks.frame(7, size))
        for field in ("data",) if hasattr(message, "format") else ("data", "height", "width", "step"):
            setattr(message, field, getattr(made, field))

    change_some(path, rng, [IMAGE, WRIST], change)


def joint_states(path: Path, rng: Generator) -> None:
    """Not finite, in degrees, missing, named twice, of fewer or more numbers than names."""

    def change(message: Any) -> None:
        kind, place = rng.integers(9), rng.integers(7)
        if kind == 0:
            message.position[place] = choose(rng, (np.nan, np.inf, -np.inf, 1e300, 50.0))
        elif kind == 1:
            message.position = np.rad2deg(message.position)
        elif kind == 2:
            del message.name[place]
        elif kind == 3:
            message.name[place] = message.name[(place + 1) % 7]
        elif kind == 4:
            message.position = message.position[:place]
        elif kind == 5:
            message.position = np.append(message.position, 1.0)
        elif kind == 6:
            message.name = []
        elif kind == 7:
            message.name[place] = choose(rng, ("", "x", f"{message.name[place]} ", "\u00e9"))
        else:
            del message.name[place]
            message.position = np.delete(message.position, place)

    change_some(path, rng, [JOINTS], change)


def commands(path: Path, rng: Generator) -> None:
    """Whatever the command is: not finite, of another size, of unknown joints, without points, with odd times."""

    def change(message: Any) -> None:
        if hasattr(message, "points"):
            _spoil_trajectory(message, rng)
        elif hasattr(message, "twist"):
            part = choose(rng, (message.twist.linear, message.twist.angular))
            setattr(part, choose(rng, "xyz"), choose(rng, (np.nan, np.inf, -1e30, 9.0)))
        elif hasattr(message, "layout"):
            data = message.data
            message.data = choose(rng, (data[:6], data[:0], np.append(data, 0.0), data * np.nan, data + 9.0))
        else:
            message.data = choose(rng, (np.nan, np.inf, -1.5, 2.0))

    change_some(path, rng, [COMMAND, GRIPPER], change)


def _spoil_trajectory(message: Any, rng: Generator) -> None:
    point, kind = message.points[0], rng.integers(9)
    if kind == 0:
        message.points = []
    elif kind == 1:
        message.points = [point, point]
    elif kind == 2:
        point.positions = choose(rng, (point.positions[:6], point.positions[:0], point.positions * np.nan))
    elif kind == 3:
        point.velocities = choose(rng, (np.zeros(7), np.full(7, np.nan), np.zeros(3), np.full(7, 1e6)))
    elif kind == 4:
        point.time_from_start.sec = choose(rng, (-1, 1, 2**31 - 1, -(2**31)))
    elif kind == 5:
        point.time_from_start.nanosec = choose(rng, (0, 1, 10**9, 2**32 - 1))
    elif kind == 6:
        message.joint_names = choose(rng, ([], message.joint_names[:3], ["x"] * 7, message.joint_names[:1] * 7))
    elif kind == 7:
        message.joint_names = message.joint_names[::-1]
    else:
        point.positions = point.positions + choose(rng, (1.0, 100.0))


def messages_of_other_joints(path: Path, rng: Generator) -> None:
    """What a gripper says on the arm's topics, empty messages, a joint more: nothing that the arm heeds."""

    def change(messages: list[Entry]) -> list[Entry]:
        places = rng.choice(of_topics(messages, [JOINTS]), 4)
        for place in places:
            time_ns = stamp_to_ns(messages[place].message.header.stamp) + int(rng.integers(1, 2 * 10**7))
            strange = (ros.joint_state(time_ns, [0.04], ["finger"]), ros.joint_state(time_ns, [], []))
            message = choose(rng, strange)
            messages.append(Entry(JOINTS, messages[place].received_ns + 1, message.__msgtype__, message))
        return messages

    edit(path, rng, change)


def payloads(path: Path, rng: Generator) -> None:
    """The bytes of messages cut, lengthened, flipped, of another byte order or none."""

    def change(messages: list[Entry]) -> list[Entry]:
        places = of_topics(messages, some_topics(messages, rng))
        for place in rng.permutation(places)[: choose(rng, (1, 3, len(places)))]:
            entry = messages[place]
            data = bytes(ros.TYPES.serialize_cdr(entry.message, entry.kind))
            cut, flipped = int(rng.integers(len(data))), bytearray(data)
            flipped[rng.integers(min(len(data), 120))] ^= 1 << rng.integers(8)
            kinds = (
                data[:cut],
                data + b"\0" * 4,
                bytes(flipped),
                b"\0\0" + data[2:],
                b"",
                data[:4],
                b"\xff" * len(data),
            )
            messages[place] = replace(entry, data=choose(rng, kinds))
        return messages

    edit(path, rng, change)


def topics_of_other_types(path: Path, rng: Generator) -> None:
    """Some messages of a topic, or all, are of a type that it should not have."""

    def change(messages: list[Entry]) -> list[Entry]:
        places = of_topics(messages, [choose(rng, sorted({entry.topic for entry in messages}))])
        first = int(rng.integers(len(places)))
        message = choose(rng, (ros.make("std_msgs/String", data="x"), ros.number(1.0), ros.twist(1, [0.0] * 6)))
        for place in choose(rng, (places, places[first:], places[first : first + 1])):
            messages[place] = replace(messages[place], message=message, kind=message.__msgtype__)
        return messages

    edit(path, rng, change)


def channels_that_nobody_reads(path: Path, rng: Generator) -> None:
    """Of unknown types, encodings and definitions."""
    kinds = (
        Entry("/event", 0, "a_interfaces/srv/Add_Event", data=b"\0\1\0\0" + bytes(16), definition=EVENT),
        Entry("/json", 0, "my_msgs/msg/Json", data=b"{}", definition="{", encoding="json"),
        Entry("/proto", 0, "foxglove.Frame", data=b"\x08\x01", definition="\x0a\x05", encoding="protobuf"),
        Entry("/annotated", 0, "a_msgs/msg/Note", data=b"\0\1\0\0", definition='@verbatim (language="x")\nint32 a'),
        Entry("/broken", 0, "a_msgs/msg/Broken", data=b"", definition="nonsense nonsense nonsense"),
        Entry("/unknown", 0, "a_msgs/msg/Outer", data=b"\0\1\0\0", definition="b_msgs/Inner inner"),
        Entry("/idl", 0, "a_msgs/msg/Idl", data=b"\0\1\0\0", definition=IDL),
        Entry("/text", 0, "std_msgs/msg/String", ros.make("std_msgs/String", data="x")),
        Entry("/odd", 0, "nonsense", data=b"\0\1\0\0", definition="int32 a"),
        Entry("/image/info", 0, "std_msgs/msg/String", data=b"\0\1"),
    )  # fmt: skip

    def change(messages: list[Entry]) -> list[Entry]:
        extra = [choose(rng, kinds) for _ in range(choose(rng, (1, 2)))]
        times = [messages[int(rng.integers(len(messages)))].received_ns for _ in extra]
        return [*messages, *(replace(entry, received_ns=time_ns) for entry, time_ns in zip(extra, times, strict=True))]

    edit(path, rng, lambda messages: sorted(change(messages), key=lambda entry: entry.received_ns))


# Mutations of files.


def metadata_values(path: Path, rng: Generator) -> None:
    file = choose(rng, folders(path)) / "metadata.yaml"
    metadata = yaml.safe_load(file.read_text(encoding="utf-8"))
    inside: Any = metadata
    while True:
        key = choose(rng, list(inside) if isinstance(inside, dict) else range(len(inside)))
        if not isinstance(inside[key], dict | list) or not inside[key] or rng.random() < 0.1:
            break
        inside = inside[key]
    if rng.random() < 0.3:
        del inside[key]
    else:
        inside[key] = choose(rng, ODD_VALUES)
    file.write_text(yaml.safe_dump(metadata, allow_unicode=True), encoding="utf-8")


def metadata_as_text(path: Path, rng: Generator) -> None:
    file = choose(rng, folders(path)) / "metadata.yaml"
    text = file.read_text(encoding="utf-8")
    kinds = (
        None, "", LFS_POINTER, "[]", "{", "x: *y", text[: rng.integers(len(text))], text.replace(":", "", 1),
        text + "\t\x00", text.replace("version: 9", "version: 99"), text.replace("mcap", "sqlite3"),
        text.replace("sqlite3", "mcap"), text.replace("storage_identifier", "x"), "!!python/object:os.system {}",
        "&a [*a, *a]",
    )  # fmt: skip
    content = choose(rng, kinds)
    if content is None:
        file.unlink()
    else:
        file.write_text(content, encoding="utf-8")


def storage_records(path: Path, rng: Generator) -> None:
    """A record of MCAP left out, repeated, of another kind or length; a cell, row or table of SQLite changed."""
    bag = choose(rng, folders(path))
    (storage,) = (file for file in bag.iterdir() if file.suffix in (".mcap", ".db3"))
    if storage.suffix == ".db3":
        _spoil_sqlite(storage, rng)
        return
    data = storage.read_bytes()
    starts = [MAGIC_BYTES]
    while starts[-1] < len(data) - MAGIC_BYTES:
        starts.append(starts[-1] + 9 + struct.unpack_from("<Q", data, starts[-1] + 1)[0])
    # Every second time one of the few at the beginning or the end, which say where the others are.
    number = int(rng.integers(len(starts) - 1)) if rng.random() < 0.5 else choose(rng, (0, 1, 2, 3, -5, -4, -3, -2))
    start, end = starts[number], starts[number + 1 if number >= 0 else number + 1 or len(starts)]
    record = data[start:end]
    size = choose(rng, (0, 1, len(record) - 10, len(record), 2**32, 2**63, 2**64 - 1))
    kinds = (
        b"", record + record, bytes([choose(rng, (0, 1, 2, 5, 6, 15, 200))]) + record[1:],
        record[:1] + struct.pack("<Q", max(0, size)) + record[9:], record[:9] + bytes(len(record) - 9),
        record[:9] + b"\xff" * (len(record) - 9),
    )  # fmt: skip
    storage.write_bytes(data[:start] + choose(rng, kinds) + data[end:])


def _spoil_sqlite(storage: Path, rng: Generator) -> None:
    table = choose(rng, ("messages", "topics", "schema", "message_definitions", "metadata"))
    with contextlib.closing(sqlite3.connect(storage)) as database, contextlib.suppress(sqlite3.Error), database:
        database.execute(
            choose(rng, SQL).format(table=table, id=int(rng.integers(1, 99)), topic=int(rng.integers(1, 4)))
        )


MUTATIONS = (
    *DAMAGE,
    Mutation(messages_missing),
    Mutation(messages_repeated),
    Mutation(times_of_reception),
    Mutation(stamps),
    Mutation(images, spoils_values=True),
    Mutation(images_of_another_size),
    Mutation(joint_states, spoils_values=True),
    Mutation(commands, spoils_values=True),
    Mutation(messages_of_other_joints, harmless=True),
    Mutation(payloads, spoils_values=True),
    Mutation(topics_of_other_types),
    Mutation(channels_that_nobody_reads, harmless=True),
    Mutation(metadata_values),
    Mutation(metadata_as_text),
    Mutation(storage_records, spoils_values=True),
)

FORMAT = Format(
    "rosbag",
    write_sources,
    MUTATIONS,
    check,
    {name: 2 * STRETCH_ROWS if name == "folder" else STRETCH_ROWS for name in SETTINGS},
)
