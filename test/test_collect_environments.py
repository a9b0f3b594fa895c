"""Environments that no file of the project knows go the whole way; one in another process may be killed on it."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
import yaml
from toy_training import NANO_RECIPE

from lewm_ros.environments.environment import EnvironmentGone
from lewm_training.__main__ import main
from lewm_training.collect.recording import CollectConfig, collect
from lewm_training.collect.workers import over_processes
from lewm_training.data import EpisodeDataset

# A task of Gymnasium with three cameras and four numbers to an action


class Lift(gymnasium.Env):
    """A dot is moved in a plane, brightened, and shown by three cameras, one of which is upside down."""

    def __init__(self) -> None:
        self.action_space = gymnasium.spaces.Box(-0.2, 0.2, (4,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-2.0, 2.0, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        start, goal = self.np_random.uniform(-1.0, 1.0, (2, 4))
        options = options or {}
        self.dot, self.goal = np.array(options.get("dot", start)), np.array(options.get("goal", goal))
        return self._now()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.dot = np.clip(self.dot + action, -1.0, 1.0)
        distance = float(np.linalg.norm(self.dot - self.goal))
        dot, info = self._now()
        return dot, -distance, distance < 0.1, False, info

    def _now(self) -> tuple[np.ndarray, dict]:
        frame = np.zeros((32, 32, 3), np.uint8)
        x, y = (16 + 12 * self.dot[:2]).astype(int)
        frame[y - 2 : y + 3, x - 2 : x + 3] = 150 + 100 * self.dot[2:3]
        cameras = {"front": frame, "back": frame[::-1].copy(), "above": np.rot90(frame).copy()}
        return self.dot.copy(), {**cameras, "goal": self.goal.copy()}


gymnasium.register("made_up/Lift-v0", entry_point=Lift)

LIFT = {
    "adapter": "gymnasium",
    "id": "made_up/Lift-v0",
    "channels": [{"name": name, "kind": "velocity", "unit": "m/s"} for name in ("x", "y", "light", "wheel")],
    "cameras": {name: f"info.{name}" for name in ("front", "back", "above")},
    "vectors": {"dot": "observation"},
    "control_hz": 10.0,
    "budget_steps": 10,
    "record_steps": 30,
    "goal_state": "info.goal",
    "start_option": "dot",
    "goal_option": "goal",
    "distance": "-reward",
    "unit": "m",
    "success": "terminated",
}


def lewm(capfd: pytest.CaptureFixture, *arguments: object) -> str:
    """What a command prints."""
    assert main([str(argument) for argument in arguments]) == 0, capfd.readouterr().err
    return capfd.readouterr().out


def test_a_made_up_task_goes_from_collecting_to_scores(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    task, recipe, data, run = (tmp_path / name for name in ("lift.yaml", "nano.yaml", "lift.h5", "run"))
    task.write_text(yaml.safe_dump(LIFT))
    recipe.write_text(yaml.safe_dump(NANO_RECIPE | {"inputs": {"cameras": ["front", "above"], "vectors": ["dot"]}}))
    collect(CollectConfig(str(task), episodes=4, image_size=32), data, one_after_the_other)
    dataset = EpisodeDataset.open(data)
    assert dataset.spec.cameras == {name: f"pixels_{name}" for name in ("front", "back", "above")}
    assert dataset.spec.action_space.names == ("x", "y", "light", "wheel")
    np.testing.assert_array_equal(dataset.frames["back"][0], dataset.frames["front"][0][::-1])

    lewm(capfd, "train", "--dataset", data, "--config", recipe, "--out", run)
    info = json.loads((run / "model.json").read_text())
    assert [camera["name"] for camera in info["inputs"]["cameras"]] == ["front", "above"]
    assert [channel["name"] for channel in info["action_space"]["channels"]] == ["x", "y", "light", "wheel"]

    report = tmp_path / "eval.json"
    search = tmp_path / "search.yaml"
    search.write_text(
        yaml.safe_dump(
            {"solver": "cem", "samples": 8, "elites": 2, "iterations": 1, "horizon": 2, "knots_per_block": 2}
        )
    )
    command = ["eval", "--task", task, "--checkpoint", run / "model", "--planner", search, "--episodes", 2]
    lewm(capfd, *command, "--json", report)
    figures = json.loads(report.read_text())
    assert (figures["episodes"], figures["unit"], figures["cycles"]) == (2, "m", 20)
    assert 0.0 <= figures["random_success_rate"] <= 1.0
    assert figures["start_distance_m"]["median"] > 0.0


# A world in another Python, which dies


WORLD = '''
import os
import pathlib
import numpy as np

class World:
    """A number that grows; its process ends in the middle of some episodes, as often as a file says."""
    def __init__(self, deaths, image_size=8, **_):
        self.deaths, self.size, self.place, self.number = pathlib.Path(deaths), image_size, 0.0, 0
    def describe(self):
        channels = [{"name": "x", "kind": "delta", "unit": "m", "low": -1.0, "high": 1.0}]
        return {"name": "line", "channels": channels, "control_hz": 10.0, "cameras": ["top"],
                "vectors": {"place": ["x"]}, "budget_steps": 5}
    def observe(self):
        return {"frames": {"top": np.full((self.size, self.size, 3), self.number, np.uint8)},
                "vectors": {"place": np.array([self.place])}}
    def labels(self):
        return {}
    def step(self, action):
        self.place += float(action[0])
        if self.number == 2:
            left = int(self.deaths.read_text())
            if left:
                self.deaths.write_text(str(left - 1))
                os.kill(os.getpid(), 9)
    def record(self, number, seed):
        self.rng, self.place, self.number = np.random.default_rng(seed), 0.0, number
        return {"steps": 6, "notes": {}}
    def act(self):
        return self.rng.uniform(-1.0, 1.0, 1)
'''


def one_after_the_other(work, numbers):  # type: ignore[no-untyped-def]
    return ((number, work(number)) for number in numbers)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another Python, which has numpy and none of this project, and a world."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    for part in Path(np.__file__).parents[1].glob("numpy*"):
        if part.name in ("numpy", "numpy.libs"):
            (site / part.name).symlink_to(part)
    (folder / "world.py").write_text(WORLD)
    return folder


@pytest.fixture
def line(elsewhere: Path, tmp_path: Path) -> Iterator[tuple[CollectConfig, Path]]:
    """What to collect from the world, and the file that says how often it is yet to die."""
    deaths, task = tmp_path / "deaths", elsewhere / f"{tmp_path.name}.yaml"
    python = {"python": "venv/bin/python", "factory": "world:World", "path": ["."], "start_s": 30.0, "answer_s": 20.0}
    task.write_text(yaml.safe_dump({"adapter": "remote", "arguments": {"deaths": str(deaths)}, **python}))
    deaths.write_text("0")
    yield CollectConfig(str(task), episodes=5, image_size=16), deaths


def rows(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


def test_a_killed_environment_is_made_again_and_its_episode_repeated(
    line: tuple[CollectConfig, Path], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    config, deaths = line
    whole = rows(collect(config, tmp_path / "whole.h5", one_after_the_other))
    deaths.write_text("1")
    capfd.readouterr()
    killed = rows(collect(config, tmp_path / "killed.h5", one_after_the_other))
    said = [text for text in "".join(capfd.readouterr()).splitlines() if "begun anew" in text]
    assert len(said) == 1
    assert "episode 2: task" in said[0]
    assert "its process has ended (status -9)" in said[0]
    for name, column in whole.items():
        np.testing.assert_array_equal(killed[name], column)


def test_an_environment_that_always_dies_is_given_up_and_finished_episodes_are_kept(
    line: tuple[CollectConfig, Path], tmp_path: Path
) -> None:
    config, deaths = line
    out = tmp_path / "line.h5"
    deaths.write_text("1000")
    command = [sys.executable, "-m", "lewm_training", "collect", "--task", config.task, "--episodes", "5"]
    command += ["--image-size", "16", "--processes", "1", "--out", str(out)]
    failed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert failed.returncode == 2
    last = failed.stderr.strip().splitlines()[-1]
    assert "episode 2: " in last
    assert "given up after 3 attempts" in last
    parts = out.with_name("line.h5.parts")
    kept = {part.name: part.stat().st_mtime_ns for part in parts.glob("*.h5")}
    assert {"000000.h5", "000001.h5"} <= set(kept)
    deaths.write_text("0")
    collect(config, out, over_processes(1))
    with h5py.File(out) as file:
        assert file["ep_len"][:].tolist() == [6] * 5


def test_the_errors_of_a_lost_environment_reach_the_one_who_collects(
    line: tuple[CollectConfig, Path], tmp_path: Path
) -> None:
    config, deaths = line
    deaths.write_text("1000")
    with pytest.raises(EnvironmentGone, match=r"episode 2: .*status -9"):
        collect(config, tmp_path / "line.h5", over_processes(2))
