"""`lewm import` and `lewm export` as a user runs them: columns of other names, bad episodes, kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from test_outputs import held_elsewhere
from toy_dataset import META, toy_columns

from lewm_ros.robot.arm_actions import joint_delta
from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset, EpisodeError
from lewm_training.data.spec import DatasetSpec
from lewm_training.data.writing import Episode, Source, import_episodes

EPISODES, STEPS = 6, 20
DECLARED = {
    "action_space": "joint_delta",
    "angles": "radians",
    "limit": META["limit"],
    "joint_names": META["joint_names"],
    "control_hz": 20,
    "pixels": "camera",
    "action": "command",
    "state": "observation",
    "labels": {"ee_position": "tip"},
}


def write_foreign(path: Path, episodes: int = EPISODES, steps: int = STEPS, **changes: Any) -> Path:
    """A file as stable-worldmodel's writer leaves it: one chunk per frame, other names, channels first, floats."""
    columns = [toy_columns(number, steps) for number in range(episodes)]
    joined = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
    joined["action"][steps - 1 :: steps] = np.nan
    stored = {
        "camera": (joined["pixels"].transpose(0, 3, 1, 2) / 255.0).astype(np.float32),
        "command": joined["action"],
        "observation": joined["proprio"],
        "tip": joined["ee_position"],
        "ep_len": np.full(episodes, steps, np.int32),
        "ep_offset": np.arange(episodes) * steps,
        **changes,
    }
    with h5py.File(path, "w", libver="latest") as file:
        for name, values in stored.items():
            file.create_dataset(name, data=values, chunks=(1, *values.shape[1:]))
    return path


def declare(folder: Path, **changes: Any) -> Path:
    (folder / "import.yaml").write_text(yaml.safe_dump({**DECLARED, **changes}))
    return folder / "import.yaml"


