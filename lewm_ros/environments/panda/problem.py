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


@dataclass
class CubeWay:
    """What became of the cube since the start.

    Attributes:
        highest_m: how far its centre was above where it lay.
        touched: whether the arm touched it.
    """

    highest_m: float = 0.0
    touched: bool = False

    def saw(self, arm: SimArm, start_pose: Array) -> None:
        """Look at the cube, at every control step."""
        self.highest_m = max(self.highest_m, float(arm.cube_pose[2] - start_pose[2]))
        self.touched = self.touched or arm.touches_cube


class Task(Protocol):
    """What the environment needs to know of a task."""

    name: str
    needs_cube: bool
    success_m: float
    budget_s: float

    def stages(self, arm: SimArm, problem: PandaProblem, way: CubeWay) -> dict[str, bool]:
        """What has been brought about so far, in order; the last one is success."""
        ...

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
