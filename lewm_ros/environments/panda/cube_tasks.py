"""Push and pick_place: bring the cube to a place on the table."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lewm_ros.environments.panda.arm import CUBE_HALF_M, GRIPPER_OPEN_M, SimArm
from lewm_ros.environments.panda.problem import CubeWay, PandaProblem
from lewm_ros.robot.arm import PANDA, Array

CUBE_AREA_M = np.array([[0.40, -0.20], [0.60, 0.20]])
"""Corners of the rectangle of the table that starts and goals are drawn from: the scene camera sees all of it."""

HAND_AREA_M = np.array([[0.40, -0.20, 0.18], [0.60, 0.20, 0.32]])
HAND_YAW_RAD = 0.5
"""Starts: corners of the box of end-effector positions, and the largest turn of the hand, which points down."""

TIP_HEIGHT_M = 0.025
"""Height of the end effector at which the finger pads, 13 mm longer, meet the cube and clear the table."""

RETREAT_M = 0.12
"""How far above `TIP_HEIGHT_M` the hand is in a goal state, so that the scene camera sees the cube below it."""

REST_M_S = 0.02
"""Slower than that the cube is at rest."""

STRICT_M, STRICT_RAD = 0.03, math.radians(15.0)
"""CLEAR-LeWM's strict criterion: distance, and turn over the cube's symmetries."""

GRASPED_M = 0.01
"""Off the table."""

SLID_M = CUBE_HALF_M
"""Higher than that off the table, a cube was carried and not slid."""


def hand_down(yaw_rad: float) -> Array:
    """Quaternion (4,) w, x, y, z of a hand that points down, its x axis turned by `yaw_rad` from the base's."""
    return np.array([0.0, math.cos(yaw_rad / 2.0), math.sin(yaw_rad / 2.0), 0.0])


def cube_on_table(xy_m: Array, yaw_rad: float) -> Array:
    """Pose (7,) of a cube that lies on the table."""
    return np.array([*xy_m, CUBE_HALF_M, math.cos(yaw_rad / 2.0), 0.0, 0.0, math.sin(yaw_rad / 2.0)])


def yaw_of(cube_pose: Array) -> float:
    """Turn (rad) about the vertical of a pose (7,)."""
    w, x, y, z = cube_pose[3:]
    return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def wrap(angle_rad: float, period_rad: float) -> float:
    """The equivalent of an angle nearest to zero, where turns by `period_rad` look alike."""
    return angle_rad - period_rad * round(angle_rad / period_rad)


NEARLY_M = (0.025, 0.08)
ASIDE_M, ABOVE_M = 0.05, (0.045, 0.13)
"""Nearly there, the cube is so far from its place, and the hand at most so far aside of the cube, so high above where
it grasps it."""


def nearly_there(arm: SimArm, problem: PandaProblem, rng: np.random.Generator) -> PandaProblem:
    """The problem from where the cube has slipped away shortly before its place, with the open hand near it."""
    goal = problem.cube_goal_pose
    while True:
        cube = cube_on_table(goal[:2] + _around(rng, *NEARLY_M), yaw_of(goal) + _sample_yaw(rng) / 2.0)
        hand = np.array([*(cube[:2] + _around(rng, 0.0, ASIDE_M)), TIP_HEIGHT_M + rng.uniform(*ABOVE_M)])
        try:
            start_rad = arm.solve_pose(hand, hand_down(yaw_of(cube) + _sample_yaw(rng)), problem.goal_rad)
        except ValueError:  # the hand cannot be turned so there
            continue
        return replace(problem, start_rad=start_rad, cube_start_pose=cube)


def _around(rng: np.random.Generator, nearest_m: float, farthest_m: float) -> Array:
    """A shift (2,) in any direction, so long."""
    angle, far = rng.uniform(-math.pi, math.pi), rng.uniform(nearest_m, farthest_m)
    return far * np.array([math.cos(angle), math.sin(angle)])


