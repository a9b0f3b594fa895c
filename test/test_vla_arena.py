"""VLA-Arena: its tasks by name, its expert, and the benchmark itself where `make vla-arena` has installed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lewm_ros.config import ConfigError
from lewm_ros.environments import Environment, EnvironmentFailure, make_environment
from lewm_ros.environments.benchmarks.vla_arena_world.behaviours import (
    HAND_DOWN,
    LIMIT,
    ArenaExpert,
    Scene,
    rotation_vector,
    way_to,
)
from lewm_ros.environments.benchmarks.vla_arena_world.tasks import find_task
from lewm_ros.environments.environment import check_observation
from lewm_ros.environments.vla_arena_tasks import EXAMPLE, PYTHON, interpreter

installed = pytest.mark.skipif(not interpreter().exists(), reason="needs VLA-Arena: make vla-arena")


# Without the benchmark


@pytest.mark.parametrize("name", ["vla_arena/", "vla_arena/safety", "vla_arena/a/b/c/d", "vla_arena/a//c"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected vla_arena/SUITE/LEVEL/TASK, such as vla_arena/safety_static"):
        make_environment(name)


def test_what_brings_a_missing_benchmark_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    with pytest.raises(ConfigError, match="no interpreter /nowhere/python; `make vla-arena` brings it"):
        make_environment(EXAMPLE)


@pytest.mark.parametrize(
    ("suite", "level", "task", "words"),
    [
        ("danger", "level_0", "pick", r"suite 'danger' is unknown; installed: safety; `.*tasks install danger --repo"),
        (
            "safety",
            "level_2",
            "pick",
            "'level_2' is no level of safety; installed: level_0, level_1; .* install safety",
        ),
        (
            "safety",
            "level_0",
            "dance",
            "'dance' is unknown; installed in safety/level_0: pick_a_0, pick_b_0; .* brings",
        ),
        ("safety", "level_0", "pick", "task 'pick' can be more than one; installed in safety/level_0: .*pick_b_0$"),
    ],
)
def test_a_task_that_is_not_there_is_named(tmp_path: Path, suite: str, level: str, task: str, words: str) -> None:
    for name in ("level_0/pick_a_0", "level_0/pick_b_0", "level_1/pick_a_1"):
        file = tmp_path / "safety" / f"{name}.bddl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "empty").mkdir()
    assert find_task(tmp_path, "safety", "level_0", "pick_b").name == "pick_b_0.bddl"
    with pytest.raises(ValueError, match=words):
        find_task(tmp_path, suite, level, task)


def test_the_wanted_place_changes_no_faster_than_a_policy_can_learn() -> None:
    target, rng = np.array([0.6, -0.2, 0.02]), np.random.default_rng(0)
    hands = target + rng.uniform([-0.4, -0.4, -0.02], [0.4, 0.4, 0.4], (2000, 3))
    steps = rng.normal(size=hands.shape) * 1e-4
    moved = [way_to(hand + step, target) - way_to(hand, target) for hand, step in zip(hands, steps, strict=True)]
    assert (np.linalg.norm(moved, axis=1) / np.linalg.norm(steps, axis=1)).max() < 15.0


def test_the_way_down_ends_at_the_target() -> None:
    target, hand = np.array([0.6, -0.2, 0.02]), np.array([0.4, 0.1, 0.3])
    for _ in range(200):
        hand = hand + np.clip(way_to(hand, target) - hand, -0.015, 0.015)
    np.testing.assert_allclose(hand, target, atol=1e-3)


def test_noise_comes_in_gusts_and_stays_within_the_limit() -> None:
    scene = Scene(np.zeros(3), HAND_DOWN, np.array([0.3, 0.0, 0.0]), np.array([0.3, 0.3, 0.0]), False, False)
    calm, expert = ArenaExpert(np.random.default_rng(0)), ArenaExpert(np.random.default_rng(0), noise=0.4)
    wanted = calm.act(scene)
    actions = np.stack([expert.act(scene) for _ in range(400)])
    assert (np.abs(actions) <= LIMIT + 1e-12).all()
    off = np.abs(actions[:, 1] - wanted[1]) / LIMIT[1]
    assert 0.1 < np.mean(off < 0.02) < 0.9


def test_a_rotation_vector_turns_back() -> None:
    angle = 0.3
    turn = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(angle), -np.sin(angle)], [0.0, np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(rotation_vector(turn), [angle, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(rotation_vector(np.eye(3)), 0.0)


# With it


@pytest.fixture(scope="module")
def apple() -> Iterator[Environment]:
    environment = make_environment(EXAMPLE, image_size=64)
    yield environment
    environment.close()


@installed
def test_the_expert_solves_what_doing_nothing_does_not(apple: Environment) -> None:
    problem = next(apple.problems(1))
    apple.reset(problem)
    for _ in range(20):
        apple.step(apple.action_space.rest())
    score = apple.score()
    assert not (score.success or score.over or any(score.stages.values()))
    apple.reset(problem)
    expert, steps = apple.expert(), 0
    while not apple.score().over and steps < apple.budget_steps:
        apple.step(expert.act())
        steps += 1
    score = apple.score()
    assert score.success
    assert list(score.stages) == ["touched", "lifted", "near", "safely", "placed"]
    assert all(score.stages.values())
    assert score.cost == 0.0
    for _ in range(10):  # it lets go, and stays solved
        apple.step(expert.act())
    assert apple.score().success


@installed
def test_pictures_are_upright_and_vectors_are_the_arms(apple: Environment) -> None:
    apple.reset(next(apple.problems(1)))
    seen = check_observation(apple, apple.observe())
    assert apple.cameras == ("scene", "wrist")
    wrist, scene = (seen.frames[name].astype(float) for name in ("wrist", "scene"))
    assert wrist[-10:].mean() < 0.6 * wrist[:10].mean(), "the dark fingers are below"
    red = scene[..., 0] - scene[..., 2] > 70.0
    rows, columns = np.nonzero(red)
    assert rows.mean() > 32, "the table is below"
    assert columns.mean() < 32, "the apple lies at the arm's right, which is left where one looks at the arm"
    assert apple.labels()["object_pose"][1] < -0.1
    assert seen.vectors["proprio"].shape == (len(apple.vectors["proprio"]),)
    assert 0.03 < seen.vectors["gripper"][0] < 0.041


@installed
def test_the_goal_shows_the_object_in_its_place_and_looking_at_it_changes_nothing(apple: Environment) -> None:
    apple.reset(next(apple.problems(2)))
    before, labels, score = apple.observe(), apple.labels(), apple.score()
    (goal,) = apple.goals()
    after = apple.observe()
    assert apple.score() == score
    for name, frame in before.frames.items():
        np.testing.assert_array_equal(after.frames[name], frame)
        assert (goal.frames[name] != frame).any()
    np.testing.assert_array_equal(apple.labels()["object_pose"], labels["object_pose"])
    columns = np.nonzero(goal.frames["scene"][..., 0].astype(int) - goal.frames["scene"][..., 2] > 70)[1]
    assert columns.mean() > 32, "on the plate, at the arm's left"


@installed
def test_problems_repeat_by_seed_and_recordings_have_their_own(apple: Environment) -> None:
    places = []
    for seed in (3, 4, 3):
        apple.reset(next(apple.problems(seed)))
        places.append(apple.labels()["object_pose"])
    np.testing.assert_array_equal(places[0], places[2])
    assert np.abs(places[0] - places[1]).max() > 1e-4
    recording = apple.record(0, np.random.default_rng(0))
    assert recording.notes["placement_seed"] % 2 == 1
    assert recording.problem is not None
    first = recording.behaviour.act()
    assert first[-1] == pytest.approx(-1.0, abs=0.5)


@installed
@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("vla_arena/fun/level_0/x", {}, "suite 'fun' is unknown; installed: .*safety_static_obstacles"),
        (EXAMPLE, {"cameras": ("top",)}, "cameras: there are scene, wrist, not 'top'"),
        (EXAMPLE, {"control_hz": 10.0}, "runs at 20 Hz, not 10"),
        (EXAMPLE, {"action_space": "joint_delta"}, "acts in ee_delta, not 'joint_delta'"),
    ],
)
def test_what_the_benchmark_does_not_have_is_named(task: str, options: dict, words: str) -> None:
    with pytest.raises(EnvironmentFailure, match=words):
        make_environment(task, **options)
