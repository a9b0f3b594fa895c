"""Environments: what each gives, goals that are not touched by looking at them, and those made up here."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import venv
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml

from lewm_ros.config import ConfigError
from lewm_ros.environments import Environment, EnvironmentFailure, make_environment, positions_of
from lewm_ros.environments.environment import check_observation
from lewm_ros.observation.observation import Observation


def first_problem(environment: Environment, seed: int = 1) -> object:
    problem = next(environment.problems(seed))
    environment.reset(problem)
    return problem


def act_at_random(environment: Environment, steps: int, seed: int = 0) -> None:
    behaviour = environment.random(np.random.default_rng(seed))
    for _ in range(steps):
        action = behaviour.act()
        assert (environment.action_space.low <= action).all()
        assert (action <= environment.action_space.high).all()
        environment.step(action)


# The simulated Panda


@pytest.mark.parametrize("task", ["reach", "push", "pick_place"])
def test_looking_at_the_goal_changes_nothing(task: str) -> None:
    environment = make_environment(task, cameras=("scene", "wrist"), image_size=32)
    first_problem(environment)
    act_at_random(environment, 3)
    before, score = check_observation(environment, environment.observe()), environment.score()
    (goal,) = environment.goals()
    after = environment.observe()
    assert not score.success
    assert environment.score() == score
    for name, frame in before.frames.items():
        np.testing.assert_array_equal(after.frames[name], frame)
        assert goal.frames[name].shape == (32, 32, 3)
    np.testing.assert_array_equal(after.vectors["proprio"], before.vectors["proprio"])
    assert np.abs(goal.vectors["proprio"] - before.vectors["proprio"]).max() > 0.05
    environment.close()


def test_joint_deltas_have_positions_and_twists_have_none() -> None:
    joints, hand = (make_environment("push", action_space=name) for name in ("joint_delta", "ee_delta"))
    assert joints.action_space.names[-1] == hand.action_space.names[-1] == "gripper"
    for environment in (joints, hand):
        first_problem(environment)
    observation = joints.observe()
    np.testing.assert_array_equal(positions_of(joints, observation), [*observation.vectors["proprio"], 0.0])
    assert positions_of(hand, hand.observe()) is None


def test_a_gripper_command_that_is_no_number_leaves_it_as_it_is() -> None:
    environment = make_environment("pick_place")
    first_problem(environment)
    close = np.array([0.0] * 6 + [1.0])
    for _ in range(10):
        environment.step(close)
    closed_m = environment.observe().vectors["gripper"][0]
    for _ in range(10):
        environment.step(environment.action_space.rest())
    assert closed_m < 0.005
    assert environment.observe().vectors["gripper"][0] == pytest.approx(closed_m, abs=1e-4)


@pytest.mark.parametrize("action_space", ["ee_delta", "joint_delta"])
def test_the_expert_picks_and_places_in_either_space(action_space: str) -> None:
    environment = make_environment("pick_place", action_space=action_space, noise=0.1)
    recording = environment.record(0, np.random.default_rng(0))
    assert not environment.score().success
    for _ in range(recording.steps):
        action = recording.behaviour.act()
        assert (np.abs(action) <= environment.action_space.high + 1e-12).all()
        environment.step(action)
    assert environment.score().success


def test_reach_is_explored_in_twists_too() -> None:
    environment = make_environment("reach", action_space="ee_delta", image_size=16)
    recording = environment.record(0, np.random.default_rng(0))
    actions = np.stack([recording.behaviour.act() for _ in range(recording.steps)])
    # Noise of half of what is allowed in every channel: shifts, rotations and gripper, each in its own unit.
    np.testing.assert_allclose(actions.std(0) / environment.action_space.high, 0.5, atol=0.25)
    environment.close()


def test_what_the_panda_does_not_have_is_named() -> None:
    for options, words in (
        ({"cameras": ("top",)}, "has scene, wrist, not 'top'"),
        ({"action_space": "torque"}, "acts in joint_delta or ee_delta"),
    ):
        with pytest.raises(ConfigError, match=words):
            make_environment("reach", **options)
    with pytest.raises(ConfigError, match="task 'dance' is unknown; known: reach, push, pick_place"):
        make_environment("dance")


# Gymnasium, with a task made up here


class Valley(gymnasium.Env):
    """A ball in three dimensions and with a tail: four numbers say where it goes; two cameras see it."""

    def __init__(self) -> None:
        self.action_space = gymnasium.spaces.Box(-0.5, 0.5, (4,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        options = options or {}
        start, goal = self.np_random.uniform(-3.0, 3.0, (2, 4))
        self.ball, self.goal = np.array(options.get("ball", start)), np.array(options.get("goal", goal))
        return self.ball.copy(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.ball = self.ball + action
        distance = float(np.linalg.norm(self.ball - self.goal))
        return self.ball.copy(), -distance, distance < 0.5, False, self._info()

    def render(self) -> np.ndarray:
        return self._info()["top"]

    def _info(self) -> dict:
        top = np.zeros((24, 24, 3), np.uint8)
        x, y = np.clip(12 + 3 * self.ball[:2], 0, 23).astype(int)
        top[y, x] = 255
        return {"top": top, "side": top[::-1].copy(), "goal": self.goal.copy()}


gymnasium.register("made_up/Valley-v0", entry_point=Valley)

VALLEY = {
    "adapter": "gymnasium",
    "id": "made_up/Valley-v0",
    "channels": [{"name": name, "kind": kind} for name, kind in zip("xyzt", ["delta"] * 3 + ["velocity"], strict=True)],
    "cameras": {"top": "render", "side": "info.side"},
    "vectors": {"ball": "observation"},
    "labels": {"where": "observation"},
    "control_hz": 5.0,
    "budget_steps": 20,
    "record_steps": 12,
    "goal_state": "info.goal",
    "start_option": "ball",
    "goal_option": "goal",
    "distance": "-reward",
    "unit": "m",
    "success": "terminated",
}


def write_task(folder: Path, name: str = "valley", **changes: object) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(VALLEY | changes, sort_keys=False))
    return str(path)


def test_a_made_up_gymnasium_task(tmp_path: Path) -> None:
    environment = make_environment(write_task(tmp_path), image_size=16)
    assert (environment.name, environment.cameras) == ("valley", ("top", "side"))
    assert environment.vectors == {"ball": ("ball_0", "ball_1", "ball_2", "ball_3")}
    np.testing.assert_array_equal(environment.action_space.high, [0.5] * 4)
    problem = first_problem(environment)
    start = environment.observe().vectors["ball"]
    (goal,) = environment.goals()
    np.testing.assert_allclose(goal.vectors["ball"], problem.goal_state)
    np.testing.assert_array_equal(environment.observe().vectors["ball"], start)
    assert environment.score().value == pytest.approx(np.linalg.norm(start - problem.goal_state))
    for _ in range(20):  # straight to the goal
        environment.step(environment.action_space.clip(problem.goal_state - environment.observe().vectors["ball"]))
    assert environment.score().success
    assert environment.observe().frames["side"].shape == (16, 16, 3)
    np.testing.assert_array_equal(environment.labels()["where"], environment.observe().vectors["ball"])
    again = [p for p, _ in zip(environment.problems(1), range(2), strict=False)]
    assert again == list(itertools.islice(environment.problems(1), 2))
    assert again[0] == problem


@pytest.mark.parametrize(
    ("changes", "options", "error", "words"),
    [
        ({"id": "made_up/Nothing-v0"}, {}, EnvironmentFailure, "made_up/Nothing-v0"),
        ({"modules": ["no_such_package"], "install": "pip install it"}, {}, EnvironmentFailure, "pip install it"),
        ({"channels": VALLEY["channels"][:2]}, {}, EnvironmentFailure, "the task names 2"),
        ({"vectors": {"q": "info.nothing"}}, {}, EnvironmentFailure, "the environment gives no 'info.nothing'"),
        ({"budget_steps": 0}, {}, ConfigError, "budget_steps: must be from 1"),
        ({"colour": "red"}, {}, ConfigError, "unknown key 'colour'"),
        ({"adapter": "telepathy"}, {}, ConfigError, "adapter must be one of gymnasium, remote, got 'telepathy'"),
        ({}, {"cameras": ("back",)}, ConfigError, "has top, side, not 'back'"),
        ({}, {"control_hz": 20.0}, ConfigError, "runs at 5 Hz, not 20"),
        ({}, {"action_space": "ee_delta"}, ConfigError, "acts in 'valley', not 'ee_delta'"),
    ],
)
def test_a_wrong_gymnasium_task_is_named(
    tmp_path: Path, changes: dict, options: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make_environment(write_task(tmp_path, **changes), **options)


@pytest.mark.parametrize(
    ("frames", "vector", "words"),
    [
        ({}, np.zeros(4), "camera 'top' gave nothing"),
        ({"top": np.zeros((4, 4)), "side": np.zeros((4, 4, 3), np.uint8)}, np.zeros(4), r"gave float64 \(4, 4\)"),
        (dict.fromkeys(("top", "side"), np.zeros((4, 4, 3), np.uint8)), np.zeros(3), "expected 4 finite numbers"),
        (dict.fromkeys(("top", "side"), np.zeros((4, 4, 3), np.uint8)), np.full(4, np.nan), "expected 4 finite"),
    ],
)
def test_what_an_environment_must_not_give_is_named(
    tmp_path: Path, frames: dict, vector: np.ndarray, words: str
) -> None:
    environment = make_environment(write_task(tmp_path))
    with pytest.raises(EnvironmentFailure, match=words):
        check_observation(environment, Observation(frames, {"ball": vector}))


# Another process, in a virtual environment of its own

WORLD = '''
import os
import numpy as np

class World:
    """A point in a plane, behind a process that can be told to misbehave."""
    def __init__(self, image_size=8, trouble="", **_):
        print("the world begins")
        if trouble == "refuse":
            raise ValueError("no assets here")
        self.size, self.trouble, self.rng = image_size, trouble, np.random.default_rng(0)
    def describe(self):
        channels = [{"name": n, "kind": "delta", "unit": "m", "low": -0.1, "high": 0.1} for n in "xy"]
        described = {"name": "plane", "channels": channels, "control_hz": 10.0, "cameras": ["top"],
                     "vectors": {"place": ["x", "y"]}, "budget_steps": 30}
        return {**described, "version": 99} if self.trouble == "version" else described
    def problems(self, seed):
        rng = np.random.default_rng(seed)
        while True:
            yield rng.uniform(-1, 1, (2, 2))
    def reset(self, problem):
        self.place, self.goal = problem[0].copy(), problem[1]
    def observe(self):
        frame = np.zeros((self.size, self.size, 3), np.uint8)
        frame[0, 0] = 7
        return {"frames": {"top": frame}, "vectors": {"place": self.place}}
    def goals(self):
        return [{"frames": self.observe()["frames"], "vectors": {"place": self.goal}}]
    def labels(self):
        return {"place_again": self.place}
    def step(self, action):
        if self.trouble == "die":
            os._exit(3)
        if self.trouble == "hang":
            import time; time.sleep(60)
        if self.trouble == "raise":
            raise RuntimeError("the motor is hot")
        self.place = self.place + action
    def score(self):
        d = float(np.linalg.norm(self.place - self.goal))
        return {"value": d, "unit": "m", "success": d < 0.05}
    def record(self, number, seed):
        self.rng = np.random.default_rng(seed)
        self.place = self.rng.uniform(-1, 1, 2)
        return {"steps": 7, "notes": {"number_there": number}}
    def random(self, seed):
        self.rng = np.random.default_rng(seed)
    def act(self):
        return self.rng.uniform(-0.1, 0.1, 2)

class Known(World):
    """The same, by somebody who knows the way, what lies on it, and what it costs."""
    def reset(self, problem):
        super().reset(problem)
        self.cost, self.knows = 0.0, False
    def step(self, action):
        super().step(action)
        self.cost += 0.5
    def score(self):
        score = super().score()
        stages = {"moved": self.cost > 0.0, "there": score["success"]}
        return {**score, "stages": stages, "cost": self.cost, "over": score["success"]}
    def record(self, number, seed):
        problem = np.array([[0.0, 0.0], [0.3, 0.1]])
        self.reset(problem)
        self.expert()
        return {"steps": 7, "problem": problem}
    def expert(self):
        self.knows = True
    def act(self):
        return np.clip(self.goal - self.place, -0.1, 0.1) if self.knows else super().act()
'''


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another Python, which has numpy and none of this project, and a world."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    source = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (source / name).exists():
            (site / name).symlink_to(source / name)
    (folder / "world.py").write_text(WORLD)
    found = subprocess.run(
        [folder / "venv/bin/python", "-c", "import lewm_ros"], capture_output=True, env={}, cwd="/", check=False
    )
    assert found.returncode != 0, "the other Python must not know this project"
    return folder


def plane(folder: Path, trouble: str = "", **changes: object) -> str:
    content = {
        "adapter": "remote",
        "python": "venv/bin/python",
        "factory": "world:World",
        "path": ["."],
        "arguments": {"trouble": trouble},
        "start_s": 20.0,
        "answer_s": 2.0,
    }
    path = folder / "plane.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return str(path)


def test_modules_beside_the_server_hide_none_of_the_other_python(elsewhere: Path) -> None:
    (elsewhere / "gymnasium.py").write_text(WORLD)  # lewm_ros/environments has a gymnasium.py, too
    environment = make_environment(plane(elsewhere, factory="gymnasium:World"), image_size=8)
    assert environment.budget_steps == 30
    environment.close()


def test_an_environment_in_another_python(elsewhere: Path) -> None:
    environment = make_environment(plane(elsewhere), image_size=8)
    assert environment.action_space.names == ("x", "y")
    assert environment.budget_steps == 30
    first, second = itertools.islice(environment.problems(4), 2)
    environment.reset(second)
    goal = environment.goals()[0].vectors["place"]
    environment.reset(first)
    start = check_observation(environment, environment.observe())
    assert start.frames["top"][0, 0].tolist() == [7, 7, 7]
    np.testing.assert_array_equal(positions_of(environment, start), start.vectors["place"])
    expected = np.random.default_rng(4).uniform(-1, 1, (2, 2, 2))
    np.testing.assert_array_equal(start.vectors["place"], expected[0, 0])
    np.testing.assert_array_equal(goal, expected[1, 1])
    environment.step(np.array([0.1, -0.05]))
    np.testing.assert_allclose(environment.labels()["place_again"], expected[0, 0] + [0.1, -0.05])
    assert environment.score().value == pytest.approx(np.linalg.norm(expected[0, 0] + [0.1, -0.05] - expected[0, 1]))
    recording = environment.record(5, np.random.default_rng(0))
    assert (recording.steps, recording.notes) == (7, {"number_there": 5})
    assert recording.problem is None
    assert environment.expert() is None
    act_at_random(environment, 3)
    environment.close()


def test_another_python_may_know_the_way_and_what_lies_on_it(elsewhere: Path) -> None:
    environment = make_environment(plane(elsewhere, factory="world:Known"), image_size=8)
    first_problem(environment)
    score = environment.score()
    assert (dict(score.stages), score.cost, score.over) == ({"moved": False, "there": False}, 0.0, False)
    expert = environment.expert()
    while not (score := environment.score()).over:
        environment.step(expert.act())
    assert score.success
    assert list(score.stages) == ["moved", "there"]
    assert score.cost > 0.0
    recording = environment.record(0, np.random.default_rng(0))
    for _ in range(recording.steps):
        environment.step(recording.behaviour.act())
    assert environment.score().success
    environment.reset(recording.problem)
    np.testing.assert_array_equal(environment.observe().vectors["place"], [0.0, 0.0])
    environment.close()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("die", r"its process has ended \(status 3\): the world begins"),
        ("hang", "no answer to 'step' in time"),
        ("raise", "'step' failed: RuntimeError: the motor is hot"),
    ],
)
def test_a_remote_environment_that_fails_is_named(elsewhere: Path, trouble: str, words: str) -> None:
    environment = make_environment(plane(elsewhere, trouble))
    first_problem(environment)
    with pytest.raises(EnvironmentFailure, match=words):
        environment.step(np.zeros(2))
    environment.close()


def test_a_remote_environment_that_is_killed_is_named(elsewhere: Path) -> None:
    environment = make_environment(plane(elsewhere))
    first_problem(environment)
    os.kill(environment._process.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match=r"its process has ended \(status -9\)"):
        environment.observe()


@pytest.mark.parametrize(
    ("trouble", "changes", "error", "words"),
    [
        ("refuse", {}, EnvironmentFailure, "ValueError: no assets here"),
        ("version", {}, EnvironmentFailure, "speaks version 99, this one 2"),
        ("", {"python": "nowhere/python", "install": "make vla-arena"}, ConfigError, "no interpreter .*make vla-arena"),
        ("", {"factory": "world:Moon"}, EnvironmentFailure, "Moon"),
        ("", {"answer_s": -1.0}, ConfigError, "answer_s: must be from"),
    ],
)
def test_a_remote_environment_that_cannot_be_made_is_named(
    elsewhere: Path, trouble: str, changes: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make_environment(plane(elsewhere, trouble, **changes))
