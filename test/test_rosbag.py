"""`lewm import --from rosbag`: recordings whose rows are known become these rows, and bad ones are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

pytest.importorskip("rosbags", reason="recordings need the extra: pip install -e '.[rosbag]'")

from recordings import (
    LATENCY_NS,
    Message,
    compressed,
    image,
    joint_state,
    number,
    numbers,
    seconds,
    trajectory,
    twist,
    write_bag,
)

from lewm_ros.observation.input_spec import fit_frame
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import joint_delta
from lewm_training.__main__ import main
from lewm_training.data import EpisodeDataset

ROOT = Path(__file__).parents[1]
STEP_S = 0.05
RATE_RAD_S = np.array([0.1, -0.2, 0.3, 0.0, 0.4, -0.5, 0.6])
SETTINGS = {
    "image": "/image",
    "joint_states": "/joint_states",
    "joint_names": list(PANDA.joint_names),
    "limit": [0.05] * 7,
    "image_size": 16,
    "min_episode_s": 0.25,
}


def frame(step: int, size: tuple[int, int] = (24, 32)) -> NDArray[np.uint8]:
    return np.random.default_rng(step).integers(0, 256, (*size, 3), dtype=np.uint8)


def positions(time_s: float) -> NDArray[np.float64]:
    return PANDA.home_rad + RATE_RAD_S * time_s


def camera(steps: Sequence[int], make: Any = image) -> list[Message]:
    """A frame per control step, received a little later."""
    return [("/image", seconds(STEP_S * k) + LATENCY_NS, make(seconds(STEP_S * k), frame(k))) for k in steps]


def joints(end_s: float, begin_s: float = 0.0) -> list[Message]:
    """Joint states at 100 Hz, in an order that changes from message to message, with a joint more than is asked for."""
    names = (*PANDA.joint_names, "finger")
    messages = []
    for k in range(round(begin_s * 100), round(end_s * 100) + 1):
        values = [*positions(0.01 * k), 0.04]
        order = np.random.default_rng(k).permutation(8)
        time_ns = seconds(0.01 * k)
        messages.append(("/joint_states", time_ns + LATENCY_NS, joint_state(time_ns, values, names, list(order))))
    return messages


def run(folder: Path, source: Path, *options: str, **settings: Any) -> tuple[int, Path]:
    """`lewm import` with these settings; returns exit status and dataset."""
    config, out = folder / "topics.yaml", folder / "data.h5"
    config.write_text(yaml.safe_dump(SETTINGS | settings), encoding="utf-8")
    command = ["import", "--from", "rosbag", str(source), "--out", str(out), "--config", str(config)]
    return main([*command, "--json", str(folder / "figures.json"), *options]), out


def figures(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "figures.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("sqlite", [False, True], ids=["mcap", "sqlite3"])
@pytest.mark.parametrize("make", [image, compressed], ids=["raw", "compressed"])
def test_rows_hold_what_the_topics_held(tmp_path: Path, make: Any, sqlite: bool) -> None:
    steps = [*range(20), *range(40, 61)]  # no frames from 1 to 2 s
    bag = write_bag(tmp_path / "bag", camera(steps, make) + joints(3.0), sqlite)
    status, out = run(tmp_path, bag)
    assert status == 0
    data = EpisodeDataset.open(out)
    # The last sample of each stretch has no action.
    assert data.lengths.tolist() == [19, 20]
    rows = [*range(19), *range(40, 60)]
    np.testing.assert_array_equal(data.pixels[:], [fit_frame(frame(k), 16) for k in rows])
    np.testing.assert_allclose(data.columns["proprio"][:], [positions(STEP_S * k) for k in rows], rtol=1e-6)
    np.testing.assert_allclose(data.columns["action"][:], np.tile(RATE_RAD_S * STEP_S, (39, 1)), atol=1e-6)
    np.testing.assert_array_equal(data.columns["frame_stamp_ns"][:], [seconds(STEP_S * k) for k in rows])
    assert data.spec.cameras == {"camera": "pixels"}
    assert data.spec.vectors == {"proprio": PANDA.joint_names}
    assert data.spec.action_space == joint_delta(PANDA.joint_names, [0.05] * 7, 20.0)
    assert [episode["source"] for episode in data.meta["episodes"]] == ["bag/0", "bag/1"]

    found = figures(tmp_path)
    assert found["ends"] == ["bag: 1763000000.950 s: /image: a pause of more than 0.2 s"]
    assert found["topics"]["/image"] == {
        "received": 41,
        "used": 41,
        "largest_gap_s": pytest.approx(1.05),
        "largest_age_s": 0.0,
        "dropped": {},
        "first_reasons": {},
    }
    assert found["topics"]["/joint_states"]["received"] == 301
    assert not (tmp_path / "data.h5.parts").exists()


def targets(step: int) -> NDArray[np.float64]:
    """Where the joints are to be at the end of a control step."""
    return PANDA.home_rad + 1e-3 * (step + 1) ** 2 * np.arange(1, 8) / 7


def expected_actions(steps: int) -> NDArray[np.float64]:
    # (k + 1)^2 - k^2
    return np.stack([1e-3 * (2 * k + 1) * np.arange(1, 8) / 7 for k in range(steps)])


def import_actions(folder: Path, commands: list[Message], **settings: Any) -> NDArray[np.float32]:
    """Actions of the steps 1 to 18 of a recording: at step 0 nothing had been commanded before."""
    bag = write_bag(folder / "bag", camera(range(21)) + joints(1.0) + commands)
    status, out = run(folder, bag, command="/command", **settings)
    assert status == 0
    data = EpisodeDataset.open(out)
    first = round((data.columns["frame_stamp_ns"][0] - seconds(0.0)) / NS_PER_S / STEP_S)
    return data.columns["action"][1 - first : 19 - first]


@pytest.mark.parametrize("delay_s", [0.0, 0.01], ids=["at once", "late"])
def test_actions_from_commanded_positions(tmp_path: Path, delay_s: float) -> None:
    commands = [("/command", seconds(STEP_S * k + delay_s), numbers(targets(k))) for k in range(20)]
    np.testing.assert_allclose(import_actions(tmp_path, commands), expected_actions(19)[1:], atol=1e-6)


def test_actions_from_trajectories(tmp_path: Path) -> None:
    # Each is replaced by the next as soon as its first point is reached, as the planner node sends them.
    commands = [
        ("/command", seconds(STEP_S * k), trajectory(None, [(STEP_S, targets(k)), (2 * STEP_S, targets(k + 1))]))
        for k in range(20)
    ]
    np.testing.assert_allclose(import_actions(tmp_path, commands), expected_actions(19)[1:], atol=1e-6)


def test_a_long_trajectory_stays_in_force(tmp_path: Path) -> None:
    points = [(0.5, targets(0)), (2.0, targets(0) + 1.5 * RATE_RAD_S)]
    message = trajectory(seconds(-0.5), points)
    actions = import_actions(tmp_path, [("/command", seconds(-0.4), message)])
    np.testing.assert_allclose(actions, np.tile(RATE_RAD_S * STEP_S, (18, 1)), atol=1e-6)


def test_actions_from_twists(tmp_path: Path) -> None:
    velocity = np.array([0.1, 0.2, -0.1, 0.5, 0.0, -0.5])
    commands = [("/command", seconds(STEP_S * k), twist(seconds(STEP_S * k), velocity * k / 20)) for k in range(21)]
    gripper = [("/gripper", seconds(-3.0), number(-1.0)), ("/gripper", seconds(0.51), number(1.0))]
    limit = [0.02] * 3 + [0.08] * 3 + [1.0]
    ee_delta = {"action_space": "ee_delta", "gripper": "/gripper", "limit": limit, "twist_frame": "panda_link0"}
    actions = import_actions(tmp_path, commands + gripper, **ee_delta)
    np.testing.assert_allclose(actions[:, :6], [velocity * k / 20 * STEP_S for k in range(1, 19)], atol=1e-7)
    # Closed within step 10, which begins at 0.5 s.
    assert actions[:, 6].tolist() == [-1.0] * 9 + [1.0] * 9


def snake() -> str:
    """An arm of seven joints about the vertical, 0.1 m of x between each and the next, and the hand 0.1 m further."""
    links = ["base", *(f"link{k}" for k in range(1, 8)), "hand"]
    names = [*PANDA.joint_names, "mount"]
    parts = [
        f'<joint name="{name}" type="{"fixed" if name == "mount" else "revolute"}"><parent link="{above}"/>'
        f'<child link="{below}"/><origin xyz="0.1 0 0"/><axis xyz="0 0 1"/></joint>'
        for name, above, below in zip(names, links[:-1], links[1:], strict=True)
    ]
    return f'<robot name="snake">{"".join(parts)}</robot>'


def test_the_pose_of_the_hand_follows_from_the_joints(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(snake(), encoding="utf-8")
    bag = write_bag(tmp_path / "bag", camera(range(21)) + joints(1.0))
    hand = {"urdf": str(tmp_path / "arm.urdf"), "hand": "hand"}
    status, out = run(tmp_path, bag, **hand)
    assert status == 0
    columns = EpisodeDataset.open(out).columns
    yaw = np.cumsum(columns["proprio"][:], axis=1, dtype=np.float64)  # of every link; each is 0.1 m long
    x, y = 0.1 + 0.1 * np.cos(yaw).sum(1), 0.1 * np.sin(yaw).sum(1)
    np.testing.assert_allclose(columns["ee_position"], np.stack([x, y, 0 * x], axis=1), atol=1e-6)
    half = yaw[:, -1] / 2.0
    np.testing.assert_allclose(np.abs(columns["ee_quaternion"][:, 0]), np.abs(np.cos(half)), atol=1e-6)
    np.testing.assert_allclose(np.prod(columns["ee_quaternion"][:, [0, 3]], 1), np.cos(half) * np.sin(half), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({"hand": "hand"}, "hand: the link needs the robot's description, urdf: FILE"),
        ({"hand": "hand", "urdf": "nowhere.urdf"}, "urdf 'nowhere.urdf': cannot be read"),
        ({"hand": "foot", "urdf": "arm.urdf"}, "link 'foot' must hang on the joints panda_joint1"),
    ],
)
def test_a_hand_that_cannot_be_placed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, settings: Any, right: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("arm.urdf").write_text(snake(), encoding="utf-8")
    status, _ = run(tmp_path, tmp_path, **settings)
    assert status == 2 and right in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_of_recordings(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    messages = camera(range(11)) + joints(0.5)
    write_bag(folder / "b", messages)
    write_bag(tmp_path / "loose", messages)
    (storage,) = (tmp_path / "loose").glob("*.mcap")
    shutil.copy(storage, folder / "a.mcap")
    status, out = run(tmp_path, folder)
    assert status == 0
    data = EpisodeDataset.open(out)
    assert [episode["source"] for episode in data.meta["episodes"]] == ["a.mcap/0", "b/0"]
    np.testing.assert_array_equal(data.pixels[:10], data.pixels[10:])


def test_long_episodes_are_cut_without_losing_a_row_and_short_ones_left_out(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera([*range(21), *range(40, 43)]) + joints(2.2))
    status, out = run(tmp_path, bag, max_episode_s=0.5)
    assert status == 0
    data = EpisodeDataset.open(out)
    assert data.lengths.tolist() == [10, 10]
    np.testing.assert_array_equal(data.pixels[:], [fit_frame(frame(k), 16) for k in range(20)])
    assert figures(tmp_path)["short"] == 1


@pytest.mark.parametrize(("jitter_s", "repeats"), [(0.0, True), (0.01, False)])
def test_frames_that_come_late_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jitter_s: float, repeats: bool
) -> None:
    # Every other frame is stamped 2 ms after its step; without tolerance, the row holds the frame before.
    late = [STEP_S * k + 0.002 * (k % 2) for k in range(21)]
    frames = [("/image", seconds(t) + LATENCY_NS, image(seconds(t), frame(k))) for k, t in enumerate(late)]
    status, out = run(tmp_path, write_bag(tmp_path / "bag", frames + joints(1.1)), jitter_s=jitter_s)
    assert status == 0
    held = [k - k % 2 if repeats else k for k in range(20)]
    np.testing.assert_array_equal(EpisodeDataset.open(out).pixels[:20], [fit_frame(frame(k), 16) for k in held])
    assert ("rows hold the same frame as the row before" in capsys.readouterr().out) == repeats


# Several cameras

TWO = {"image": "", "cameras": {"scene": "/image", "wrist": "/wrist"}}


def wrist(steps: Sequence[int], late_s: float = 0.0) -> list[Message]:
    """The second camera: other frames of another size, stamped so much later than those of `camera`."""
    stamps = {k: seconds(STEP_S * k + late_s) for k in steps}
    return [("/wrist", ns + LATENCY_NS, image(ns, frame(1000 + k, (48, 48)))) for k, ns in stamps.items()]


@pytest.mark.parametrize("late_s", [-0.02, 0.0, 0.02])
def test_frames_of_two_cameras_are_paired_by_stamp(tmp_path: Path, late_s: float) -> None:
    bag = write_bag(tmp_path / "bag", camera(range(21)) + wrist(range(21), late_s) + joints(1.1))
    status, out = run(tmp_path, bag, **TWO)
    assert status == 0
    data = EpisodeDataset.open(out)
    assert data.spec.cameras == {"scene": "pixels_scene", "wrist": "pixels_wrist"}
    assert data.lengths.tolist() == [20]
    np.testing.assert_array_equal(data.frames["scene"][:], [fit_frame(frame(k), 16) for k in range(20)])
    np.testing.assert_array_equal(
        data.frames["wrist"][:], [fit_frame(frame(1000 + k, (48, 48)), 16) for k in range(20)]
    )
    np.testing.assert_array_equal(data.columns["frame_stamp_ns"][:], [seconds(STEP_S * k) for k in range(20)])
    np.testing.assert_allclose(data.columns["proprio"][:], [positions(STEP_S * k) for k in range(20)], rtol=1e-6)
    found = figures(tmp_path)["topics"]
    assert [found[topic]["used"] for topic in ("/image", "/wrist", "/image + /wrist")] == [21, 21, 21]


def test_where_a_camera_pauses_the_episode_ends_and_the_camera_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", camera(range(61)) + wrist([*range(20), *range(40, 61)]) + joints(3.0))
    status, out = run(tmp_path, bag, **TWO)
    assert status == 0
    data = EpisodeDataset.open(out)
    assert data.lengths.tolist() == [19, 20]
    rows = [*range(19), *range(40, 60)]
    np.testing.assert_array_equal(data.frames["wrist"][:], [fit_frame(frame(1000 + k, (48, 48)), 16) for k in rows])
    assert figures(tmp_path)["ends"] == ["bag: 1763000000.950 s: /image + /wrist: a pause of more than 0.2 s"]
    assert "/image + /wrist: 61 messages, 41 used" in (said := capsys.readouterr().out)
    assert "20 without /wrist (the first: no frame within 0.025 s)" in said


def test_cameras_that_never_pair_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_bag(tmp_path / "bag", camera(range(0, 40, 2)) + wrist(range(1, 41, 2)) + joints(2.0))
    status, _ = run(tmp_path, bag, **TWO)
    assert status == 2
    right = "bag: no usable message on /image + /wrist, 20 without /wrist (the first: no frame within 0.025 s)"
    assert right in capsys.readouterr().err


def test_what_is_wrong_with_the_second_camera_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages = camera(range(25)) + wrist(range(25)) + joints(1.2)
    status, _ = run(tmp_path, write_bag(tmp_path / "bag", messages), **{**TWO, "cameras": {"a": "/image", "b": "/b"}})
    assert status == 2
    assert "camera b: topic '/b' was not recorded; topics of sensor_msgs/msg/Image" in capsys.readouterr().err
    place = messages.index(
        next(message for message in messages if message[1] == seconds(0.5) + LATENCY_NS and message[0] == "/wrist")
    )
    messages[place] = ("/wrist", messages[place][1], image(seconds(0.5), frame(0, (20, 20))))
    status, _ = run(tmp_path, write_bag(tmp_path / "other", messages), **TWO)
    assert status == 2
    assert "/wrist: an image of 20 x 20, those before are 48 x 48 in episode other/0, row 10" in capsys.readouterr().err


# Grippers and spaces of one's own


def test_an_arm_with_a_gripper(tmp_path: Path) -> None:
    """The finger is told by messages of its own; it is closed within step 10, which begins at 0.5 s."""
    fingers = [
        ("/joint_states", seconds(0.02 * k) + 1, joint_state(seconds(0.02 * k), [0.04 - 0.0005 * k], ["finger"]))
        for k in range(56)
    ]
    arm = [
        ("/joint_states", seconds(0.01 * k), joint_state(seconds(0.01 * k), positions(0.01 * k))) for k in range(111)
    ]
    commands = [("/gripper", seconds(-3.0), number(-1.0)), ("/gripper", seconds(0.51), number(1.0))]
    bag = write_bag(tmp_path / "bag", camera(range(21)) + arm + fingers + commands)
    status, out = run(tmp_path, bag, vectors={"gripper": ["finger"]}, gripper="/gripper", limit=[0.05] * 7 + [1.0])
    assert status == 0
    data = EpisodeDataset.open(out)
    assert data.spec.vectors == {"proprio": PANDA.joint_names, "gripper": ("finger",)}
    assert data.spec.action_space == joint_delta(PANDA.joint_names, [0.05] * 7, 20.0, gripper=True)
    # At 50 Hz the newest at or before k * 0.05 s is message 5 k // 2.
    opening_m = [0.04 - 0.0005 * (5 * k // 2) for k in range(20)]
    np.testing.assert_allclose(data.columns["gripper"][:, 0], opening_m, atol=1e-7)
    np.testing.assert_allclose(data.columns["action"][:, :7], np.tile(RATE_RAD_S * STEP_S, (20, 1)), atol=1e-6)
    assert data.columns["action"][:, 7].tolist() == [-1.0] * 10 + [1.0] * 10


def test_a_space_of_ones_own_without_joints(tmp_path: Path) -> None:
    drive = [("/drive", seconds(STEP_S * k + 0.01), numbers([0.1, 0.2, -0.3, 0.01 * k])) for k in range(-1, 21)]
    channels = [{"name": n, "kind": "velocity", "unit": "m/s", "low": -0.5, "high": 0.5} for n in ("x", "y", "z", "w")]
    own = {"joint_states": "", "joint_names": [], "limit": [], "action_space": "drive", "channels": channels}
    status, out = run(tmp_path, write_bag(tmp_path / "bag", camera(range(21)) + drive), command="/drive", **own)
    assert status == 0
    data = EpisodeDataset.open(out)
    assert data.spec.vectors == {}
    assert data.spec.action_space is not None
    assert data.spec.action_space.names == ("x", "y", "z", "w")
    # What was sent within the step, which is in force at its end.
    np.testing.assert_allclose(data.columns["action"][:], [[0.1, 0.2, -0.3, 0.01 * k] for k in range(20)], atol=1e-7)


def at_half_second(topic: str, message: Any, messages: list[Message]) -> list[Message]:
    """The messages with another one in place of the topic's at 0.5 s."""
    place = (topic, seconds(0.5) + LATENCY_NS)
    return [(t, r, message if (t, r) == place else m) for t, r, m in messages]


