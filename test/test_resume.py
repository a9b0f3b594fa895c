"""A run that is stopped, at whatever moment, goes on to the same end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from conftest import small_model_config
from test_outputs import held_elsewhere
from toy_training import assert_same_state, state_of, toy_config, toy_trainer, write_bars

from lewm_ros.config import ConfigError, to_mapping
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_training.__main__ import main
from lewm_training.data.locking import OutputError


class PulledPlug(Exception):
    """The machine stops, wherever it is."""


@pytest.fixture(scope="module")
def dataset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def straight(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs without a break."""
    folder = tmp_path_factory.mktemp("straight")
    toy_trainer(dataset_path, folder).run()
    return folder


@pytest.fixture(scope="module")
def first_half(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of the two."""
    folder = tmp_path_factory.mktemp("half")
    toy_trainer(dataset_path, folder).run(until=1)
    return folder


def figures_of(folder: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in e.items() if not k.endswith(("_s", "_share"))} for e in entries]


def assert_same_run(one: Path, other: Path) -> None:
    assert_same_state(state_of(one), state_of(other))
    assert figures_of(one) == figures_of(other)
    weights = [load_checkpoint(folder / "model").model.state_dict() for folder in (one, other)]
    assert_same_state(*map(dict, weights))


def test_ten_epochs_are_five_and_five(dataset_path: Path, tmp_path: Path) -> None:
    model = small_model_config()
    model = replace(model, predictor=replace(model.predictor, dropout=0.1))
    recipe = {"epochs": 10, "ema": 0.9, "model": model, "anchored_fraction": 0.25}
    toy_trainer(dataset_path, tmp_path / "straight", **recipe).run()
    toy_trainer(dataset_path, tmp_path / "halves", **recipe).run(until=5)
    assert state_of(tmp_path / "halves")["epoch"] == 5
    toy_trainer(dataset_path, tmp_path / "halves", **recipe).run()
    assert_same_run(tmp_path / "straight", tmp_path / "halves")


@pytest.mark.parametrize("renames", range(7))
def test_stopped_between_any_two_of_its_writes_a_run_goes_on(
    renames: int, dataset_path: Path, straight: Path, first_half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Going on rewrites log, weights and their description; the epoch's end writes these and the state.
    stopped, rename, done = tmp_path / "stopped", os.replace, []
    shutil.copytree(first_half, stopped)
    finished = figures_of(stopped)

    def pull_the_plug(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise PulledPlug
        done.append(target)
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(PulledPlug):
        patch.setattr(os, "replace", pull_the_plug)
        toy_trainer(dataset_path, stopped).run()
    assert figures_of(stopped)[:1] == finished
    assert state_of(stopped)["epoch"] == 1
    toy_trainer(dataset_path, stopped).run()
    assert_same_run(straight, stopped)


def test_a_run_goes_on_with_its_dataset_wherever_that_lies(
    dataset_path: Path, straight: Path, first_half: Path, tmp_path: Path
) -> None:
    shutil.copytree(first_half, tmp_path / "run")
    moved = shutil.copyfile(dataset_path, tmp_path / "moved.h5")
    toy_trainer(moved, tmp_path / "run").run()
    assert_same_state(state_of(straight), state_of(tmp_path / "run"))


def test_a_run_does_not_go_on_with_another_dataset_of_the_same_name(
    dataset_path: Path, first_half: Path, tmp_path: Path
) -> None:
    shutil.copytree(first_half, tmp_path / "run")
    replaced = shutil.copyfile(dataset_path, tmp_path / dataset_path.name)
    with h5py.File(replaced, "r+") as file:
        file["action"][100, 0] *= np.float32(0.5)
    with pytest.raises(ConfigError, match=r"run: was started with another dataset; choose another --out"):
        toy_trainer(replaced, tmp_path / "run").run()
    assert figures_of(tmp_path / "run") == figures_of(first_half)


def test_two_do_not_train_in_one_folder(dataset_path: Path, tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path / "run"),
        pytest.raises(OutputError, match="run: is being written by another process"),
    ):
        toy_trainer(dataset_path, tmp_path / "run").run()
    assert not (tmp_path / "run").exists()
    toy_trainer(dataset_path, tmp_path / "run").run(until=1)
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_killed_command_loses_nothing_finished_and_goes_on(dataset_path: Path, tmp_path: Path) -> None:
    recipe = {"epochs": 12, "ema": 0.9}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(to_mapping(toy_config(**recipe))))))
    out, log = tmp_path / "run", tmp_path / "run" / "metrics.jsonl"
    options = ["--dataset", dataset_path, "--config", tmp_path / "toy.yaml", "--out", out, "--device", "cpu"]
    command = [sys.executable, "-m", "lewm_training", "train", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline_s = time.monotonic() + 120.0
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finished = figures_of(out)
    assert 3 <= len(finished) < 12
    assert state_of(out)["epoch"] in (len(finished) - 1, len(finished))  # the log is written before the state
    assert main(["train", *map(str, options)]) == 0
    assert figures_of(out)[: len(finished)] == finished
    assert [entry["epoch"] for entry in figures_of(out)] == list(range(1, 13))
    toy_trainer(dataset_path, tmp_path / "straight", **recipe).run()
    assert_same_run(tmp_path / "straight", out)
