"""What push and pick_place count as brought about, and what comes between."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.config import ConfigError
from lewm_ros.environments.panda.cube_tasks import cube_on_table
from lewm_ros.environments.panda.environment import PandaEnvironment
from lewm_ros.environments.panda.interference import MOVED_M

SIZE = 16


def started(task: str, interference: str = "") -> PandaEnvironment:
    environment = PandaEnvironment(task, image_size=SIZE, interference=interference)
    environment.reset(next(environment.problems(3)))
    return environment


def act(environment: PandaEnvironment, steps: int) -> list[np.ndarray]:
    """Where the expert brings the cube, step by step."""
    expert, places = environment.expert(), []
    for _ in range(steps):
        environment.step(expert.act())
        places.append(environment.arm.cube_pose[:3])
    return places


@pytest.mark.parametrize("task", ["push", "pick_place"])
def test_nothing_is_brought_about_by_doing_nothing(task: str) -> None:
    environment = started(task)
    for _ in range(5):
        environment.step(environment.action_space.rest())
    score = environment.score()
    assert not any(score.stages.values()) and not score.success
    assert environment.cameras == ("scene", "wrist")


def test_the_expert_gets_from_stage_to_stage() -> None:
    environment = started("pick_place")
    act(environment, 150)
    score = environment.score()
    assert list(score.stages) == ["touched", "grasped", "lifted", "near", "strictly", "placed"]
    assert all(score.stages.values()) and score.success


def test_a_cube_that_lies_at_its_place_without_having_been_lifted_is_not_placed() -> None:
    environment = started("pick_place")
    environment.arm.place_cube(environment._problem.cube_goal_pose)
    environment.step(environment.action_space.rest())
    score = environment.score()
    assert score.value < 0.01 and not score.success
    assert not score.stages["near"]


def test_a_cube_that_still_moves_is_not_placed() -> None:
    environment = started("push")
    environment.arm.place_cube(environment._problem.cube_goal_pose)
    assert environment.score().success
    environment.arm.data.qvel[9] = 0.5
    assert not environment.score().success


def test_turned_by_half_a_right_angle_it_is_placed_but_not_strictly() -> None:
    environment = started("push")
    goal = environment._problem.cube_goal_pose
    environment.arm.place_cube(cube_on_table(goal[:2], np.pi / 4 + 2 * np.arctan2(goal[6], goal[3])))
    assert environment.score().success and not environment.score().stages["strictly"]
    environment.arm.place_cube(cube_on_table(goal[:2], np.pi / 2 + 2 * np.arctan2(goal[6], goal[3])))
    assert environment.score().stages["strictly"], "a quarter turn looks the same"


@pytest.mark.parametrize("interference", ["cube_moved", "cube_taken"])
def test_the_cube_is_moved_once_and_the_expert_copes(interference: str) -> None:
    environment = started("pick_place", interference)
    places = np.array(act(environment, 200))
    jumps = np.linalg.norm(np.diff(places[:, :2], axis=0), axis=1)
    assert (jumps > 0.9 * MOVED_M).sum() == 1
    assert environment.score().success


@pytest.mark.parametrize("interference", ["lights_halved", "camera_shifted"])
def test_the_view_changes_but_not_that_of_the_goal(interference: str) -> None:
    plain, changed = started("push"), started("push", interference)
    for environment in (plain, changed):
        environment.step(environment.action_space.rest())
    assert (plain.observe().frames["scene"] != changed.observe().frames["scene"]).any()
    np.testing.assert_array_equal(plain.goals()[0].frames["scene"], changed.goals()[0].frames["scene"])
    plain.close()
    changed.close()


def test_what_cannot_come_between_is_named() -> None:
    with pytest.raises(ConfigError, match="there are cube_moved, cube_taken, lights_halved, camera_shifted"):
        PandaEnvironment("push", interference="earthquake")
    with pytest.raises(ConfigError, match="for push and pick_place"):
        PandaEnvironment("reach", interference="cube_moved")
