"""The paper's tasks: walls that hold, states that are put back, protocols on states, pairs that are frozen.

Environments that need the extra `bench` are left out where it is not installed.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from conftest import random_model
from toy_training import NANO_RECIPE

from lewm_ros.config import ConfigError
from lewm_ros.environments import make_environment
from lewm_ros.environments.environment import STATE, Array, RestorableEnvironment
from lewm_ros.environments.paper_tasks import criteria
from lewm_ros.environments.paper_tasks.protocols import GOAL_STEPS, PROTOCOLS, Criterion, Verdict, criteria_of
from lewm_ros.environments.paper_tasks.rooms import RELEASED, Rooms
from lewm_ros.model.checkpoint import Checkpoint
from lewm_training.__main__ import main
from lewm_training.collect.recording import CollectConfig, collect
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge.journal import Journal
from lewm_training.judge.pairs import FrozenPairs, Split, draw_pairs

PACKAGES = {
    "pusht": ("stable_worldmodel", "pymunk"),
    "tworoom": ("stable_worldmodel",),
    "reacher": ("stable_worldmodel", "dm_control"),
    "cube": ("stable_worldmodel", "ogbench"),
}
"""What the tasks' own environments need."""


def environment_of(task: str) -> RestorableEnvironment:
    for package in PACKAGES[task]:
        pytest.importorskip(package, reason="needs the extra `bench`")
    return make_environment(task, image_size=32)


# States that are put back


@pytest.mark.parametrize(("task", "within"), [("pusht", 1e-9), ("tworoom", 1e-4), ("reacher", 1e-9), ("cube", 5e-3)])
def test_a_recorded_state_is_put_back_and_the_same_actions_lead_to_the_goal(task: str, within: float) -> None:
    environment = environment_of(task)
    recording = environment.record(0, np.random.default_rng(2))
    states, actions = [environment.labels()[STATE]], []
    for _ in range(12):
        actions.append(recording.behaviour.act())
        environment.step(actions[-1])
        states.append(environment.labels()[STATE])
    environment.reset(environment.between(states[4], states[-1]))
    assert environment.score().value > 0.0
    np.testing.assert_allclose(environment.labels()[STATE], states[4], atol=1e-9)
    (goal,) = environment.goals()
    np.testing.assert_allclose(environment.labels()[STATE], states[4], atol=1e-9)
    for action in actions[4:]:
        environment.step(action)
    position = slice(0, 17) if task == "cube" else slice(None)  # what moves in the gripper's springs is left out
    np.testing.assert_allclose(environment.labels()[STATE][position], states[-1][position], atol=within)
    assert (
        np.abs(
            environment.observe().frames[environment.cameras[0]].astype(int) - goal.frames[environment.cameras[0]]
        ).mean()
        < 1
    )
    environment.close()


@pytest.mark.parametrize("task", ["reacher", "cube"])
def test_an_episode_follows_its_seed(task: str) -> None:
    environment = environment_of(task)

    def states(seed: int) -> Array:
        behaviour, seen = environment.record(0, np.random.default_rng(seed)).behaviour, []
        for _ in range(6):
            environment.step(behaviour.act())
            seen.append(environment.labels()[STATE])
        return np.stack(seen)

    first = states(3)
    np.testing.assert_array_equal(states(3), first)
    assert np.abs(states(4) - first).max() > 0.05
    environment.close()


def test_reacher_goes_on_where_its_pose_is_reached() -> None:
    environment = environment_of("reacher")
    state = np.array([0.4, 1.0, 0.0, 0.0])
    environment.reset(environment.between(state, state))
    for _ in range(3):
        environment.step(np.zeros(2))
        assert environment.score().success  # at rest in the pose: within 0.05 rad
        np.testing.assert_allclose(environment.labels()[STATE], state, atol=1e-6)
    environment.close()


def test_the_fingers_place_is_that_of_the_simulation() -> None:
    environment = environment_of("reacher")
    environment.reset(environment.between(np.array([0.7, -1.3, 0.0, 0.0]), np.zeros(4)))
    known = environment._env.unwrapped.info["finger_pos"]
    np.testing.assert_allclose(criteria.reacher_finger_m(np.array([0.7, -1.3, 0.0, 0.0])), known, atol=1e-9)
    environment.close()


