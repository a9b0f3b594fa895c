"""What a task is, and the problems that it draws."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lewm_ros.robot.arm import Array
from lewm_ros.sim.arm import SimArm


@dataclass(frozen=True)
class Problem:
    """A start and a goal. The goal image is what the cameras see in the goal state.

    Joint positions are (7,); `goal_position_m` (3,) is the end effector's; the cube's poses (7,) are x, y, z in m, then
    a quaternion w, x, y, z.
    """

    start_rad: Array
    goal_rad: Array
    goal_position_m: Array
    cube_start_pose: Array | None = None
    cube_goal_pose: Array | None = None


class Task(Protocol):
    """What evaluation, collection and the simulator need to know of a task."""

    name: str
    needs_cube: bool
    success_m: float
    budget_steps: int

    def sample(self, arm: SimArm, rng: np.random.Generator) -> Problem:
        """Draw a problem that is not already solved at its start."""
        ...

    def show_goal(self, arm: SimArm, problem: Problem) -> None:
        """Put the arm, and the cube, into the goal state."""
        ...

    def start(self, arm: SimArm, problem: Problem) -> None:
        """Put the arm, and the cube, into the start state."""
        ...

    def distance_m(self, arm: SimArm, problem: Problem) -> float:
        """Distance of the present state to the goal."""
        ...


def draw_problems(task: Task, arm: SimArm, seed: int) -> Iterator[Problem]:
    """The endless sequence of evaluation problems of a seed, the same for every transport.

    Its stream is not shared with collection, so that no start or goal stands in a training dataset.
    """
    rng = np.random.default_rng([seed, zlib.crc32(b"evaluate")])
    while True:
        yield task.sample(arm, rng)