def lewm(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_foreign_file_becomes_a_dataset(tmp_path: Path) -> None:
    source, out = write_foreign(tmp_path / "theirs.h5"), tmp_path / "ours.h5"
    figures = tmp_path / "figures.json"
    config = declare(tmp_path)
    assert lewm("import", "--from", "hdf5", source, "--out", out, "--config", config, "--json", figures) == 0
    assert json.loads(figures.read_text())["control_steps"] == EPISODES * (STEPS - 1)
    dataset = EpisodeDataset.open(out)
    for number in range(EPISODES):
        true, rows = toy_columns(number), dataset.rows(number)
        np.testing.assert_array_equal(dataset.pixels[rows], true["pixels"][:-1])
        for name in ("action", "proprio", "ee_position"):
            np.testing.assert_array_equal(dataset.columns[name][rows], true[name][:-1])
    assert dataset.spec == DatasetSpec.of(META, {"proprio"})
    assert parts_of(out) == []


def with_a_wrist_and_a_gripper(path: Path) -> Path:
    """As `write_foreign`, with a second camera, and a gripper as the eighth number of state and action."""
    columns = [toy_columns(number) for number in range(EPISODES)]
    joined = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
    opening = np.linspace(0.0, 0.04, EPISODES * STEPS)[:, None]
    return write_foreign(
        path,
        observation=np.hstack([joined["proprio"], opening]),
        command=np.hstack([joined["action"], opening > 0.02]),
        wrist=joined["pixels"][:, ::2, ::2],
    )


SEVERAL = {
    "cameras": {"scene": "camera", "wrist": "wrist"},
    "pixels": "",
    "state_indices": [*range(7)],
    "vectors": {"gripper": {"column": "observation", "names": ["finger"], "indices": [7]}},
    "limit": [*META["limit"], 1.0],
    "action_scale": [1.0] * 7 + [2.0],
    "action_offset": [0.0] * 7 + [-1.0],
}


def test_several_cameras_vectors_and_a_gripper_channel(tmp_path: Path) -> None:
    source, out = with_a_wrist_and_a_gripper(tmp_path / "theirs.h5"), tmp_path / "ours.h5"
    assert lewm("import", "--from", "hdf5", source, "--out", out, "--config", declare(tmp_path, **SEVERAL)) == 0
    dataset = EpisodeDataset.open(out)
    rows = EPISODES * STEPS
    assert dataset.spec.cameras == {"scene": "pixels_scene", "wrist": "pixels_wrist"}
    assert dataset.spec.vectors == {"proprio": tuple(META["joint_names"]), "gripper": ("finger",)}
    assert dataset.spec.action_space == joint_delta(META["joint_names"], META["limit"], 20.0, gripper=True)
    for number in range(EPISODES):
        pixels = toy_columns(number)["pixels"]
        np.testing.assert_array_equal(dataset.frames["scene"][dataset.rows(number)], pixels)
        np.testing.assert_array_equal(dataset.frames["wrist"][dataset.rows(number)], pixels[:, ::2, ::2])
    np.testing.assert_allclose(dataset.columns["gripper"][:, 0], np.linspace(0.0, 0.04, rows), atol=1e-7)
    # Half of the rows open, half closed: 0 and 1 there, -1 and +1 here.
    assert dataset.columns["action"][:, 7].tolist() == [-1.0] * (rows // 2) + [1.0] * (rows // 2)


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    drive = np.random.default_rng(0).uniform(-0.5, 0.5, (EPISODES * STEPS, 4)).astype(np.float32)
    source, out = write_foreign(tmp_path / "theirs.h5", command=drive), tmp_path / "ours.h5"
    channels = [{"name": name, "kind": "velocity", "unit": "m/s", "low": -0.5, "high": 0.5} for name in "abcd"]
    own = {"action_space": "drive", "channels": channels, "limit": [], "labels": {}, "state": "", "joint_names": []}
    assert lewm("import", "--from", "hdf5", source, "--out", out, "--config", declare(tmp_path, **own)) == 0
    dataset = EpisodeDataset.open(out)
    assert dataset.spec.action_space is not None
    assert (dataset.spec.action_space.name, dataset.spec.action_space.names) == ("drive", tuple("abcd"))
    assert dataset.spec.vectors == {}
    np.testing.assert_array_equal(dataset.columns["action"], drive)


def test_bad_episodes_are_counted_when_they_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    action = np.concatenate([toy_columns(number)["action"] for number in range(EPISODES)])
    action[2 * STEPS + 5, 3] = np.nan
    source, out = write_foreign(tmp_path / "theirs.h5", command=action), tmp_path / "ours.h5"
    command = ["import", "--from", "hdf5", source, "--out", out, "--config", declare(tmp_path)]
    assert lewm(*command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "lewm import: action is not finite in episode 2, row 5; --skip-bad leaves such episodes out"
    figures = tmp_path / "figures.json"
    assert lewm(*command, "--skip-bad", "--json", figures) == 0
    said = json.loads(figures.read_text())
    assert (said["episodes"], said["skipped_episodes"]) == (EPISODES - 1, 1)
    assert said["skipped"] == {"2": "action is not finite in episode 2, row 5"}
    assert len(EpisodeDataset.open(out).lengths) == EPISODES - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": "image"}, "column 'image' is missing; found camera, command"),
        ({"limit": [0.001] * 7}, "declared limit -0.001 to 0.001 (another unit, or set limit) in episode 0, row 0"),
        ({"limit": [0.05] * 6}, "limit: must have 7 numbers, one per joint, got 6"),
        ({"angles": "grad"}, "angles: must be one of radians, degrees, got 'grad'"),
        ({"angles": "degrees"}, "'observation' is declared in degrees, but stays within"),
        ({"control_hz": None}, "missing key 'control_hz'; the file does not say it"),
        ({"minimum_steps": 20}, "only 19 control steps, fewer than 20, in episode 0"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"cameras": {"scene": "camera"}}, "cameras: must name the columns of the cameras, or `pixels` that of the"),
        ({"pixels": "", "cameras": {"a/b": "camera"}}, "cameras: 'a/b' is no name of a column"),
        ({"joint_names": []}, "joint_names: joint_delta needs the joints and their names"),
        ({"vectors": {"action": {"column": "tip"}}}, "vectors: 'action' is a column of the dataset itself"),
        ({"vectors": {"tip": {"column": "tip", "names": ["x"]}}}, "tip has 3 numbers and 1 names in episode 0"),
        ({"vectors": {"tip": {"column": "tip", "names": ["x", "x"]}}}, "names: each only once, got x, x"),
        ({"vectors": {"ee_position": {"column": "tip"}}}, "labels: 'ee_position' is a column of the dataset itself"),
        ({"channels": [{"name": "x"}]}, "limit: must be given, or `channels` in its place"),
        (
            {"limit": [], "channels": [{"name": "x", "low": 1.0, "high": -1.0}]},
            "channels[0]: channel 'x': low 1 must be below high -1, both finite",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    source = write_foreign(tmp_path / "theirs.h5")
    config = declare(tmp_path, **changes)
    assert lewm("import", "--from", "hdf5", source, "--out", tmp_path / "ours.h5", "--config", config) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lewm import: ")
    assert message in error
    assert not (tmp_path / "ours.h5").exists()


def test_missing_and_present_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_foreign(tmp_path / "theirs.h5")
    assert lewm("import", "--from", "hdf5", tmp_path / "no.h5", "--out", tmp_path / "ours.h5") == 2
    assert "no.h5: no such file or folder" in capsys.readouterr().err
    assert lewm("import", "--from", "hdf5", source, "--out", source) == 2
    assert "theirs.h5: exists already" in capsys.readouterr().err
    assert lewm("import", "--from", "hdf5", source, "--out", tmp_path / "ours.h5") == 2
    assert "--config FILE is needed" in capsys.readouterr().err
    assert lewm("export", "--to", "hdf5", source, "--out", tmp_path / "ours.h5") == 2
    assert "--to hdf5: can only be imported" in capsys.readouterr().err


def test_a_file_that_was_never_finished_is_not_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_foreign(tmp_path / "theirs.h5"), tmp_path / "ours.h5"
    with h5py.File(source, "r+") as file:
        file.attrs["incomplete"] = True  # as a writer of this project leaves it that is killed
    assert lewm("import", "--from", "hdf5", source, "--out", out, "--config", declare(tmp_path)) == 2
    assert "theirs.h5: was never finished" in capsys.readouterr().err
    assert not out.exists()


def parts_of(out: Path) -> list[Path]:
    """Finished episodes that wait for the rest."""
    return sorted(out.with_name(f"{out.name}.parts").glob("*.h5"))


def spoil(source: Path, episode: int) -> None:
    with h5py.File(source, "r+") as file:
        file["command"][episode * STEPS + 3, 0] = np.inf


def test_an_import_that_finished_nothing_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_foreign(tmp_path / "theirs.h5"), tmp_path / "ours" / "ours.h5"
    command = ["import", "--from", "hdf5", source, "--out", out, "--config", tmp_path / "import.yaml"]
    declare(tmp_path, limit=[0.001] * 7)
    assert lewm(*command) == 2
    assert "declared limit -0.001 to 0.001" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []
    declare(tmp_path)
    assert lewm(*command) == 0
    assert list(out.parent.iterdir()) == [out]


def test_finished_episodes_of_other_settings_are_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_foreign(tmp_path / "theirs.h5"), tmp_path / "ours.h5"
    command = ["import", "--from", "hdf5", source, "--out", out, "--config", tmp_path / "import.yaml"]
    spoil(source, 2)
    declare(tmp_path)
    assert lewm(*command) == 2
    assert len(parts_of(out)) == 2
    capsys.readouterr()
    declare(tmp_path, image_size=8)
    assert lewm(*command) == 2
    assert capsys.readouterr().err == (
        f"lewm import: {out}.parts: holds 2 finished episodes of other settings (image_size: None, now 8); "
        "remove it to begin again, or choose another --out\n"
    )
    assert len(parts_of(out)) == 2


def test_a_source_that_has_changed_is_read_again(tmp_path: Path) -> None:
    source, out, config = tmp_path / "theirs.h5", tmp_path / "ours.h5", declare(tmp_path)
    command = ["import", "--from", "hdf5", source, "--out", out, "--config", config]
    write_foreign(source)
    spoil(source, 3)
    assert lewm(*command) == 2
    assert len(parts_of(out)) == 3
    columns = [toy_columns(number + 10) for number in range(EPISODES)]
    write_foreign(source, observation=np.concatenate([c["proprio"] for c in columns]))
    assert lewm(*command) == 0
    dataset = EpisodeDataset.open(out)
    for number in range(EPISODES):
        np.testing.assert_array_equal(dataset.columns["proprio"][dataset.rows(number)], columns[number]["proprio"][:-1])


def test_finished_episodes_of_unchanged_sources_are_kept(tmp_path: Path) -> None:
    out, reads = tmp_path / "ours.h5", []

    def source(state: str, numbers: Iterable[int], bad: int | None = None) -> Source:
        def read(number: int) -> Episode:
            if number == bad:
                raise EpisodeError("the camera fell over")
            reads.append(number)
            return toy_columns(number), {}

        return state, [(str(number), partial(read, number)) for number in numbers]

    def run(*sources: Source) -> None:
        import_episodes(out, sources, {"limit": 1}, DatasetSpec.of(META, {"proprio"}), minimum_steps=1, skip_bad=False)

    with pytest.raises(DatasetError, match="the camera fell over in episode 5"):
        run(source("first", [1, 2]), source("second", [3, 4, 5], bad=5))
    assert reads == [1, 2, 3, 4]
    # The second has been recorded again, with other episodes: nothing of what it was is left.
    run(source("first", [1, 2]), source("second, again", [6]), source("third", [7]))
    assert reads == [1, 2, 3, 4, 6, 7]
    dataset = EpisodeDataset.open(out)
    true = np.concatenate([toy_columns(number)["proprio"] for number in (1, 2, 6, 7)])
    np.testing.assert_array_equal(dataset.columns["proprio"], true)
    assert [note["source"] for note in dataset.meta["episodes"]] == ["1", "2", "6", "7"]


def test_a_second_import_into_the_same_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_foreign(tmp_path / "theirs.h5"), tmp_path / "ours.h5"
    command = ["import", "--from", "hdf5", source, "--out", out, "--config", declare(tmp_path)]
    with held_elsewhere(out) as process:
        assert lewm(*command) == 2
        assert capsys.readouterr().err == f"lewm import: {out}: is being written by another process\n"
        process.kill()
    assert lewm(*command) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["import.yaml", "ours.h5", "theirs.h5"]


@pytest.mark.parametrize("name", ["action", "pixels", "proprio", "timestamp_s", "ep_len", "ep_offset", "a/b", ""])
def test_a_label_cannot_take_the_place_of_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    source, config = write_foreign(tmp_path / "theirs.h5"), declare(tmp_path, labels={name: "tip"})
    assert lewm("import", "--from", "hdf5", source, "--out", tmp_path / "ours.h5", "--config", config) == 2
    assert f"labels: '{name}' is " in capsys.readouterr().err


def test_columns_that_are_not_declared_do_no_harm(tmp_path: Path) -> None:
    source, out = write_foreign(tmp_path / "theirs.h5", ep_len=np.full((EPISODES, 1), STEPS)), tmp_path / "ours.h5"
    with h5py.File(source, "r+") as file:
        file.create_group("env")["x"] = 1
        file["goals"], file["name"] = np.zeros(7), "a run"
    assert lewm("import", "--from", "hdf5", source, "--out", out, "--config", declare(tmp_path)) == 0
    assert len(EpisodeDataset.open(out).lengths) == EPISODES


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"command": np.full((EPISODES * STEPS,), "a", dtype="S1")}, "column 'command' is no column of numbers; found"),
        ({"command": np.zeros((EPISODES * STEPS, 6))}, "action has 6 numbers per row, expected 7 in episode 0"),
        ({"observation": np.zeros((EPISODES * STEPS, 6))}, "proprio has 6 numbers and 7 names in episode 0"),
        ({"tip": np.zeros((3, 3))}, "column 'tip' has 3 rows, the episodes add up to 120"),
        ({"camera": np.zeros((EPISODES * STEPS, 3, 0, 8), np.uint8)}, "column 'camera' has the shape (120, 3, 0, 8)"),
        ({"ep_len": np.full(EPISODES, -STEPS)}, "ep_len of episode 0 is -20, expected a whole number from 0 to 120"),
    ],
)
def test_columns_that_do_not_fit_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stored: dict[str, Any], message: str
) -> None:
    source = tmp_path / "theirs.h5"
    write_foreign(source)
    with h5py.File(source, "r+") as file:
        for name, values in stored.items():
            del file[name]
            file[name] = values
    assert lewm("import", "--from", "hdf5", source, "--out", tmp_path / "o.h5", "--config", declare(tmp_path)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line and "|" not in line]
    assert len(said) == 1
    assert message in said[0]