# Walls that hold: x from 100 to 124 is the wall for the disk's centre, and its doorway y from 42 to 56


@pytest.mark.parametrize(
    ("start", "wanted", "reached"),
    [
        ((95.0, 120.0), (130.0, 120.0), (100.0, 120.0)),  # straight on: stopped at the wall, 5 px on
        ((95.0, 120.0), (110.0, 150.0), (100.0, 150.0)),  # slanting: stopped across, slides along
        ((95.0, 49.0), (130.0, 49.0), (130.0, 49.0)),  # through the middle of the doorway
        ((95.0, 57.0), (130.0, 49.0), (130.0, 49.0)),  # slanting through it: at x = 100, y = 57 - 8 / 7 is below 56
        ((95.0, 65.0), (130.0, 49.0), (100.0, 49.0)),  # ends in line with it, but meets the wall at y = 62.7
        ((110.0, 49.0), (115.0, 70.0), (115.0, 56.0)),  # within it: its side stops the disk
        ((205.0, 100.0), (230.0, 100.0), (203.0, 100.0)),  # the border
    ],
)
def test_the_whole_disk_is_swept(start: tuple[float, float], wanted: tuple[float, float], reached: Array) -> None:
    end = RELEASED.move(np.array(start), np.array(wanted))
    np.testing.assert_allclose(end, reached, atol=2e-3)
    assert RELEASED.is_free(end)


def test_a_way_is_legal_if_no_part_of_it_is_in_the_wall() -> None:
    left, right, door = np.array([90.0, 120.0]), np.array([130.0, 120.0]), np.array([112.0, 49.0])
    assert not RELEASED.is_legal(left, right)
    assert not RELEASED.is_legal(left, door)  # meets the wall at x = 100, y = 87.7
    assert RELEASED.is_legal(np.array([90.0, 49.0]), np.array([130.0, 49.0]))
    assert RELEASED.is_legal(left, np.array([90.0, 40.0]))
    assert not RELEASED.is_free(np.array([20.0, 100.0]))  # the border is at 21


def test_no_action_leads_through_the_wall_of_tworoom() -> None:
    environment = environment_of("tworoom")
    assert Rooms.of(environment._env.unwrapped) == RELEASED
    start = np.array([99.0, 52.0])
    environment.reset(environment.between(start, np.array([180.0, 60.0])))
    for _ in range(30):
        environment.step(np.array([1.0, 0.3]))  # down along the wall, past the doorway's end at 56
        start, before = environment.labels()[STATE], start
        assert RELEASED.is_legal(before.astype(float), start.astype(float))
    environment.close()


def test_the_released_environment_lets_the_same_step_through() -> None:
    environment_of("tworoom").close()
    released = gymnasium.make("swm/TwoRoom-v1", disable_env_checker=True).unwrapped
    slant = np.array([1.0, -1.0], np.float32)
    released.reset(seed=0, options={"state": np.array([98.0, 60.0], np.float32)})
    released.step(slant)  # 5 px each way: it ends at (103, 55), in line with the doorway; at x = 100 it was at y = 58
    assert released.agent_position[0] > 102.0
    assert RELEASED.move(np.array([98.0, 60.0]), np.array([103.0, 55.0]))[0] < 100.0


# Criteria


def pusht(pusher: tuple[float, float] = (0, 0), block: tuple[float, float] = (0, 0), degrees: float = 0.0) -> Array:
    return np.array([*pusher, *block, math.radians(degrees), 0.0, 0.0])


