"""The action spaces of the simulated arm, and how it carries actions out."""

from __future__ import annotations

import numpy as np

from lewm_ros.config import ConfigError
from lewm_ros.environments.panda.arm import GRIPPER_OPEN_M, SimArm
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm import PANDA, Array
from lewm_ros.robot.arm_actions import TWIST, ee_delta, joint_delta

JOINT_SPEED_RAD_S = 1.0
"""Largest commanded speed of a joint: under half of the Panda's velocity limits."""

TWIST_SPEED = (0.4,) * 3 + (1.6,) * 3
"""Largest commanded twist, m/s and rad/s."""


def panda_space(name: str, control_hz: float, gripper: bool) -> ActionSpace:
    """One of the arm's action spaces.

    Args:
        name: `joint_delta` or `ee_delta`.
        control_hz: actions per second.
        gripper: whether joint deltas come with a gripper channel; twists always do.

    Raises:
        ConfigError: there is no such space.
    """
    if name == "joint_delta":
        limit = [JOINT_SPEED_RAD_S / control_hz] * len(PANDA.joint_names)
        return joint_delta(PANDA.joint_names, limit, control_hz, gripper)
    if name == "ee_delta":
        return ee_delta([speed / control_hz for speed in TWIST_SPEED], control_hz)
    raise ConfigError(f"action space '{name}': the simulated Panda acts in joint_delta or ee_delta")


def apply_action(arm: SimArm, space: ActionSpace, action: Array) -> None:
    """Advance one control step by an action (dim,).

    Deltas add to what is commanded, not to what is measured, so that the servo's lag does not pile up. A gripper
    channel that is not a number leaves the gripper as it is.
    """
    joints, twist = len(PANDA.joint_names), len(TWIST)
    if space.name == "joint_delta":
        target, gripper = arm.target_rad + action[:joints], action[joints:]
    else:
        target, gripper = arm.solve_twist(action[:twist]), action[twist:]
    moves = gripper.size and np.isfinite(gripper[0])
    arm.step(target, gripper_opening_m(gripper[0]) if moves else None)


def gripper_opening_m(command: float) -> float:
    """Opening per finger for a gripper command from -1 (open) to +1 (closed)."""
    return GRIPPER_OPEN_M * (1.0 - float(command)) / 2.0


def gripper_command(opening_m: float) -> float:
    """The gripper command that `gripper_opening_m` turns into `opening_m`."""
    return 1.0 - 2.0 * opening_m / GRIPPER_OPEN_M
