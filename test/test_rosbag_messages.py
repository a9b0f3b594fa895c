"""Recordings whose topics hold more than a row needs: what the nodes skip, the importer skips, and both count it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

pytest.importorskip("rosbags", reason="recordings need the extra: pip install -e '.[rosbag]'")

from recordings import Message, image, joint_state, number, numbers, seconds, trajectory, twist, write_bag

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
STEPS, STEP_S = 21, 0.05
FINGERS = ("finger_left", "finger_right")
RATE_RAD_S = 0.4 * np.arange(1.0, 8.0) / 7.0


def positions(time_s: float) -> NDArray[np.float64]:
    return PANDA.home_rad + RATE_RAD_S * time_s


def arm(moments: Sequence[float], at: Callable[[float], Any] = positions) -> list[Message]:
    return [("/joint_states", seconds(t) + 1, joint_state(seconds(t), at(t))) for t in moments]


def hertz(rate: int, begin_s: float = 0.0, end_s: float = 1.0) -> list[float]:
    return [k / rate for k in range(round(begin_s * rate), round(end_s * rate) + 1)]


def camera() -> list[Message]:
    rgb = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    return [
        ("/image", seconds(STEP_S * k) + 2, image(seconds(STEP_S * k), np.roll(rgb, k, axis=0))) for k in range(STEPS)
    ]


def gripper(moments: Sequence[float]) -> list[Message]:
    return [("/joint_states", seconds(t) + 1, joint_state(seconds(t), [0.02, 0.03], FINGERS)) for t in moments]


def run(folder: Path, messages: list[Message], *options: str, **settings: Any) -> tuple[int, dict[str, Any], Path]:
    """Import a recording of the messages; returns status, figures by topic and the dataset's path."""
    folder.mkdir(exist_ok=True)
    config, out, found = folder / "topics.yaml", folder / "data.h5", folder / "figures.json"
    config.write_text(yaml.safe_dump(SETTINGS | settings), encoding="utf-8")
    source = write_bag(folder / "take", messages)
    command = ["import", "--from", "rosbag", str(source), "--out", str(out), "--config", str(config), *options]
    status = main([*command, "--json", str(found)])
    return status, json.loads(found.read_text())["topics"] if status == 0 else {}, out


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "lewm import: " in line)
    return line.partition("lewm import: ")[2]


# Joint states

UNNAMED = "none of the joints is named; received:"


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        (gripper(hertz(50)), f"{UNNAMED} finger_left, finger_right"),
        (
            [("/joint_states", seconds(0.5), joint_state(seconds(0.5), [], []))],
            f"{UNNAMED} none",
        ),
        # Of another clock: its stamps would be a jump, if they counted.
        (
            [("/joint_states", seconds(0.5), joint_state(7, [0.0], ["lid"]))],
            f"{UNNAMED} lid",
        ),
    ],
    ids=["gripper", "empty", "another clock"],
)
def test_joint_states_of_other_joints_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[Message], reason: str
) -> None:
    status, topics, out = run(tmp_path, camera() + arm(hertz(100)) + others)
    assert status == 0
    data = EpisodeDataset.open(out)
    assert data.lengths.tolist() == [STEPS - 1]
    expected = [positions(STEP_S * k) for k in range(STEPS - 1)]
    np.testing.assert_allclose(data.columns["proprio"][:], expected, rtol=1e-6)
    figures = topics["/joint_states"]
    assert figures["received"] == 101 + len(others)
    assert figures["dropped"] == {"of other joints": len(others)}
    assert figures["first_reasons"] == {"of other joints": reason}
    assert f"{len(others)} of other joints (the first: {reason})" in capsys.readouterr().out


def test_ages_and_gaps_are_those_of_the_arm_alone(tmp_path: Path) -> None:
    # From 0.5 to 0.8 s only the gripper speaks: a pause of 0.3 s, and 0.2 s are allowed.
    states = arm(hertz(100, end_s=0.5)) + arm(hertz(100, begin_s=0.8))
    status, topics, out = run(tmp_path, camera() + states + gripper(hertz(50)))
    assert status == 0
    assert topics["/joint_states"]["largest_gap_s"] == pytest.approx(0.3)
    # Frames from 0 to 0.5 s and from 0.8 to 1 s; the last of each has no action.
    assert EpisodeDataset.open(out).lengths.tolist() == [10, 4]


def test_where_all_are_of_other_joints_the_first_reason_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = run(tmp_path, camera() + gripper(hertz(50)))
    assert status == 2
    right = f"no usable message on /joint_states, 51 of other joints (the first: {UNNAMED} finger_left, finger_right)"
    assert right in refusal(capsys)


# Commands


def target(time_s: float) -> NDArray[np.float64]:
    return positions(time_s) + 0.01