@pytest.mark.parametrize(
    ("state", "pose", "block"),
    [
        (pusht(pusher=(19, 0)), True, True),
        (pusht(pusher=(15, 0), block=(15, 0)), False, False),  # together 21.2 px
        (pusht(block=(0, 9.9)), True, True),
        (pusht(block=(0, 10)), True, False),
        (pusht(pusher=(300, 0)), False, True),
        (pusht(degrees=351), True, True),  # 9 degrees the other way
        (pusht(degrees=15), True, False),
        (pusht(degrees=20.1), False, False),
    ],
)
def test_pusht(state: Array, pose: bool, block: bool) -> None:
    judged = criteria_of("pusht")
    assert judged["paper"].reached(state, pusht()) is judged["moderate"].reached(state, pusht()) is pose
    assert judged["strict"].reached(state, pusht()) is block


@pytest.mark.parametrize(
    ("angles", "paper", "moderate", "strict"),
    [
        ((0.04, -0.04), True, True, True),  # the tip is 0.12 * |0.08 - 0.04| from straight ahead: 0.5 cm
        ((0.049, 0.049), True, True, False),  # 0.12 * (0.049 + 0.098): 1.8 cm
        ((math.tau, 0.0), False, True, True),  # a whole turn of the shoulder
        ((0.0, math.tau), False, False, True),  # the wrist cannot turn like that; the tip is where it was
        ((0.06, -0.12), False, False, True),  # 0.12 * (0.06 - 0.06): the tip moves 0.04 cm, along the arm
    ],
)
def test_reacher(angles: tuple[float, float], paper: bool, moderate: bool, strict: bool) -> None:
    state, judged = np.array([*angles, 0.0, 0.0]), criteria_of("reacher")
    assert [judged[name].reached(state, np.zeros(4)) for name in PROTOCOLS] == [paper, moderate, strict]


def cube(place_m: tuple[float, float, float] = (0, 0, 0), degrees: float = 0.0, axis: int = 2) -> Array:
    half, imaginary = math.radians(degrees) / 2.0, [0.0, 0.0, 0.0]
    imaginary[axis] = math.sin(half)
    return np.array([0.0] * 14 + [*place_m, math.cos(half), *imaginary] + [0.0] * 20)


@pytest.mark.parametrize(
    ("state", "near", "placed"),
    [
        (cube((0.03, 0, 0)), True, True),
        (cube((0.035, 0, 0)), True, False),
        (cube((0.041, 0, 0)), False, False),
        (cube(degrees=90), True, True),  # looks the same
        (cube(degrees=180, axis=0), True, True),
        (cube(degrees=90 + 14), True, True),
        (cube(degrees=16), True, False),
        (cube(degrees=45, axis=1), True, False),
    ],
)
def test_cube(state: Array, near: bool, placed: bool) -> None:
    judged = criteria_of("cube")
    assert judged["paper"].reached(state, cube()) is judged["moderate"].reached(state, cube()) is near
    assert judged["strict"].reached(state, cube()) is placed


def test_a_cube_turned_by_a_right_angle_looks_the_same() -> None:
    assert criteria.cube_turn_deg(cube(degrees=100), cube()) == pytest.approx(10.0)


def test_tworoom() -> None:
    judged, goal = criteria_of("tworoom"), np.array([128.0, 49.0])
    near, nearer, other_side = (np.array([x, 49.0]) for x in (128.0 + 15.9, 128.0 + 7.9, 128.0 - 7.9))
    assert [judged[name].reached(near, goal) for name in PROTOCOLS] == [True, True, False]
    assert [judged[name].reached(nearer, goal) for name in PROTOCOLS] == [True, True, True]
    assert [judged[name].reached(other_side, goal) for name in PROTOCOLS] == [True, True, False]  # in the doorway still
    through = np.stack([np.linspace(90.0, 140.0, 26), np.full(26, 49.0)], axis=1)
    wall = through + np.array([0.0, 60.0])
    assert [judged[name].admits(through) for name in PROTOCOLS] == [True, True, True]
    assert [judged[name].admits(wall) for name in PROTOCOLS] == [True, False, False]
    assert [judged[name].admits(through[:10]) for name in PROTOCOLS] == [True, False, False]  # one room