@dataclass(frozen=True)
class CubeTask:
    """What push and pick_place share; the distance is the cube's to its place, in all three axes."""

    name: str
    needs_cube: bool = True
    success_m: float = 0.04
    budget_s: float = 10.0
    minimum_distance_m: float = 0.10

    def start(self, arm: SimArm, problem: PandaProblem) -> None:
        """Put the arm, and the cube, into the start state."""
        arm.reset(problem.start_rad, cube_pose=problem.cube_start_pose)

    def distance_m(self, arm: SimArm, problem: PandaProblem) -> float:
        """Distance of the cube to its place in the goal image."""
        return float(np.linalg.norm(arm.cube_pose[:3] - problem.cube_goal_pose[:3]))

    def stages(self, arm: SimArm, problem: PandaProblem, way: CubeWay) -> dict[str, bool]:
        """Touched, near its place, there at rest; and by CLEAR's strict criterion, which does not decide."""
        there = self.distance_m(arm, problem) <= self.success_m
        return {"touched": way.touched, "near": there} | self._placed(arm, problem, there)

    def _placed(self, arm: SimArm, problem: PandaProblem, there: bool) -> dict[str, bool]:
        """Whether the cube is at its place and at rest, also by CLEAR's strict criterion."""
        placed = there and arm.cube_speed_m_s < REST_M_S
        turned = abs(wrap(yaw_of(arm.cube_pose) - yaw_of(problem.cube_goal_pose), math.pi / 2.0))
        strictly = placed and self.distance_m(arm, problem) <= STRICT_M and turned <= STRICT_RAD
        return {"strictly": strictly, "placed": placed}

    def sample(self, arm: SimArm, rng: np.random.Generator) -> PandaProblem:
        """The cube at least `minimum_distance_m` from its goal, the hand above the table."""
        start, goal = self._sample_places(rng)
        turned_rad = self._sample_goal_yaw(rng)
        start_rad, start_yaw_rad = _sample_hand(arm, rng), _sample_yaw(rng)
        goal_yaw_rad = start_yaw_rad if turned_rad is None else turned_rad
        hand = np.array([*goal, TIP_HEIGHT_M + RETREAT_M])
        return PandaProblem(
            start_rad=start_rad,
            goal_rad=arm.solve_pose(hand, hand_down(goal_yaw_rad), PANDA.home_rad),
            goal_position_m=hand,
            cube_start_pose=cube_on_table(start, start_yaw_rad),
            cube_goal_pose=cube_on_table(goal, goal_yaw_rad),
        )

    def show_goal(self, arm: SimArm, problem: PandaProblem) -> None:
        """The cube at its goal, the open hand above it."""
        arm.reset(problem.goal_rad, GRIPPER_OPEN_M, problem.cube_goal_pose)

    def _sample_goal_yaw(self, rng: np.random.Generator) -> float | None:
        """Turn (rad) of the cube, and of the hand above it, in the goal state; None: as at the start."""
        return None

    def _sample_places(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Start and goal (2,) of the cube, at least `minimum_distance_m` apart."""
        while True:
            start, goal = rng.uniform(*CUBE_AREA_M), rng.uniform(*CUBE_AREA_M)
            if np.linalg.norm(goal - start) >= self.minimum_distance_m:
                return start, goal


@dataclass(frozen=True)
class Push(CubeTask):
    """Slide the cube along the table to where it is in the goal image; there the open hand has gone up from it."""

    name: str = "push"

    def stages(self, arm: SimArm, problem: PandaProblem, way: CubeWay) -> dict[str, bool]:
        """As of every cube; placed only if it was slid there and not carried."""
        stages = super().stages(arm, problem, way)
        slid = way.highest_m < SLID_M
        return stages | {"strictly": stages["strictly"] and slid, "placed": stages["placed"] and slid}


@dataclass(frozen=True)
class PickPlace(CubeTask):
    """Lift the cube and set it down where it is in the goal image; there the open hand has gone up from it."""

    name: str = "pick_place"
    lifted_m: float = 0.05

    def stages(self, arm: SimArm, problem: PandaProblem, way: CubeWay) -> dict[str, bool]:
        """Touched, grasped (off the table), lifted, near its place, there at rest; placed only if it was lifted."""
        lifted = way.highest_m >= self.lifted_m
        aside_m = np.linalg.norm(arm.cube_pose[:2] - problem.cube_goal_pose[:2])
        there = self.distance_m(arm, problem) <= self.success_m and lifted
        return {
            "touched": way.touched,
            "grasped": way.highest_m >= GRASPED_M,
            "lifted": lifted,
            "near": lifted and bool(aside_m <= self.success_m),
        } | self._placed(arm, problem, there)

    def _sample_goal_yaw(self, rng: np.random.Generator) -> float | None:
        return _sample_yaw(rng)


def _sample_hand(arm: SimArm, rng: np.random.Generator) -> Array:
    position, yaw = rng.uniform(*HAND_AREA_M), rng.uniform(-HAND_YAW_RAD, HAND_YAW_RAD)
    return arm.solve_pose(position, hand_down(yaw), PANDA.home_rad)


def _sample_yaw(rng: np.random.Generator) -> float:
    return rng.uniform(-math.pi / 4.0, math.pi / 4.0)
