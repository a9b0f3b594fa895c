"""Actions of either action space, carried out by the simulated arm."""

from __future__ import annotations

from lewm_ros.robot.action_space import ARM_KINDS
from lewm_ros.robot.arm import Array
from lewm_ros.sim.arm import GRIPPER_OPEN_M, SimArm


def apply_action(arm: SimArm, kind: str, action: Array) -> None:
    """Advance one control step by an action (7,) of the action space `kind`.

    Actions add to what is commanded, not to what is measured, so that the servo's lag does not pile up.

    Raises:
        ValueError: there is no such action space.
    """
    if kind == "joint_delta":
        arm.step(arm.target_rad + action)
    elif kind == "ee_delta":
        arm.step(arm.solve_twist(action[:6]), gripper_opening_m(action[6]))
    else:
        raise ValueError(f"action space '{kind}' is unknown; known: {', '.join(ARM_KINDS)}")


def gripper_opening_m(command: float) -> float:
    """Opening per finger for a gripper command from -1 (open) to +1 (closed)."""
    return GRIPPER_OPEN_M * (1.0 - float(command)) / 2.0


def gripper_command(opening_m: float) -> float:
    """The gripper command that `gripper_opening_m` turns into `opening_m`."""
    return 1.0 - 2.0 * opening_m / GRIPPER_OPEN_M