def test_what_must_be_held_is_held_without_a_break() -> None:
    at, goal = [np.array([float(x)]) for x in (0, 5, 5, 0, 5, 5, 5, 0)], np.array([5.0])
    for held, solved in ((1, True), (3, True), (4, False)):
        verdict = Verdict(Criterion(lambda state, aim: bool(state == aim), held), goal)
        for state in at:
            verdict.saw(state)
        assert verdict.solved is solved
    with pytest.raises(ConfigError, match="task 'reach': protocols are known for pusht, cube, reacher, tworoom"):
        criteria_of("reach")


# Pairs, on episodes of a disk that moves as in TwoRoom; its environment is made up here and needs no extra


class Disk(gymnasium.Env):
    """A disk that goes where it is told, 5 px a step, in the plane of TwoRoom."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gymnasium.spaces.Box(0.0, 224.0, (2,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        self.place = np.asarray(options.get("state", self.np_random.uniform((60.0, 43.0), (90.0, 55.0))), float)
        self.goal = np.asarray(options.get("goal", (140.0, 49.0)), float)
        return self.place, {"goal": self.goal}

    def step(self, action: Array) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + 5.0 * np.asarray(action), 0.0, 224.0)
        away = float(np.linalg.norm(self.place - self.goal))
        return self.place, -away, away < 16.0, False, {"goal": self.goal}

    def render(self) -> Any:
        frame = np.zeros((32, 32, 3), np.uint8)
        x, y = (self.place / 224.0 * 31.0).astype(int)
        frame[y, x] = 255
        return frame


gymnasium.register("lewm/Disk-v0", entry_point=Disk)


def to_the_right(_: Any, rng: np.random.Generator) -> Any:
    """Mostly to the right, through the doorway."""
    return lambda *_: np.array([rng.uniform(0.5, 1.0), rng.uniform(-0.1, 0.1)])


DISK = {
    "adapter": "gymnasium",
    "id": "lewm/Disk-v0",
    "modules": ["test_benchmarks"],
    "channels": [{"name": "x", "kind": "velocity"}, {"name": "y", "kind": "velocity"}],
    "cameras": {"top": "render"},
    "labels": {"state": "observation"},
    "record_steps": 30,
    "policy": "test_benchmarks:to_the_right",
    "goal_state": "info.goal",
    "start_option": "state",
    "goal_option": "goal",
    "distance": "-reward",
    "unit": "px",
    "success": "terminated",
}


def one_after_the_other(work: Any, numbers: Any) -> Any:
    yield from ((number, work(number)) for number in numbers)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a task `tworoom` is described, and the name of the present folder: `tworoom` is it."""
    (tmp_path / "tworoom.yaml").write_text(yaml.safe_dump(DISK))
    monkeypatch.setattr("lewm_ros.environments.registry.SHIPPED", tmp_path)
    return tmp_path


def recorded(folder: Path, name: str = "data.h5", **changes: Any) -> EpisodeDataset:
    config = CollectConfig("tworoom", episodes=12, image_size=32, **changes)
    return EpisodeDataset.open(collect(config, folder / name, one_after_the_other))


def test_every_protocol_gets_its_pairs_which_are_not_solved_where_they_start(disk: Path) -> None:
    dataset = recorded(disk)
    pairs, judged = draw_pairs(dataset, "tworoom", 8, seed=0, validation_fraction=None), criteria_of("tworoom")
    for name in PROTOCOLS:
        assert len(pairs.of(name)) == 8
        assert len({pair.episode for pair in pairs.of(name)}) >= 6  # as many from one episode as from another
        for pair in pairs.of(name):
            row = dataset.offsets[pair.episode] + pair.step
            way = dataset.columns["state"][row : row + GOAL_STEPS + 1].astype(float)
            assert judged[name].admits(way)
            np.testing.assert_array_equal([pair.start, pair.goal], way[[0, -1]])
    assert draw_pairs(dataset, "tworoom", 8, seed=0, validation_fraction=None) == pairs
    assert set(draw_pairs(dataset, "tworoom", 4, seed=0, validation_fraction=None).of("strict")) <= set(
        pairs.of("strict")
    )
    held_out = draw_pairs(dataset, "tworoom", 3, seed=1, validation_fraction=0.4)
    assert {pair.episode for pair in held_out.pairs} <= set(dataset.split(0.4, 1)[1].tolist())
    with pytest.raises(DatasetError, match=r"has \d+ pairs for protocol 'paper', 1000 are asked for"):
        draw_pairs(dataset, "tworoom", 1000, seed=0, validation_fraction=None)


