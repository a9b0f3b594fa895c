"""How far a state is from a goal, and when that counts as reached, in each of the paper's tasks.

Written anew after the specification of CLEAR-LeWM (github.com/DavidSunok/CLEAR-LeWM, EVALUATION_SPEC.md). A state is
what the task's label `state` holds.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from lewm_ros.environments.environment import Array
from lewm_ros.environments.paper_tasks.rooms import RELEASED
from lewm_ros.robot.rotations import cube_angle_deg, rotations, two_axes

# Push-T: pusher x, y; block x, y; the block's angle; the pusher's velocity x, y. In pixels of 512, rad, pixels/s.


def pusht_pose_reached(state: Array, goal: Array) -> bool:
    """Whether pusher and block together are within 20 px, and the block within 20 degrees."""
    return _distance(state[:4], goal[:4]) < 20.0 and _turn(state[4], goal[4]) < math.radians(20.0)


def pusht_block_reached(state: Array, goal: Array) -> bool:
    """Whether the block is within 10 px and 10 degrees, wherever the pusher is."""
    return _distance(state[2:4], goal[2:4]) < 10.0 and _turn(state[4], goal[4]) < math.radians(10.0)


# Reacher: the angles of shoulder and wrist, and their velocities. In rad and rad/s.

REACHER_LINK_M = 0.12
"""Length of either link."""


def reacher_raw_pose_reached(state: Array, goal: Array) -> bool:
    """Whether both joints are within 0.05 rad, a whole turn of the shoulder being a difference."""
    return float(np.abs(state[:2] - goal[:2]).max()) < 0.05


def reacher_joint_error_rad(state: Array, goal: Array) -> float:
    """The larger of the two joints' errors. The shoulder turns without end, the wrist does not."""
    return max(_turn(state[0], goal[0]), abs(float(state[1] - goal[1])))


def reacher_pose_reached(state: Array, goal: Array) -> bool:
    """Whether both joints are within 0.05 rad."""
    return reacher_joint_error_rad(state, goal) < 0.05


def reacher_finger_m(state: Array) -> Array:
    """Where the tip of the finger is (2,)."""
    angles = np.array([state[0], state[0] + state[1]])
    return REACHER_LINK_M * np.array([np.cos(angles).sum(), np.sin(angles).sum()])


def reacher_finger_reached(state: Array, goal: Array) -> bool:
    """Whether the tip of the finger is within 1 cm."""
    return _distance(reacher_finger_m(state), reacher_finger_m(goal)) <= 0.01


# TwoRoom: x, y of the disk. In pixels of 224.


def tworoom_near(state: Array, goal: Array) -> bool:
    """Whether the disk is within 16 px."""
    return _distance(state, goal) < 16.0


def tworoom_reached(state: Array, goal: Array) -> bool:
    """Whether the disk is within 8 px, and on the goal's side of the wall."""
    return _distance(state, goal) < 8.0 and RELEASED.side(state) == RELEASED.side(goal)


def tworoom_crosses(way: Array) -> bool:
    """Whether a recorded way (n, 2) leads from one room to the other, and legally all along."""
    steps = itertools.pairwise(way)
    crosses = RELEASED.side(way[0]) * RELEASED.side(way[-1]) < 0
    return crosses and all(RELEASED.is_legal(start, end) for start, end in steps)


# Cube: MuJoCo's positions and velocities of arm, gripper and cube; the cube's place in m, its quaternion w, x, y, z.

CUBE_POSITION, CUBE_QUATERNION = slice(14, 17), slice(17, 21)


def cube_distance_m(state: Array, goal: Array) -> float:
    """How far the cube's centre is from the goal's."""
    return _distance(state[CUBE_POSITION], goal[CUBE_POSITION])


def cube_near(state: Array, goal: Array) -> bool:
    """Whether the cube is within 4 cm."""
    return cube_distance_m(state, goal) <= 0.04


def cube_turn_deg(state: Array, goal: Array) -> float:
    """The smallest turn between two cubes, of which 24 orientations look alike."""
    start, end = (rotations(two_axes(pose[np.newaxis, CUBE_QUATERNION])) for pose in (state, goal))
    return float(cube_angle_deg(start, end)[0])


def cube_reached(state: Array, goal: Array) -> bool:
    """Whether the cube is within 3 cm and 15 degrees."""
    return cube_distance_m(state, goal) <= 0.03 and cube_turn_deg(state, goal) <= 15.0


def _distance(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b))


def _turn(a: float, b: float) -> float:
    """The shortest way between two angles, rad."""
    return abs(math.remainder(float(a - b), math.tau))
