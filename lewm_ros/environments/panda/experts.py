"""Scripted experts that solve push and pick_place from the simulator's state, in `ee_delta` actions.

They decide anew at every step from what is there, so that they recover from a cube that slipped and from the noise
that widens what the world model sees.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.environments.panda.cube_tasks import (
    TIP_HEIGHT_M,
    hand_down,
    wrap,
    yaw_of,
)
from lewm_ros.environments.panda.problem import PandaProblem
from lewm_ros.robot.arm import Array

TRAVEL_M = 0.105
"""How far above its target the end effector travels, a held cube included."""

CONE_SLOPE, CARRY_SLOPE, CONE_TIP_M = 1.5, 2.5, 0.01
TURN_HEIGHT_M, TURN_FREE_RAD = 0.12, 0.15
"""The hand comes down inside a cone that stands on its target, with so much height for every metre that it is aside by
more than the tip, and for every radian that it is still to turn by more than what does no harm. With the cube it keeps
to a steeper one, so that the cube is lifted on a short way, too."""

CLIMB_M = 0.03
CLEAR_M = np.array([0.015, 0.04])
"""Below the cone it goes up, and sideways only as far as the fingers are clear of an object that stands on the target:
not at all so far below the cone and so low above the target, freely on the cone, or so high above the target."""

GAIN = 0.2
"""Share of the way that is left that it goes in a control step: who takes the way for a little longer or shorter than
it is, or acts a step late, does not overshoot, and arrives all the same."""

TURNING_M = np.array([0.14, 0.08])
"""It begins to turn when it is so near, and turns at full speed so near: from afar the cube's turn is hardly seen."""

OPEN, CLOSED = -1.0, 1.0
NOISE_MEMORY = 0.85
NOISE_TURNS = 0.05
"""Noise comes in gusts, so that what follows one is the expert's own way back: chance per control step that one begins,
or ends."""

AROUND_M, HELD_M = 0.012, 0.025
"""So near to where it is to close, the hand closes; fingers that have closed on something so near have hold of it."""

RELEASE_M, LEAVE_M = 0.008, 0.02
"""So near its place the cube is let go, and may lie when the hand leaves it."""

SHUT_M, CLOSED_M, OPEN_M = 0.015, 0.027, 0.036
"""Openings per finger: narrower, there is no cube between them; narrower, they have closed; wider, they are open, and
the hand may leave without taking the cube along."""

ASTRAY = 0.5
ASTRAY_M, ASTRAY_RAD = 0.05, math.pi / 4.0
NOTICED_M = np.array([0.02, 0.08])
"""Share of the episodes in which the expert first goes astray: so far aside at most and so much turned, down to a
height above the target between these, where it notices. That shows the hand low beside the cube and turned against it,
and the way from there."""


class Expert(ABC):
    """Acts in ee_delta, one control step at a time.

    Args:
        problem: what to solve.
        limit: largest action (7,) per control step.
        rng: the episode's generator; draws the pace, the noise, and whether and how far the expert goes astray.
        noise: standard deviation of the noise that is added to actions in a gust, as a share of the limit. Without
            noise the expert does not go astray.
    """

    def __init__(self, problem: PandaProblem, limit: Array, rng: np.random.Generator, noise: float = 0.0) -> None:
        self.problem, self.limit, self.rng, self.noise = problem, limit, rng, noise
        self.goal_m = problem.cube_goal_pose[:3]
        self.pace = rng.uniform(0.5, 1.0)
        self.wander, self.gust = np.zeros(7), False
        angle, far = rng.uniform(-math.pi, math.pi), rng.uniform(0.0, ASTRAY_M)
        self.astray_m = far * np.array([math.cos(angle), math.sin(angle)])
        self.astray_rad = rng.uniform(-ASTRAY_RAD, ASTRAY_RAD)
        self.noticed_m = rng.uniform(*NOTICED_M)
        self.is_astray = rng.random() < ASTRAY and noise > 0.0
        self.intended = np.zeros(7)

    def act(self, arm: SimArm) -> Array:
        """The next action (7,), within the limit; `intended` is what it would be without noise."""
        position, yaw, gripper = self.intend(arm)
        twist = GAIN * arm.twist_to(position, hand_down(yaw), arm.target_rad)
        self.intended = np.array(
            [*_shorten(twist[:3], self.pace * self.limit[0]), *_shorten(twist[3:], self.limit[3]), gripper]
        )
        kick = self.rng.normal(size=7) * math.sqrt(1.0 - NOISE_MEMORY**2)
        self.gust ^= self.rng.random() < NOISE_TURNS
        self.wander = NOISE_MEMORY * self.wander + self.gust * self.noise * self.limit * kick
        return np.clip(self.intended + self.wander, -self.limit, self.limit)

    @abstractmethod
    def intend(self, arm: SimArm) -> tuple[Array, float, float]:
        """Where the hand, which points down, should be now: end effector (3,) in m, turn in rad, gripper command."""

    def approach(self, arm: SimArm, target: Array, yaw_rad: float) -> tuple[Array, float]:
        """The next waypoint (3,) and turn on the way to `target` (3,) and `yaw_rad`, or to where the expert strays."""
        tip = arm.tcp_position_m
        if self.is_astray:
            aim, yaw = target + np.array([*self.astray_m, 0.0]), yaw_rad + self.astray_rad
            near = np.linalg.norm(aim[:2] - tip[:2]) < 2.0 * CONE_TIP_M
            self.is_astray = not (near and tip[2] - target[2] < self.noticed_m)
            if self.is_astray:
                target, yaw_rad = aim, yaw
        return _approach(tip, hand_yaw(arm.tcp_quaternion), target, yaw_rad)


