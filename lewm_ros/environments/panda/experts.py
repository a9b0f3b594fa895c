"""Scripted experts that solve push and pick_place from the simulator's state, in `ee_delta` actions.

They decide anew at every step from what is there, so that they recover from a cube that slipped and from the noise
that widens what the world model sees.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from lewm_ros.environments.panda.actions import gripper_command
from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.environments.panda.cube_tasks import (
    PUSH_DISTANCE_M,
    PUSH_OPENING_M,
    PUSH_YAW_RAD,
    TIP_HEIGHT_M,
    hand_down,
    push_yaw,
    wrap,
    yaw_of,
)
from lewm_ros.environments.panda.problem import PandaProblem
from lewm_ros.robot.arm import Array

TRAVEL_HEIGHT_M = 0.13
"""Height of the end effector above the table on its way to another place, a held cube included."""

OPEN, CLOSED = -1.0, 1.0
NOISE_MEMORY = 0.85
NOISE_TURNS = 0.05
"""Noise comes in gusts, so that what follows one is the expert's own way back: chance per control step that one begins,
or ends."""


class Expert(ABC):
    """Acts in ee_delta, one control step at a time.

    Args:
        problem: what to solve.
        limit: largest action (7,) per control step.
        rng: the episode's generator; draws the pace and the noise.
        noise: standard deviation of the noise that is added to actions in a gust, as a share of the limit.
    """

    def __init__(self, problem: PandaProblem, limit: Array, rng: np.random.Generator, noise: float = 0.0) -> None:
        self.problem, self.limit, self.rng, self.noise = problem, limit, rng, noise
        self.goal_m = problem.cube_goal_pose[:3]
        self.goal_yaw_rad = wrap(yaw_of(problem.cube_goal_pose), math.pi / 2.0)
        self.pace = rng.uniform(0.5, 1.0)
        self.wander, self.gust = np.zeros(7), False

    def act(self, arm: SimArm) -> Array:
        """The next action (7,), within the limit."""
        position, yaw, gripper = self.intend(arm)
        twist = arm.twist_to(position, hand_down(yaw), arm.target_rad)
        action = np.array(
            [*_shorten(twist[:3], self.pace * self.limit[0]), *_shorten(twist[3:], self.limit[3]), gripper]
        )
        kick = self.rng.normal(size=7) * math.sqrt(1.0 - NOISE_MEMORY**2)
        self.gust ^= self.rng.random() < NOISE_TURNS
        self.wander = NOISE_MEMORY * self.wander + self.gust * self.noise * self.limit * kick
        return np.clip(action + self.wander, -self.limit, self.limit)

    @abstractmethod
    def intend(self, arm: SimArm) -> tuple[Array, float, float]:
        """Where the hand, which points down, should be now: end effector (3,) in m, turn in rad, gripper command."""


class PushExpert(Expert):
    """Goes behind the cube, as seen from the goal, and slides it there; goes round again if it slipped aside."""

    yaw_rad = PUSH_YAW_RAD

    def intend(self, arm: SimArm) -> tuple[Array, float, float]:
        cube, tip = arm.cube_pose[:2], arm.tcp_position_m
        way = self.goal_m[:2] - cube
        if np.linalg.norm(way) < 0.01:
            return _hop(tip, self.problem.goal_position_m), self.yaw_rad, gripper_command(PUSH_OPENING_M)
        direction = way / np.linalg.norm(way)
        self.yaw_rad = push_yaw(math.atan2(direction[1], direction[0]), near_rad=self.yaw_rad)
        behind = (cube - tip[:2]) @ direction
        aside = abs((cube - tip[:2]) @ np.array([-direction[1], direction[0]]))
        if tip[2] < 2.0 * TIP_HEIGHT_M and behind > 0.8 * PUSH_DISTANCE_M and aside < 0.02:
            position = np.array([*(self.goal_m[:2] - PUSH_DISTANCE_M * direction), TIP_HEIGHT_M])
        else:
            position = _hop(tip, np.array([*(cube - 2.0 * PUSH_DISTANCE_M * direction), TIP_HEIGHT_M]))
        return position, self.yaw_rad, gripper_command(PUSH_OPENING_M)


class PickPlaceExpert(Expert):
    """Grasps the cube from above, carries it over the table, sets it down at the goal, lets go and rises."""

    def intend(self, arm: SimArm) -> tuple[Array, float, float]:
        cube, tip = arm.cube_pose, arm.tcp_position_m
        yaw = wrap(yaw_of(cube), math.pi / 2.0)
        grasp = np.array([*cube[:2], cube[2] + TIP_HEIGHT_M - self.goal_m[2]])
        closed = arm.gripper_m < 0.027
        around = np.linalg.norm(grasp - tip) < 0.012
        lies_at_goal = np.linalg.norm(cube[:3] - self.goal_m) < (0.012 if closed else 0.025)
        if lies_at_goal:
            is_open = arm.gripper_m > 0.033
            return _hop(tip, self.problem.goal_position_m) if is_open else tip, self.goal_yaw_rad, OPEN
        if around and closed:
            place = np.array([*(self.goal_m[:2] + tip[:2] - cube[:2]), TIP_HEIGHT_M])
            return _hop(tip, place), self.goal_yaw_rad, CLOSED
        if around:
            return grasp, yaw, CLOSED
        return _hop(tip, grasp), yaw, OPEN


def _hop(tip: Array, target: Array) -> Array:
    """The next waypoint (3,) on a way from `tip` to `target` that rises first, travels, and comes down from above.

    Coming down is allowed inside a funnel that stands on the target.
    """
    aside = np.linalg.norm(target[:2] - tip[:2])
    if aside < 0.008 + 0.3 * max(0.0, tip[2] - target[2]):
        return target
    if tip[2] < TRAVEL_HEIGHT_M - 0.03:
        return np.array([*tip[:2], TRAVEL_HEIGHT_M])
    return np.array([*target[:2], TRAVEL_HEIGHT_M])


def _shorten(vector: Array, longest: float) -> Array:
    """The vector, or one of length `longest` along it if it is longer."""
    return vector * min(1.0, longest / max(1e-9, float(np.linalg.norm(vector))))