def test_pairs_can_start_where_episodes_do(disk: Path) -> None:
    dataset = recorded(disk)
    # Every disk begins to the left of the wall, and is to its right 25 steps later.
    pairs = draw_pairs(dataset, "tworoom", 5, seed=0, validation_fraction=None, episode_starts=True)
    assert {pair.step for pair in pairs.pairs} == {0}
    assert len({pair.episode for pair in pairs.of("strict")}) == 5
    with pytest.raises(DatasetError, match="has 12 pairs for protocol 'paper', 13 are asked for"):
        draw_pairs(dataset, "tworoom", 13, seed=0, validation_fraction=None, episode_starts=True)


def test_pairs_are_frozen(disk: Path) -> None:
    dataset = recorded(disk)
    pairs, path = draw_pairs(dataset, "tworoom", 3, 0, None), disk / "pairs.json"
    path.write_text(pairs.text())
    assert FrozenPairs.load(path) == pairs
    content = json.loads(path.read_text())
    content["pairs"][0]["goal"][0] += 1.0
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"pairs.json: was changed after it was frozen; draw it again"):
        FrozenPairs.load(path)
    for text in ("[]", "not JSON"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"pairs.json: not a file of `lewm pairs`"):
            FrozenPairs.load(path)
    other = recorded(disk, "other.h5", seed=1)
    with pytest.raises(ConfigError, match=f"were drawn from dataset {dataset.fingerprint}, .*other.h5 is"):
        pairs.require_dataset(other, path)
    pairs.require_dataset(dataset, path)


def test_a_checkpoint_is_not_tried_on_what_it_was_trained_on(disk: Path) -> None:
    dataset = recorded(disk)
    pairs = draw_pairs(dataset, "tworoom", 3, 0, None)
    trained = {"dataset": dataset.provenance, "train": {"validation_fraction": 0.4}, "seed": 1}
    space = make_environment("tworoom").action_space
    model = random_model()
    for provenance in (trained, {"policy": trained}):
        checkpoint = Checkpoint(model, space, name="mine", provenance=provenance)
        with pytest.raises(
            ConfigError, match=r"'mine' was trained on the dataset .* --validation-fraction 0.4 --seed 1"
        ):
            pairs.require_held_out(checkpoint, disk / "pairs.json")
        replace(pairs, split=Split(0.4, 1)).require_held_out(checkpoint, disk / "pairs.json")
    pairs.require_held_out(Checkpoint(model, space), disk / "pairs.json")


def test_a_dataset_of_another_task_has_no_pairs(disk: Path) -> None:
    dataset = recorded(disk)
    with pytest.raises(DatasetError, match="was recorded in task 'tworoom', not 'pusht'"):
        draw_pairs(dataset, "pusht", 3, 0, None)
    without = {name: column for name, column in dataset.columns.items() if name != "state"}
    with pytest.raises(DatasetError, match="has no column 'state'; record it again with `lewm collect --task tworoom`"):
        draw_pairs(replace(dataset, columns=without), "tworoom", 3, 0, None)
    halves = {"qpos": dataset.columns["state"][:, :1], "qvel": dataset.columns["state"][:, 1:]}
    joined = draw_pairs(replace(dataset, columns=without | halves), "tworoom", 3, 0, None)
    assert joined.pairs == draw_pairs(dataset, "tworoom", 3, 0, None).pairs


def test_a_measurement_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "report.json.unfinished"
    Journal(path, {"seed": 1}).keep(3, {"solved": True})
    with path.open("a") as file:
        file.write('{"number": 4, "re')  # cut off
    again = Journal(path, {"seed": 1})
    assert again.finished == {3: {"solved": True}}
    again.keep(5, {"solved": False})
    assert Journal(path, {"seed": 1}).finished == {3: {"solved": True}, 5: {"solved": False}}
    with pytest.raises(ConfigError, match="is of a measurement with other settings; remove it to begin anew"):
        Journal(path, {"seed": 2})
    again.end()
    assert not path.exists()


