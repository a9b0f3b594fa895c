"""What an arm is: joint names, limits and a home position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lewm_ros.robot.limits import load_limits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ArmSpec:
    """A 7-joint arm. Arrays have shape (7,)."""

    name: str
    joint_names: tuple[str, ...]
    lower_rad: Array
    upper_rad: Array
    velocity_rad_s: Array
    home_rad: Array

    def clamp(self, positions_rad: Array, margin_rad: float = 0.0) -> Array:
        """Positions (7,) moved inside the joint limits, `margin_rad` away from them."""
        return np.clip(positions_rad, self.lower_rad + margin_rad, self.upper_rad - margin_rad)


def _arm(name: str, home_rad: tuple[float, ...]) -> ArmSpec:
    limits = load_limits(name)
    return ArmSpec(
        name=name,
        joint_names=limits.joint_names,
        lower_rad=np.array(limits.lower_rad),
        upper_rad=np.array(limits.upper_rad),
        velocity_rad_s=np.array(limits.velocity_rad_s),
        home_rad=np.array(home_rad),
    )


PANDA = _arm("panda", home_rad=(0.0, 0.1, 0.0, -2.1, 0.0, 2.2, 0.785))
"""Franka Emika Panda; home holds the hand over the table."""