def nan_joint(messages: list[Message]) -> list[Message]:
    return at_half_second("/joint_states", joint_state(seconds(0.5), [np.nan, *positions(0.5)[1:]]), messages)


def missing_joint(messages: list[Message]) -> list[Message]:
    names = ["finger", *PANDA.joint_names[1:]]
    return at_half_second("/joint_states", joint_state(seconds(0.5), positions(0.5), names), messages)


def other_size(messages: list[Message]) -> list[Message]:
    return at_half_second("/image", image(seconds(0.5), frame(10, (48, 64))), messages)


def not_a_picture(messages: list[Message]) -> list[Message]:
    broken = image(seconds(0.5), frame(10))
    broken.step = 7
    return at_half_second("/image", broken, messages)


def leap(messages: list[Message]) -> list[Message]:
    """A joint is somewhere else from 0.5 s on."""
    for topic, received_ns, message in messages:
        if topic == "/joint_states" and received_ns > seconds(0.5):
            message.position[list(message.name).index("panda_joint3")] += 0.5
    return messages


def clocks_set_back(messages: list[Message]) -> list[Message]:
    """From 0.6 s on all stamps are 0.3 s less."""
    for _, received_ns, message in messages:
        if received_ns > seconds(0.6):
            stamp = message.header.stamp
            time_ns = stamp.sec * NS_PER_S + stamp.nanosec - 300_000_000
            stamp.sec, stamp.nanosec = time_ns // NS_PER_S, time_ns % NS_PER_S
    return messages


