"""What a task of the simulated arm is, and its problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.robot.arm import Array


@dataclass(frozen=True)
class PandaProblem:
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
    """What the environment needs to know of a task."""

    name: str
    needs_cube: bool
    success_m: float
    budget_s: float

    def sample(self, arm: SimArm, rng: np.random.Generator) -> PandaProblem:
        """Draw a problem that is not already solved at its start."""
        ...

    def show_goal(self, arm: SimArm, problem: PandaProblem) -> None:
        """Put the arm, and the cube, into the goal state."""
        ...

    def start(self, arm: SimArm, problem: PandaProblem) -> None:
        """Put the arm, and the cube, into the start state."""
        ...

    def distance_m(self, arm: SimArm, problem: PandaProblem) -> float:
        """Distance of the present state to the goal."""
        ...