def test_a_joint_that_turns_without_end_goes_the_shortest_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 0.04 rad a row from 3.0 on: past pi after four rows. The source gives it within one turn.
    turned = 3.0 + 0.04 * (np.arange(EPISODES * STEPS) % STEPS)
    joints = np.zeros((EPISODES * STEPS, 7))
    joints[:, 0] = (turned + np.pi) % (2 * np.pi) - np.pi
    source, out = write_foreign(tmp_path / "theirs.h5", observation=joints), tmp_path / "ours.h5"
    command = ["import", "--from", "hdf5", source, "--out", out, "--config", tmp_path / "import.yaml"]
    declare(tmp_path, actions="measured")
    assert lewm(*command) == 2
    name = META["joint_names"][0]
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"joint '{name}' wraps from 3.12 to -3.123 rad (declare it in continuous_joints) in episode 0, row 4" in said
    declare(tmp_path, actions="measured", continuous_joints=[name])
    assert lewm(*command) == 0
    dataset = EpisodeDataset.open(out)
    np.testing.assert_allclose(dataset.columns["action"][:, 0], 0.04, atol=1e-6)
    np.testing.assert_allclose(dataset.columns["proprio"][:, 0], turned.reshape(-1, STEPS)[:, :-1].ravel(), atol=1e-6)
    assert dataset.meta["continuous_joints"] == [name]