@pytest.mark.parametrize(
    ("spoil", "right", "left"),
    [
        (nan_joint, "/joint_states: joint 'panda_joint1': position is nan in episode bag/1, row 2", [0.0, 0.8]),
        (missing_joint, "/joint_states: joint 'panda_joint1' is missing; received: finger, panda_joint2,", [0.0, 0.8]),
        (other_size, "/image: an image of 64 x 48, those before are 32 x 24 in episode bag/1, row 2", [0.0, 0.8]),
        (not_a_picture, "/image: rgb8 image of 32 x 24: step is 7 bytes, expected at least 96 in episode", [0.0, 0.8]),
        (leap, "action 'panda_joint3' reaches 0.515, declared limit -0.05 to 0.05", [0.0, 0.8]),
        # The fifth row's frame came before the clocks were set; after it, episodes begin anew at 0.35 s.
        (clocks_set_back, "/image: the clock jumps back by 0.250 s, from 1763000000.550 to", [0.0, 0.35]),
    ],
)
def test_bad_episodes_are_named_and_left_out_only_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, right: str, left: list[float]
) -> None:
    # Three episodes of eight steps, from 0, 0.4 and 0.8 s on.
    bag = write_bag(tmp_path / "bag", spoil(camera(range(25)) + joints(1.2)))
    status, out = run(tmp_path, bag, max_episode_s=0.4)
    assert status == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "lewm import: " in line)
    assert right in line
    assert "episode bag/1, row " in line
    assert line.endswith("--skip-bad leaves such episodes out")
    assert not out.exists()

    (finished,) = (tmp_path / "data.h5.parts").glob("*-000000.h5")
    written_ns = finished.stat().st_mtime_ns
    kept = tmp_path / "kept.h5"
    kept.hardlink_to(finished)
    status, out = run(tmp_path, bag, "--skip-bad", max_episode_s=0.4)
    assert status == 0
    assert kept.stat().st_mtime_ns == written_ns, "what was finished is not done again"
    data = EpisodeDataset.open(out)
    begins = data.columns["frame_stamp_ns"][:][data.offsets]
    np.testing.assert_array_equal(begins, [seconds(time_s) for time_s in left])
    assert figures(tmp_path)["skipped_episodes"] == 1