def stream(extra: Sequence[float] = (), names: Sequence[str] = PANDA.joint_names) -> list[Message]:
    """At every step a trajectory to where the joints are to be at its end."""
    return [
        ("/command", seconds(STEP_S * k), trajectory(None, [(STEP_S, [*target(STEP_S * (k + 1)), *extra])], names))
        for k in range(STEPS)
    ]


WRONG = {
    "empty": trajectory(None, []),
    "nameless": trajectory(None, [], []),
    "of one joint": trajectory(None, [(0.1, [9.0])], PANDA.joint_names[:1]),
    "of the gripper": trajectory(None, [(0.1, [0.04, 0.04])], FINGERS),
    "of a joint twice": trajectory(None, [(0.1, [9.0] * 8)], [*PANDA.joint_names, PANDA.joint_names[0]]),
    "times stand still": trajectory(None, [(0.1, [9.0] * 7), (0.1, [9.5] * 7)]),
    "positions missing": trajectory(None, [(0.1, [9.0] * 6)]),
    "positions too many": trajectory(None, [(0.1, [9.0] * 8)]),
    "no positions": trajectory(None, [(0.1, [])]),
    "not a number": trajectory(None, [(0.1, [math.nan] * 7)]),
    "velocities missing": trajectory(None, [(0.1, [9.0] * 7)], velocities=[[0.0] * 6]),
    "velocities not finite": trajectory(None, [(0.1, [9.0] * 7)], velocities=[[math.inf] * 7]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_trajectories_that_the_controller_does_not_follow_change_nothing(tmp_path: Path, wrong: Any) -> None:
    commands = [*stream(), ("/command", seconds(0.512), wrong)]
    status, topics, out = run(tmp_path, camera() + arm(hertz(100)) + commands, command="/command")
    assert status == 0
    actions = EpisodeDataset.open(out).columns["action"][1:]
    np.testing.assert_allclose(actions, np.tile(RATE_RAD_S * STEP_S, (len(actions), 1)), atol=1e-6)
    assert sum(topics["/command"]["dropped"].values()) == 1


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_the_simulated_controllers_skip_the_same(wrong: Any) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")
    from lewm_ros.nodes.sim.command_input import Trajectory
    from lewm_ros.nodes.subscriptions import Input

    source: Input[Any] = Input("joint_trajectory")
    if source.concerns(wrong.joint_names, PANDA.joint_names):
        source.read(lambda: Trajectory(wrong, 0, np.zeros((3, 7))))
        assert source.error
    else:
        assert source.skipped == 1


def test_joints_beyond_those_of_the_dataset_are_left_out(tmp_path: Path) -> None:
    names = ("finger", *PANDA.joint_names[::-1])
    commands = [
        ("/command", seconds(STEP_S * k), trajectory(None, [(STEP_S, [0.02, *target(STEP_S * (k + 1))[::-1]])], names))
        for k in range(STEPS)
    ]
    status, _, out = run(tmp_path, camera() + arm(hertz(100)) + commands, command="/command")
    assert status == 0
    actions = EpisodeDataset.open(out).columns["action"][1:]
    np.testing.assert_allclose(actions, np.tile(RATE_RAD_S * STEP_S, (len(actions), 1)), atol=1e-6)


def test_where_all_commands_are_rejected_the_first_reason_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [("/command", seconds(STEP_S * k), WRONG["of one joint"]) for k in range(STEPS)]
    status, _, _ = run(tmp_path, camera() + arm(hertz(100)) + commands, command="/command")
    assert status == 2
    right = "no usable message on /command, 21 rejected (the first: joint 'panda_joint2' is missing; received: panda"
    assert right in refusal(capsys)


@pytest.mark.parametrize("wrong", [[0.0] * 6, [math.nan] * 7, []], ids=str)
def test_numbers_that_the_controller_does_not_take_change_nothing(tmp_path: Path, wrong: list[float]) -> None:
    commands = [("/command", seconds(STEP_S * k), numbers(target(STEP_S * k))) for k in range(STEPS)]
    commands.append(("/command", seconds(0.512), numbers(wrong)))
    status, topics, out = run(tmp_path, camera() + arm(hertz(100)) + commands, command="/command")
    assert status == 0
    assert topics["/command"]["dropped"] == {"rejected": 1}
    actions = EpisodeDataset.open(out).columns["action"][1:]
    np.testing.assert_allclose(actions, np.tile(RATE_RAD_S * STEP_S, (len(actions), 1)), atol=1e-6)


HAND = {"action_space": "ee_delta", "command": "/command", "gripper": "/gripper", "limit": [0.1] * 6 + [1.0]}
VELOCITY = [0.1, 0.2, -0.1, 0.5, 0.0, -0.5]


def hand() -> list[Message]:
    twists = [("/command", seconds(STEP_S * k), twist(seconds(STEP_S * k), VELOCITY)) for k in range(STEPS)]
    return [*twists, ("/gripper", seconds(-0.1), number(1.0))]


def test_twists_and_gripper_commands_that_are_no_numbers_change_nothing(tmp_path: Path) -> None:
    wrong = [
        ("/command", seconds(0.512), twist(seconds(0.512), [math.nan] * 6)),
        ("/gripper", seconds(0.512), number(math.nan)),
    ]
    status, topics, out = run(tmp_path, camera() + arm(hertz(100)) + hand() + wrong, **HAND)
    assert status == 0
    assert [topics[name]["dropped"] for name in ("/command", "/gripper")] == [{"rejected": 1}] * 2
    actions = EpisodeDataset.open(out).columns["action"][1:]
    expected = np.tile([*np.multiply(VELOCITY, STEP_S), 1.0], (len(actions), 1))
    np.testing.assert_allclose(actions, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (
            ("/command", seconds(0.5), twist(seconds(0.5), VELOCITY, "tool")),
            "/command: the twist is in frame 'tool', exp",
        ),
        (("/gripper", seconds(0.5), number(80.0)), "/gripper: gripper command 80.0 is not between -1 (open) and +1"),
    ],
)
def test_commands_that_were_followed_but_are_of_another_kind_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: Message, right: str
) -> None:
    commands = [entry for entry in hand() if entry[:2] != wrong[:2]]
    messages = camera() + arm(hertz(100)) + [*commands, wrong]
    status, _, _ = run(tmp_path, messages, **HAND, twist_frame="panda_link0")
    assert status == 2
    assert refusal(capsys).startswith(right)