def contents(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        meta = json.loads(file.attrs["meta"])
        return {"notes": meta.pop("episodes"), "meta": meta} | {name: column[:] for name, column in file.items()}


def test_an_import_that_is_killed_goes_on_to_the_same_file(tmp_path: Path) -> None:
    episodes = 200
    source, config = write_foreign(tmp_path / "theirs.h5", episodes), declare(tmp_path)
    out, whole = tmp_path / "killed.h5", tmp_path / "whole.h5"
    command = ["import", "--from", "hdf5", str(source), "--config", str(config)]
    process = subprocess.Popen([sys.executable, "-m", "lewm_training", *command, "--out", str(out)])
    parts = out.with_name("killed.h5.parts")
    deadline_s = time.monotonic() + 60.0
    while len(list(parts.glob("*.h5"))) < 20 and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert 20 <= len(list(parts.glob("*.h5"))) < episodes

    first = parts_of(out)[0]
    with h5py.File(first, "r+") as part:
        part.attrs["meta"] = json.dumps({"source": "0", "kept": True})
    first.with_name(first.name.replace("000000.h5", "000199.h5.writing")).write_bytes(b"half an episode")
    assert lewm(*command, "--out", out) == 0
    assert lewm(*command, "--out", whole) == 0
    interrupted, straight = contents(out), contents(whole)
    assert interrupted.pop("notes") == [{"source": "0", "kept": True}, *straight.pop("notes")[1:]]
    assert interrupted.keys() == straight.keys()
    for name, column in straight.items():
        np.testing.assert_array_equal(interrupted[name], column, err_msg=name)
