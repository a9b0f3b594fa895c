"""VLA-Arena's published demonstrations become datasets, upright and at their true rate; contradictions are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from vla_arena_files import SCALE, SIZE, STEPS, Demo, make_demo, write_hdf5, write_lerobot

from lewm_training.__main__ import main
from lewm_training.data import EpisodeDataset, open_datasets

CONFIG = Path(__file__).parents[1] / "config"
HALF_TURN = (0.0, 1.0, 0.0, 0.0)
"""About x, as a quaternion w, x, y, z."""

DEMOS = [make_demo(number) for number in range(3)]
"""Of 40 rows each; a hand that follows what is asked of it."""


def declare(folder: Path, name: str, **changes: Any) -> Path:
    """The shipped YAML, frames as they are, with some changes."""
    declared = yaml.safe_load((CONFIG / f"vla_arena_{name}.yaml").read_text()) | {"image_size": SIZE} | changes
    (folder / "import.yaml").write_text(yaml.safe_dump(declared))
    return folder / "import.yaml"


def run(source: Path, config: Path, out: Path) -> int:
    kind = "lerobot" if (source / "meta").exists() else "robomimic"
    return main(["import", "--from", kind, str(source), "--config", str(config), "--out", str(out)])


def assert_holds(dataset: EpisodeDataset, demos: list[Demo]) -> None:
    """What was written, in m and rad, upright, 20 rows per second."""
    for episode, demo in enumerate(demos):
        rows = dataset.rows(episode)
        np.testing.assert_allclose(dataset.columns["action"][rows], demo.actions * SCALE, atol=1e-6)
        np.testing.assert_allclose(dataset.columns["ee_position"][rows], demo.position_m, atol=1e-6)
        np.testing.assert_allclose(dataset.columns["gripper"][rows][:, 0], demo.opening_m, atol=1e-6)
        np.testing.assert_allclose(dataset.columns["ee_quaternion"][rows], [HALF_TURN] * len(demo.actions), atol=1e-6)
        for camera in ("scene", "wrist"):
            np.testing.assert_array_equal(dataset.frames[camera][rows], demo.frames)
    assert dataset.spec.action_space.describe() == "'ee_delta' (x, y, z, rx, ry, rz, gripper) at 20 Hz"
    assert dataset.spec.vectors["gripper"] == ("panda_finger_joint1",)


def test_regenerated_files_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "level_0"
    folder.mkdir()
    write_hdf5(folder / "pick_the_apple_demo.hdf5", DEMOS[:2])
    write_hdf5(folder / "pick_the_lemon_demo.hdf5", DEMOS[2:])
    assert run(folder, declare(tmp_path, "hdf5"), tmp_path / "out.h5") == 0
    dataset = EpisodeDataset.open(tmp_path / "out.h5")
    assert_holds(dataset, DEMOS)
    np.testing.assert_allclose(dataset.columns["proprio"][:STEPS], DEMOS[0].joints, atol=1e-6)
    sources = [note["source"] for note in dataset.meta["episodes"]]
    assert sources == ["pick_the_apple_demo/demo_0", "pick_the_apple_demo/demo_1", "pick_the_lemon_demo/demo_0"]


def test_created_files_hold_what_was_observed_after_the_action(tmp_path: Path) -> None:
    """Of rows 0 to 38 with what was observed at 1 to 39, actions 1 to 38 begin from what was observed at 1 to 38."""
    after = [demo.observed_after() for demo in DEMOS]
    source = write_hdf5(tmp_path / "demo.hdf5", after, created=True, wrist="eye_in_hand_rgb")
    cameras = {"scene": "obs/agentview_rgb", "wrist": "obs/eye_in_hand_rgb"}
    config = declare(tmp_path, "hdf5", observed="after", cameras=cameras)
    assert run(source, config, tmp_path / "out.h5") == 0
    true = [replace(demo, **{name: values[1:-1] for name, values in vars(demo).items()}) for demo in DEMOS]
    assert_holds(EpisodeDataset.open(tmp_path / "out.h5"), true)


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_lerobot_folders_are_mirrored_and_name_half_their_rate(tmp_path: Path, version: str) -> None:
    source = write_lerobot(tmp_path / "theirs", DEMOS, version)
    assert run(source, declare(tmp_path, "lerobot"), tmp_path / "out.h5") == 0
    dataset = EpisodeDataset.open(tmp_path / "out.h5")
    assert_holds(dataset, DEMOS)
    np.testing.assert_allclose(dataset.columns["timestamp_s"][:STEPS], np.arange(STEPS) / 20, atol=1e-6)
    assert [note["tasks"] for note in dataset.meta["episodes"]] == [["pick the apple"]] * 3


def test_both_layouts_of_the_same_demonstrations_differ_in_the_joints_alone(tmp_path: Path) -> None:
    hdf5, lerobot = write_hdf5(tmp_path / "demo.hdf5", DEMOS), write_lerobot(tmp_path / "theirs", DEMOS)
    vectors = yaml.safe_load((CONFIG / "vla_arena_hdf5.yaml").read_text())["vectors"]
    del vectors["proprio"]
    assert run(hdf5, declare(tmp_path, "hdf5", vectors=vectors), tmp_path / "one.h5") == 0
    assert run(lerobot, declare(tmp_path, "lerobot"), tmp_path / "two.h5") == 0
    joined = open_datasets([tmp_path / "one.h5", tmp_path / "two.h5"])
    assert_holds(joined, DEMOS + DEMOS)


def changed(**scales: float) -> Callable[[Demo], Demo]:
    """A demonstration with some of its commands multiplied."""
    places = {"x": 0, "y": 1, "z": 2, "gripper": 6}

    def change(demo: Demo) -> Demo:
        actions = demo.actions.copy()
        for name, scale in scales.items():
            actions[:, places[name]] *= scale
        return replace(demo, actions=actions)

    return change


def every_other(demo: Demo) -> Demo:
    return replace(demo, **{name: values[::2] for name, values in vars(demo).items()})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(gripper=-1.0), "the gripper closes where the action's 'gripper' opens it, in 100% of rows"),
        (changed(y=-1.0), "the action's 'y' goes against the hand's motion"),
        (Demo.observed_after, "the action of the next row asks for; observed: after would be right"),
        (every_other, "per row, motion.response says 0.27: rows are at another rate than control_hz, or action_scale"),
    ],
)
@pytest.mark.parametrize("layout", ["hdf5", "lerobot"])
def test_what_the_content_contradicts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, spoil: Callable[[Demo], Demo], message: str
) -> None:
    demos = [spoil(make_demo(number, 80)) for number in range(3)]
    write = write_hdf5 if layout == "hdf5" else write_lerobot
    source = write(tmp_path / "theirs", demos)
    assert run(source, declare(tmp_path, layout), tmp_path / "out.h5") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize(
    ("attributes", "changes", "message"),
    [
        ({}, {"flip": ""}, "its images are in the convention 'opengl'; flip: vertical would be right"),
        ({"macros_image_convention": "opencv"}, {}, "its images are in the convention 'opencv'; no flip would be"),
        ({"env_args": '{"env_kwargs": {"control_freq": 10}}'}, {}, "its control_freq is 10, control_hz is 20"),
        ({"num_demos": 5}, {}, "holds 3 demonstrations, num_demos is 5; was it cut short?"),
        ({}, {"action": "obs/actions"}, "column 'obs/actions' is missing; found actions, dones, language_instruction"),
        ({}, {"control_hz": None}, "missing key 'control_hz'"),
    ],
)
def test_what_the_file_says_of_itself_is_compared(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    attributes: dict[str, Any],
    changes: dict[str, Any],
    message: str,
) -> None:
    source = write_hdf5(tmp_path / "demo.hdf5", DEMOS, created=True)
    with h5py.File(source, "r+") as file:
        file["data"].attrs.update(attributes)
    assert run(source, declare(tmp_path, "hdf5", **changes), tmp_path / "out.h5") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_rate_that_a_folder_states_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_lerobot(tmp_path / "theirs", DEMOS)
    for changes, message in (
        ({"stated_hz": None}, "control_hz is 20, the dataset's fps is 10"),
        ({"stated_hz": 30}, "stated_hz is 30, the dataset's fps is 10"),
    ):
        assert run(source, declare(tmp_path, "lerobot", **changes), tmp_path / "out.h5") == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_bad_episodes_and_other_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = declare(tmp_path, "hdf5"), tmp_path / "out.h5"
    source = write_hdf5(tmp_path / "demo.hdf5", DEMOS)
    with h5py.File(source, "r+") as file:
        del file["data/demo_1/obs/agentview_rgb"]
        file["data/demo_1/obs/agentview_rgb"] = DEMOS[1].frames[:-3]
    assert run(source, config, out) == 2
    assert "'obs/agentview_rgb' has 37 frames, there are 40 actions, in episode demo/demo_1" in capsys.readouterr().err
    recorded = tmp_path / "recorded.hdf5"  # by collect_demonstration.py
    with h5py.File(recorded, "w") as file:
        file["data/demo_1/actions"], file["data/demo_1/states"] = DEMOS[0].actions, np.zeros((STEPS, 9))
    assert run(recorded, config, out) == 2
    assert "found actions, states; nothing observed is in it, only actions" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", config, out) == 2
    assert "holds no file that ends in .hdf5 or .h5" in capsys.readouterr().err


def test_a_hand_that_hardly_moves_contradicts_nothing(tmp_path: Path) -> None:
    still = [replace(demo, actions=0.0 * demo.actions, position_m=0.0 * demo.position_m) for demo in DEMOS]
    assert run(write_hdf5(tmp_path / "demo.hdf5", still), declare(tmp_path, "hdf5"), tmp_path / "out.h5") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": "diagonal"}, "flip: must be one of vertical, horizontal, got 'diagonal'"),
        ({"observed": "later"}, "observed: must be one of before, after, got 'later'"),
        ({"motion": {"position": "hand"}}, "motion.position: 'hand' is none of the vectors"),
        ({"motion": {"position": "ee_position", "opening": "grip"}}, "motion.opening: 'grip' is none of the vectors"),
        ({"vectors": {"q": {"column": "obs/ee_ori", "rotation": "euler"}}}, "one of rotation_vector, quaternion_xyzw"),
        ({"stated_hz": 10, "control_hz": None}, "stated_hz: needs `control_hz`"),
    ],
)
def test_what_cannot_be_declared_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    source = write_hdf5(tmp_path / "demo.hdf5", DEMOS)
    assert run(source, declare(tmp_path, "hdf5", **changes), tmp_path / "out.h5") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_quaternions_of_either_order_are_read(tmp_path: Path) -> None:
    """A quarter of a turn about z is (cos 45, 0, 0, sin 45) as w, x, y, z; its rotation vector is (0, 0, pi / 2)."""
    turned = [replace(demo, turn_rad=np.tile([0.0, 0.0, np.pi / 2], (STEPS, 1))) for demo in DEMOS]
    source = write_hdf5(tmp_path / "demo.hdf5", turned)
    with h5py.File(source, "r+") as file:
        for number in range(len(DEMOS)):
            file[f"data/demo_{number}/obs/quat"] = np.tile([0.0, 0.0, 0.5**0.5, 0.5**0.5], (STEPS, 1))
    vectors = {
        "ee_position": {"column": "obs/ee_pos"},
        "gripper": {"column": "obs/gripper_states", "indices": [0]},
        "one": {"column": "obs/ee_ori", "rotation": "rotation_vector"},
        "two": {"column": "obs/quat", "rotation": "quaternion_xyzw"},
    }
    assert run(source, declare(tmp_path, "hdf5", vectors=vectors), tmp_path / "out.h5") == 0
    dataset = EpisodeDataset.open(tmp_path / "out.h5")
    for name in ("one", "two"):
        np.testing.assert_allclose(dataset.columns[name][0], [0.5**0.5, 0.0, 0.0, 0.5**0.5], atol=1e-6)