def unstamped(messages: list[Message]) -> list[Message]:
    for topic, _, message in messages:
        if topic == "/image":
            message.header.stamp.sec = message.header.stamp.nanosec = 0
    return messages


def of_another_clock(messages: list[Message]) -> list[Message]:
    for topic, _, message in messages:
        if topic == "/image":
            message.header.stamp.sec -= 1_762_999_990
    return messages


def in_degrees(messages: list[Message]) -> list[Message]:
    for topic, _, message in messages:
        if topic == "/joint_states":
            message.position[:] = np.rad2deg(message.position)
    return messages


@pytest.mark.parametrize(
    ("spoil", "settings", "right"),
    [
        (
            None,
            {"image": "/camera"},
            "image topic '/camera' was not recorded; topics of sensor_msgs/msg/Image or sensor_msgs/msg/Comp",
        ),
        (
            None,
            {"joint_states": "/image", "image": "/joint_states"},
            "image topic '/joint_states' is sensor_msgs/msg/J",
        ),
        (None, {"command": "/gripper"}, "command topic '/gripper' was not recorded"),
        (None, {"min_episode_s": 5.0}, "bag: no stretch is as long as min_episode_s (1 shorter ones)"),
        (unstamped, {}, "bag: no usable message on /image, 25 stamp is zero"),
        (of_another_clock, {}, "bag: the topics do not overlap in time: /image 10.000 to 11.200 s, /joint_states 1763"),
        (
            in_degrees,
            {"limit": [3.0] * 7},
            "proprio is beyond 2 pi rad (are these degrees? a continuous joint",
        ),
    ],
)
def test_recordings_that_cannot_be_used_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, settings: dict[str, Any], right: str
) -> None:
    messages = camera(range(25)) + joints(1.2)
    bag = write_bag(tmp_path / "bag", spoil(messages) if spoil else messages)
    status, _ = run(tmp_path, bag, **settings)
    assert status == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "lewm import: " in line)
    assert right in line