class PickPlaceExpert(Expert):
    """Grasps the cube from above, carries it over the table, sets it down at the goal, lets go and rises.

    While it carries, it turns as the hand is turned in the goal image: any of four turns fits the cube, but that is the
    one that who imitates sees, and from the first step on.
    """

    def intend(self, arm: SimArm) -> tuple[Array, float, float]:
        cube, tip, turned = arm.cube_pose, arm.tcp_position_m, hand_yaw(arm.tcp_quaternion)
        grasp = np.array([*cube[:2], cube[2] + TIP_HEIGHT_M - self.goal_m[2]])
        closed = arm.gripper_m < CLOSED_M
        off_m = np.linalg.norm(grasp - tip)
        holds = closed and arm.gripper_m > SHUT_M and off_m < HELD_M
        lies_at_goal = np.linalg.norm(cube[:3] - self.goal_m) < (RELEASE_M if closed else LEAVE_M)
        if lies_at_goal and arm.gripper_m > OPEN_M:
            return *_approach(tip, turned, self.problem.goal_position_m, turned), OPEN
        if lies_at_goal:
            return tip, turned, OPEN
        if holds:
            place = np.array([*(self.goal_m[:2] + tip[:2] - cube[:2]), TIP_HEIGHT_M])
            return *self.bring(tip, turned, place), CLOSED
        yaw = _nearest_turn(cube, turned)
        return (grasp, yaw, CLOSED) if off_m < AROUND_M else (*self.approach(arm, grasp, yaw), OPEN)

    def bring(self, tip: Array, turned_rad: float, place: Array) -> tuple[Array, float]:
        """The next waypoint (3,) and turn of the hand at `tip` that brings the cube it holds to `place` (3,)."""
        return _approach(tip, turned_rad, place, yaw_of(self.problem.cube_goal_pose), CARRY_SLOPE, at_once=True)


class PushExpert(PickPlaceExpert):
    """Takes hold of the cube from above and slides it straight to the goal, as it is turned; then lets go and rises."""

    def bring(self, tip: Array, turned_rad: float, place: Array) -> tuple[Array, float]:
        return place, turned_rad


def hand_yaw(quaternion: Array) -> float:
    """Turn (rad) of a hand that points down, the inverse of `hand_down`; `quaternion` (4,) is w, x, y, z."""
    return wrap(2.0 * math.atan2(quaternion[2], quaternion[1]), 2.0 * math.pi)


def _nearest_turn(cube_pose: Array, hand_rad: float) -> float:
    """The turn of the hand that fits the cube's faces, of the four the nearest to how it is turned now."""
    return hand_rad + wrap(yaw_of(cube_pose) - hand_rad, math.pi / 2.0)


def _approach(
    tip: Array, hand_rad: float, target: Array, yaw_rad: float, slope: float = CONE_SLOPE, at_once: bool = False
) -> tuple[Array, float]:
    """The next waypoint (3,) and turn on the way from `tip`, turned by `hand_rad`, to `target` and `yaw_rad`.

    Both change smoothly with where the hand is, so that who learns from it by a glance that is a little wrong is only a
    little wrong. It turns when it is near its target, or `at_once`.
    """
    aside = float(np.linalg.norm(target[:2] - tip[:2]))
    turn = wrap(yaw_rad - hand_rad, 2.0 * math.pi)
    too_far = max(0.0, aside - CONE_TIP_M) * slope + max(0.0, abs(turn) - TURN_FREE_RAD) * TURN_HEIGHT_M
    height = target[2] + min(TRAVEL_M, too_far)
    clear = np.interp(tip[2] - target[2], CLEAR_M, [0.0, 1.0])
    sideways = max(clear, np.clip(1.0 - (height - tip[2]) / CLIMB_M, 0.0, 1.0))
    turning = 1.0 if at_once else np.interp(aside, TURNING_M[::-1], [1.0, 0.0])
    return np.array([*(tip[:2] + sideways * (target[:2] - tip[:2])), height]), hand_rad + turning * turn


def _shorten(vector: Array, longest: float) -> Array:
    """The vector, or one of length `longest` along it if it is longer."""
    return vector * min(1.0, longest / max(1e-9, float(np.linalg.norm(vector))))
