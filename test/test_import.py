"""`lewm import` and `lewm export` as a user runs them: columns of other names, bad episodes, kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from toy_dataset import META, toy_columns

from lewm_training.__main__ import main
from lewm_training.data import EpisodeDataset

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
    assert {name: dataset.meta[name] for name in META} == META
    assert not out.with_suffix(".parts").exists()


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
        ({"limit": [0.001] * 7}, "declared limit 0.001 (another unit, or set limit) in episode 0, row 0"),
        ({"limit": [0.05] * 6}, "limit: must have 7 numbers, got 6"),
        ({"angles": "grad"}, "angles: must be one of radians, degrees, got 'grad'"),
        ({"angles": "degrees"}, "'observation' is declared in degrees, but stays within"),
        ({"control_hz": None}, "missing key 'control_hz'; the file does not say it"),
        ({"minimum_steps": 20}, "only 19 control steps, fewer than 20, in episode 0"),
        ({"colour": "red"}, "unknown key 'colour'"),
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


def test_an_import_with_other_settings_does_not_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_foreign(tmp_path / "theirs.h5"), tmp_path / "ours.h5"
    command = ["import", "--from", "hdf5", source, "--out", out, "--config", tmp_path / "import.yaml"]
    declare(tmp_path, minimum_steps=20)
    assert lewm(*command) == 2
    declare(tmp_path, image_size=8)
    assert lewm(*command) == 2
    assert "ours.parts: holds episodes recorded with other settings" in capsys.readouterr().err


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
    parts = out.with_suffix(".parts")
    deadline_s = time.monotonic() + 60.0
    while len(list(parts.glob("*.h5"))) < 20 and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert 20 <= len(list(parts.glob("*.h5"))) < episodes

    with h5py.File(parts / "000000.h5", "r+") as part:
        part.attrs["meta"] = json.dumps({"source": "0", "kept": True})
    (parts / "000199.writing").write_bytes(b"half an episode")
    assert lewm(*command, "--out", out) == 0
    assert lewm(*command, "--out", whole) == 0
    interrupted, straight = contents(out), contents(whole)
    assert interrupted.pop("notes") == [{"source": "0", "kept": True}, *straight.pop("notes")[1:]]
    assert interrupted.keys() == straight.keys()
    for name, column in straight.items():
        np.testing.assert_array_equal(interrupted[name], column, err_msg=name)