@pytest.mark.parametrize("sqlite", [False, True], ids=["mcap", "sqlite3"])
def test_damaged_recordings_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], sqlite: bool) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    whole = write_bag(folder / "a", camera(range(25)) + joints(1.2), sqlite)
    damaged = folder / "b"
    shutil.copytree(whole, damaged)
    (storage,) = (file for file in damaged.iterdir() if file.suffix != ".yaml")
    with storage.open("r+b") as file:
        file.truncate(storage.stat().st_size // 2)
    status, _ = run(tmp_path, folder)
    assert status == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "lewm import: " in line)
    assert str(damaged) in line
    status, out = run(tmp_path, folder, "--skip-bad")
    assert status == 0
    assert EpisodeDataset.open(out).meta["episodes"][0]["source"] == "a/0"


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({"immage": "/image"}, "unknown key 'immage'; did you mean 'image'?"),
        ({"joint_names": ["a", "b"]}, "limit: must have 2 numbers, one per joint, got 7"),
        ({"action_space": "ee_delta"}, "command: 'ee_delta' needs the topic of its actions (TwistStamped)"),
        ({"joint_names": ["a", "a"]}, "joint_names, vectors: 'a' is named twice"),
        ({"vectors": {"gripper": ["panda_joint1"]}}, "joint_names, vectors: 'panda_joint1' is named twice"),
        ({"vectors": {"gripper": []}}, "vectors: 'gripper' names no joints"),
        ({"vectors": {"action": ["finger"]}}, "vectors: 'action' is a column of the dataset itself"),
        ({"gripper": "/gripper"}, "gripper: the limit of 'joint_delta' has no number for one"),
        ({"limit": [0.05] * 8}, "gripper: the limit of 'joint_delta' has a number for one; name its topic"),
        ({"cameras": {"scene": "/image"}}, "cameras: must name the topics of the cameras, or `image` that of the only"),
        ({"image": "", "cameras": {"a/b": "/image"}}, "cameras: 'a/b' is no name of a column"),
        ({"joint_states": ""}, "joint_states: needs joint_names or vectors, and they need joint_states"),
        ({"pair_tolerance_s": -1.0}, "pair_tolerance_s: must be from 0 to 1, got -1"),
        ({"action_space": "base"}, "action_space: 'base' is unknown; known: joint_delta, ee_delta, other"),
        (
            {"action_space": "base", "limit": [], "channels": [{"name": "x"}]},
            "command: 'base' needs the topic of its actions (Float64MultiArray)",
        ),
        ({"channels": [{"name": "x"}]}, "limit: must be given, or `channels` in its place"),
        ({"limit": [], "channels": [{"name": "x"}]}, "channels: joint_delta has its own; leave them out or choose"),
        (
            {
                "limit": [],
                "action_space": "base",
                "command": "/base",
                "channels": [{"name": "x", "low": 1.0, "high": 0.0}],
            },
            "channels[0]: channel 'x': low 1 must be below high 0, both finite",
        ),
        ({"jitter_s": 0.025}, "jitter_s: must be from 0 to below half a control step, 0.025 s"),
        ({"control_hz": 0.0}, "control_hz: must be from 0.01 to 1000, got 0"),
        ({"max_episode_s": 1e300}, "max_episode_s: must be from 1e-06 to 1e+06, got 1e+300"),
        ({"image_size": 100_000}, "image_size: must be from 8 to 2048, got 100000"),
        ({"image_encoding": "rgb"}, "image_encoding: must be one of rgb8, bgr8, "),
        ({"continuous_joints": ["elbow"]}, "continuous_joints: 'elbow' is none of joint_names"),
        ({"command": "/image"}, "topics: the same one is named twice"),
    ],
)
def test_settings_that_do_not_fit_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], right: str
) -> None:
    bag = write_bag(tmp_path / "bag", camera(range(5)))
    status, _ = run(tmp_path, bag, **settings)
    assert status == 2
    assert right in capsys.readouterr().err


def test_the_example_fits_what_the_launch_file_records(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(range(25)) + joints(1.2))
    example = ROOT / "config" / "rosbag.yaml"
    out = tmp_path / "data.h5"
    assert main(["import", "--from", "rosbag", str(bag), "--out", str(out), "--config", str(example)]) == 0
    assert EpisodeDataset.open(out).pixels.shape == (24, 96, 96, 3)
