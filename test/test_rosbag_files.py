"""Files of recordings: all that ROS 2 and others write is read, and what cannot be read is called by its name."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags", reason="recordings need the extra: pip install -e '.[rosbag]'")

from mcap_files import Layout, Odd, write_mcap, zstd
from recordings import Message, image, joint_state, seconds, write_bag
from rosbags.rosbag2 import CompressionFormat, CompressionMode

from lewm_ros.robot.arm import PANDA
from lewm_training.__main__ import main
from lewm_training.data import EpisodeDataset

SETTINGS = {
    "image": "/image",
    "joint_states": "/joint_states",
    "joint_names": list(PANDA.joint_names),
    "limit": [0.1] * 7,
    "image_size": 16,
    "min_episode_s": 0.2,
}
STEPS = 12


def shade(step: int) -> int:
    """Of the whole frame at a step."""
    return 20 * step


def angle_rad(time_s: float) -> float:
    return 0.2 * time_s


def messages() -> list[Message]:
    """Frames at 20 Hz, each of one shade, and joint states at 40 Hz in which all joints move alike."""
    frames = [
        ("/image", seconds(0.05 * k), image(seconds(0.05 * k), np.full((16, 16, 3), shade(k), np.uint8)))
        for k in range(STEPS)
    ]
    states = [
        ("/joint_states", seconds(0.025 * k) + 1, joint_state(seconds(0.025 * k), [angle_rad(0.025 * k)] * 7))
        for k in range(2 * STEPS)
    ]
    return frames + states


def run(folder: Path, source: Path, *options: str) -> tuple[int, Path]:
    config, out = folder / "topics.yaml", folder / "data.h5"
    config.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return main(["import", "--from", "rosbag", str(source), "--out", str(out), "--config", str(config), *options]), out


def assert_whole(out: Path) -> None:
    """All rows are there: every frame but the last, and the joints at its time."""
    data = EpisodeDataset.open(out)
    assert data.lengths.tolist() == [STEPS - 1]
    assert data.pixels[:][:, 0, 0, 0].tolist() == [shade(k) for k in range(STEPS - 1)]
    np.testing.assert_allclose(
        data.columns["proprio"][:, 0], [angle_rad(0.05 * k) for k in range(STEPS - 1)], atol=1e-6
    )


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "lewm import: " in line)
    return line.partition("lewm import: ")[2]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(),
        Layout(compression="lz4"),
        Layout(compression="zstd", checksums=False),
        Layout(chunks=5, summary=False, compression="zstd"),
        Layout(chunks=0),
        Layout(chunks=0, summary=False),
    ],
    ids=str,
)
def test_mcap_files_of_every_layout(tmp_path: Path, layout: Layout) -> None:
    status, out = run(tmp_path, write_mcap(tmp_path / "take.mcap", messages(), layout))
    assert status == 0
    assert_whole(out)


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE, None])
@pytest.mark.parametrize("sqlite", [False, True], ids=["mcap", "sqlite3"])
def test_folders_of_every_compression(tmp_path: Path, mode: CompressionMode | None, sqlite: bool) -> None:
    if sqlite and mode == CompressionMode.STORAGE:
        pytest.skip("SQLite files have no compression of their own")
    compression = (mode, CompressionFormat.ZSTD) if mode else None
    status, out = run(tmp_path, write_bag(tmp_path / "take", messages(), sqlite, compression))
    assert status == 0
    assert_whole(out)


ODD = {
    "a service's text": Odd("/add/_service_event", "add/srv/Add_Event", definition=b"int64 a\n---\nint64 sum\n"),
    "JSON": Odd("/state", "State", "jsonschema", b'{"type": "object"}', "json", b"{}"),
    "JSON without a schema": Odd("/state", "", "", b"", "json", b"{}"),
    "protobuf": Odd("/pose", "foxglove.Pose", "protobuf", bytes(range(128, 256)), "protobuf", b"\xff"),
    "annotations": Odd("/pose", "a/msg/Pose", definition=b'@verbatim (language="comment", text="x")\nfloat64 x\n'),
    "an unknown type": Odd("/pose", "a/msg/Pose", "unknown"),
    "a type of an unknown part": Odd("/pose", "a/msg/Pose", definition=b"b/Nowhere x\n"),
    "another definition of a part": Odd(
        "/pose", "a/msg/Pose", definition=b"Header h\n====\nMSG: std_msgs/Header\nint8 x\n"
    ),
    "data that is no message": Odd("/imu", "sensor_msgs/msg/Temperature", definition=b"float64 x\n", data=b"x"),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_nothing_is_asked_of_channels_that_no_row_needs(tmp_path: Path, odd: Odd) -> None:
    status, out = run(tmp_path, write_mcap(tmp_path / "take.mcap", messages(), odd=[odd]))
    assert status == 0
    assert_whole(out)


def test_nor_of_those_in_sqlite_files(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "take", messages(), sqlite=True)
    with sqlite3.connect(folder / "take.db3") as database:
        for number, odd in enumerate(ODD.values(), start=10):
            row = (number, f"{odd.topic}{number}", odd.kind, odd.encoding, "{not: [qos", "no hash")
            database.execute("INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)", row)
            database.execute(
                "INSERT INTO message_definitions VALUES (?, ?, ?, ?, ?)",
                (number, odd.kind, odd.definition_format, odd.definition.decode("latin-1"), "no hash"),
            )
            database.execute(
                "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", (number, seconds(0.1), odd.data)
            )
    status, out = run(tmp_path, folder)
    assert status == 0
    assert_whole(out)


@pytest.mark.parametrize(
    ("definitions", "right"),
    [
        ("int64 a\n---\nint64 b\n", "its recorded definition of sensor_msgs/msg/Image cannot be read ("),
        ("uint32 height\nuint32 width\n", "its recorded definition of sensor_msgs/msg/Image is not the one of ROS 2"),
    ],
)
def test_a_wanted_topic_whose_type_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], definitions: str, right: str
) -> None:
    status, _ = run(
        tmp_path, write_mcap(tmp_path / "take.mcap", messages(), define=lambda kind: ("ros2msg", definitions))
    )
    assert status == 2
    assert f"image topic '/image': {right}" in refusal(capsys)


IDL = {
    "sensor_msgs/msg/Image": """
        @verbatim (language="comment", text= "An uncompressed image")
        struct Image {
          std_msgs::msg::Header header;
          @unit (value="pixels")
          uint32 height;
          uint32 width;
          string encoding;
          uint8 is_bigendian;
          uint32 step;
          sequence<uint8> data;
        };""",
    "sensor_msgs/msg/JointState": """
        struct JointState {
          std_msgs::msg::Header header;
          sequence<string> name;
          sequence<double> position;
          sequence<double> velocity;
          sequence<double> effort;
        };""",
    "std_msgs/msg/Header": "struct Header { builtin_interfaces::msg::Time stamp; string frame_id; };",
    "builtin_interfaces/msg/Time": "struct Time { int32 sec; uint32 nanosec; };",
}


def ros2idl(kind: str) -> tuple[str, str]:
    """As ROS 2 records a type that is defined in IDL: the files of the type and of its parts."""
    text = ""
    for name in (kind, "std_msgs/msg/Header", "builtin_interfaces/msg/Time"):
        package = name.partition("/")[0]
        content = f'#include "a/msg/B.idl"\n\nmodule {package} {{ module msg {{ {IDL[name]} }}; }};\n'
        text += f"{'=' * 80}\nIDL: {name}\n// generated\n{content}"
    return "ros2idl", text


@pytest.mark.parametrize("define", [ros2idl, lambda kind: ("", "")], ids=["IDL", "none"])
def test_definitions_of_every_kind_are_understood(tmp_path: Path, define: Any) -> None:
    status, out = run(tmp_path, write_mcap(tmp_path / "take.mcap", messages(), define=define))
    assert status == 0
    assert_whole(out)


def test_a_topic_is_also_refused_for_its_encoding_or_a_second_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json = Odd("/image", "sensor_msgs/msg/Image", "", b"", "json")
    status, _ = run(tmp_path, write_mcap(tmp_path / "json.mcap", messages(), odd=[json]))
    assert status == 2
    assert "image topic '/image': its messages are encoded as 'json', expected cdr" in refusal(capsys)
    status, _ = run(tmp_path, write_mcap(tmp_path / "two.mcap", messages(), odd=[Odd("/image", "std_msgs/msg/String")]))
    assert status == 2
    assert "image topic '/image' is sensor_msgs/msg/Image and std_msgs/msg/String; it must be" in refusal(capsys)


def test_a_message_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = b"std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n"
    odd = Odd("/joint_states", "sensor_msgs/msg/JointState", definition=definition, data=b"\0\1\0\0\xff\xff")
    status, _ = run(tmp_path, write_mcap(tmp_path / "take.mcap", messages(), odd=[odd]))
    assert status == 2
    right = (
        "take.mcap: /joint_states: the message received at 1763000000.000 s: the data is no sensor_msgs/msg/JointState"
    )
    assert right in refusal(capsys)


def test_a_flipped_bit_is_noticed_by_the_chunks_checksum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_mcap(tmp_path / "take.mcap", messages(), Layout(chunks=1))
    content = bytearray(path.read_bytes())
    content[content.index(bytes([shade(5)] * 48))] ^= 1
    path.write_bytes(content)
    status, _ = run(tmp_path, path)
    assert status == 2
    assert refusal(capsys).startswith(f"{path}: the chunk at byte ")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unfooted(path: Path) -> None:
    """As a recorder leaves it that was killed."""
    path.write_bytes(path.read_bytes()[:-37])


def zeroed(path: Path) -> None:
    """Zeros after the magic bytes, 8, and the header: 9 for the record, and 4 each for two texts and their lengths."""
    path.write_bytes(path.read_bytes()[:33] + bytes(999))


def sqlite_cut(path: Path) -> None:
    shutil.copy(write_bag(path.parents[1] / "whole", messages(), sqlite=True) / "whole.db3", path)
    cut(path)


def other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (text)")


def holding(content: bytes) -> Any:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "spoil", "right"),
    [
        ("a.mcap", cut, "cut off at byte {half}; `mcap recover {path} --output NEW` saves what is whole"),
        ("a.mcap", unfooted, "cut off at byte {size}; `mcap recover {path} --output NEW` saves what is whole"),
        ("a.mcap", zeroed, "no record at byte 33; `mcap recover {path}"),
        ("a.db3", sqlite_cut, "`sqlite3 {path} .recover | sqlite3 NEW` saves what is whole"),
        ("a.db3", other_tables, "the tables of rosbag2 are missing"),
        ("a.bag", holding(b"#ROSBAG V2.0\n"), "a ROS 1 bag; `rosbags-convert --src {path} --dst FOLDER`"),
        (
            "a.mcap",
            holding(b"version https://git-lfs.github.com/spec/v1\n"),
            "a Git LFS pointer and not the file itself; `git",
        ),
        (
            "a.db3",
            holding(b"version https://git-lfs.github.com/spec/v1\n"),
            "a Git LFS pointer and not the file itself; `git",
        ),
        ("a.mcap.zstd", holding(zstd.compress(b"x")), "compressed; `zstd -d {path}` unpacks it"),
        ("a.db3.zstd", holding(zstd.compress(b"x")), "compressed; `zstd -d {path}` unpacks it"),
        ("a.mcap", holding(b""), "empty"),
        ("a.mcap", holding(b"PK\3\4"), "neither an MCAP nor a SQLite file"),
    ],
)
@pytest.mark.parametrize("inside", [False, True], ids=["file", "in a folder"])
def test_files_that_cannot_be_read_are_called_by_their_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, spoil: Any, right: str, inside: bool
) -> None:
    folder = tmp_path / "takes"
    folder.mkdir()
    path = write_mcap(folder / name, messages(), Layout(chunks=1))
    size = path.stat().st_size
    spoil(path)
    status, _ = run(tmp_path, folder if inside else path)
    assert status == 2
    line = refusal(capsys)
    assert line.startswith(f"{path}: ")
    assert right.format(path=path, half=size // 2, size=size - 37) in line
    assert "--skip-bad" not in line, "nothing would be left"


def test_one_damaged_recording_among_others_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "takes"
    folder.mkdir()
    cut(write_mcap(folder / "a.mcap", messages()))
    write_mcap(folder / "b.mcap", messages())
    status, _ = run(tmp_path, folder)
    assert status == 2
    assert refusal(capsys).endswith("; --skip-bad leaves such recordings out")
    status, out = run(tmp_path, folder, "--skip-bad")
    assert status == 0
    assert_whole(out)


@pytest.mark.parametrize("text", ["", "[", "rosbag2_bagfile_information: {}", "rosbag2_bagfile_information: 3"])
def test_a_folder_without_its_metadata_can_be_indexed_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    folder = write_bag(tmp_path / "take", messages())
    (folder / "metadata.yaml").write_text(text, encoding="utf-8")
    status, _ = run(tmp_path, folder)
    assert status == 2
    line = refusal(capsys)
    assert line.startswith(f"{folder / 'metadata.yaml'}: cannot be read")
    assert f"`ros2 bag reindex {folder}`" in line
    (folder / "metadata.yaml").unlink()
    status, out = run(tmp_path, folder)
    assert status == 0
    assert_whole(out)


def test_what_people_expect_to_be_read_is_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "takes"
    write_bag(folder / "take.mcap", messages())  # a folder
    (folder / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    (folder / "notes.txt").write_text("good takes")
    status, _ = run(tmp_path, folder)
    assert status == 2
    assert refusal(capsys).startswith(f"{folder / 'old.bag'}: a ROS 1 bag")
    status, out = run(tmp_path, folder, "--skip-bad")
    assert status == 0
    assert_whole(out)