# Continuous joints

TURN_RAD = 2.0 * math.pi
TURNING = [PANDA.joint_names[0], PANDA.joint_names[2]]


def turning(time_s: float) -> NDArray[np.float64]:
    """Joint 1 passes pi at 0.51 s, joint 3 is two turns further down."""
    return positions(time_s) + np.array([math.pi - 0.51 * RATE_RAD_S[0], 0.0, -2.0 * TURN_RAD, 0.0, 0.0, 0.0, 0.0])


def as_told(time_s: float) -> NDArray[np.float64]:
    """Within a turn, as the driver of joint 1 tells it."""
    told = turning(time_s)
    told[0] = (told[0] + math.pi) % TURN_RAD - math.pi
    return told


@pytest.mark.parametrize("commanded", [False, True], ids=["measured", "commanded"])
def test_continuous_joints_are_followed(tmp_path: Path, commanded: bool) -> None:
    commands = [
        ("/command", seconds(STEP_S * k), trajectory(None, [(STEP_S, as_told(STEP_S * (k + 1)))])) for k in range(STEPS)
    ]
    messages = camera() + arm(hertz(100), as_told) + (commands if commanded else [])
    status, _, out = run(tmp_path, messages, continuous_joints=TURNING, command="/command" if commanded else "")
    assert status == 0
    data = EpisodeDataset.open(out)
    first = STEPS - 1 - len(data.columns["action"])
    expected = np.array([turning(STEP_S * k) for k in range(first, STEPS - 1)])
    expected[:, 2] += 2.0 * TURN_RAD
    np.testing.assert_allclose(data.columns["proprio"][:], expected, atol=1e-6)
    actions = data.columns["action"][1:]
    np.testing.assert_allclose(actions, np.tile(RATE_RAD_S * STEP_S, (len(actions), 1)), atol=1e-6)
    assert data.meta["continuous_joints"] == TURNING


def test_a_wrap_that_is_not_declared_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, _ = run(tmp_path, camera() + arm(hertz(100), as_told), continuous_joints=TURNING[1:])
    assert status == 2
    # At 0.057 rad/s, 0.01 s before it passes pi, and 0.04 s later.
    right = "/joint_states: joint 'panda_joint1' wraps from 3.141 to -3.139 rad (declare it in continuous_joints) in"
    assert refusal(capsys).startswith(right)


def test_positions_of_many_turns_that_are_not_declared_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = run(tmp_path, camera() + arm(hertz(100), as_told), continuous_joints=TURNING[:1])
    assert status == 2
    line = refusal(capsys)
    assert "beyond 2 pi" in line
    assert "continuous_joints" in line


# Images that do not say their colours


def test_images_that_say_no_more_than_their_size_are_read_as_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = camera() + arm(hertz(100))
    for topic, _, message in messages:
        if topic == "/image":
            message.encoding = "8UC3"
    status, _, _ = run(tmp_path, messages)
    assert status == 2
    assert "image_encoding" in refusal(capsys)
    status, _, _ = run(tmp_path / "rgb", messages, image_encoding="rgb8")
    assert status == 0
    rgb = EpisodeDataset.open(tmp_path / "rgb" / "data.h5").pixels[0]
    status, _, _ = run(tmp_path / "bgr", messages, image_encoding="bgr8")
    assert status == 0
    np.testing.assert_array_equal(EpisodeDataset.open(tmp_path / "bgr" / "data.h5").pixels[0], rgb[..., ::-1])
