"""Reach: move the end effector to a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.environments.panda.problem import CubeWay, PandaProblem
from lewm_ros.robot.arm import PANDA, Array

JOINT_SPREAD_RAD = np.array([0.5, 0.4, 0.4, 0.4, 0.6, 0.5, 0.8])
"""Half width, around home, of the box of joint positions that exploration and reach goals are drawn from."""


def sample_free_joints(arm: SimArm, rng: np.random.Generator) -> Array:
    """Joint positions (7,), uniform in the box around home, that are free."""
    while True:
        positions = PANDA.home_rad + JOINT_SPREAD_RAD * rng.uniform(-1.0, 1.0, 7)
        if arm.is_free(positions):
            return positions


@dataclass(frozen=True)
class Reach:
    """Move the end effector to where it is in the goal image."""

    name: str = "reach"
    needs_cube: bool = False
    success_m: float = 0.05
    budget_s: float = 6.0
    minimum_distance_m: float = 0.15
    minimum_joint_change_rad: float = 0.1

    def sample(self, arm: SimArm, rng: np.random.Generator) -> PandaProblem:
        """Start and goal at least `minimum_distance_m` apart, every joint differing."""
        while True:
            start, goal = sample_free_joints(arm, rng), sample_free_joints(arm, rng)
            start_m, goal_m = arm.forward_kinematics(start), arm.forward_kinematics(goal)
            far = np.linalg.norm(start_m - goal_m) >= self.minimum_distance_m
            if far and np.all(np.abs(start - goal) >= self.minimum_joint_change_rad):
                return PandaProblem(start, goal, goal_m)

    def show_goal(self, arm: SimArm, problem: PandaProblem) -> None:
        """Put the arm into the goal state."""
        arm.reset(problem.goal_rad)

    def start(self, arm: SimArm, problem: PandaProblem) -> None:
        """Put the arm into the start state."""
        arm.reset(problem.start_rad)

    def stages(self, arm: SimArm, problem: PandaProblem, way: CubeWay) -> dict[str, bool]:
        """There, or not."""
        return {"reached": self.distance_m(arm, problem) <= self.success_m}

    def distance_m(self, arm: SimArm, problem: PandaProblem) -> float:
        """Distance of the end effector to its place in the goal image."""
        return float(np.linalg.norm(arm.tcp_position_m - problem.goal_position_m))