# The commands

RECIPE = NANO_RECIPE | {"action_block": 5, "behaviour": {"policy": {"width": 16, "depth": 1}}}


def test_from_collecting_to_figures(disk: Path, capfd: pytest.CaptureFixture) -> None:
    recipe, report, pairs = disk / "recipe.yaml", disk / "report.json", disk / "pairs.json"
    recipe.write_text(yaml.safe_dump(RECIPE))
    data, run = recorded(disk).path, disk / "run"
    assert main(["train", "--dataset", str(data), "--config", str(recipe), "--out", str(run)]) == 0
    drawn = ["pairs", "--task", "tworoom", "--dataset", str(data), "--count", "2", "--out", str(pairs)]
    evaluated = ["eval", "--task", "tworoom", "--checkpoint", str(run / "model"), "--pairs", str(pairs)]
    evaluated += ["--dataset", str(data), "--delay-steps", "0", "--set", "actor=policy", "--json", str(report)]
    assert main(drawn) == 0
    capfd.readouterr()
    assert main(evaluated) == 2
    assert "was trained on the dataset of these pairs" in capfd.readouterr().err
    assert main([*drawn, "--validation-fraction", "0.3"]) == 0
    assert main(evaluated) == 0, capfd.readouterr().err
    figures = json.loads(report.read_text())
    assert figures["actor"] == "policy"
    assert figures["judged"].keys() == set(PROTOCOLS)
    for rates in figures["judged"].values():
        assert rates["pairs"] == 2
        assert 0.0 <= rates["ci95"][0] <= rates["success_rate"] <= rates["ci95"][1] <= 1.0
        assert rates["random_success_rate"] in (0.0, 0.5, 1.0)
    assert figures["tried"] == len(figures["by_pair"])
    assert list(disk.glob("*.unfinished")) == []
    chart = disk / "chart.png"
    capfd.readouterr()
    assert main(["compare", str(report), "--figure", str(chart)]) == 0
    table = capfd.readouterr().out.splitlines()
    assert len(table) == 2 + 2 * len(PROTOCOLS)  # what the policy and what the random one make of it
    assert table[2].startswith("| tworoom | paper | policy |")
    assert chart.stat().st_size > 1000
    later = report.with_name("later.json")
    later.write_bytes(report.read_bytes())
    assert main(["compare", str(report), str(later)]) == 0
    table = capfd.readouterr().out.splitlines()
    assert len(table) == 2 + 3 * len(PROTOCOLS)  # two who act alike, and the random one
    assert table[2].startswith(f"| tworoom | paper | policy ({disk / 'report'}) |")
    assert any(line.startswith(f"| tworoom | strict | policy ({disk / 'later'}) |") for line in table)
    later.write_text(json.dumps(json.loads(later.read_text()) | {"pairs_sha256": "0" * 64}))
    assert main(["compare", str(report), str(later)]) == 2
    assert "later.json: of pairs 000000000000, " in capfd.readouterr().err
    assert main(["compare", str(pairs)]) == 2
    assert "pairs.json: not a report of `lewm eval --pairs --json`" in capfd.readouterr().err
    assert main([*evaluated, "--protocol", "strict", "--alone"]) == 0
    assert json.loads(report.read_text())["judged"].keys() == {"strict"}
    capfd.readouterr()
    other = disk / "other.json"
    for ending in (".json", ".safetensors"):
        other.with_suffix(ending).write_bytes((run / "model").with_suffix(ending).read_bytes())
    other.write_text(other.read_text().replace('"name": "x"', '"name": "z"'))
    for change, words in (
        (["--task", "pusht"], "holds pairs of task 'tworoom', not 'pusht'"),
        (["--checkpoint", str(other)], "acts in"),
        (["--transport", "ros"], "--pairs: not together with --transport ros"),
    ):
        assert main([*evaluated, *change]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1, error
        assert words in error, error
