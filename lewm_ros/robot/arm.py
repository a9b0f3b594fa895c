"""What an arm is: joint names, limits and a home position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


PANDA = ArmSpec(
    name="panda",
    joint_names=tuple(f"panda_joint{i}" for i in range(1, 8)),
    lower_rad=np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
    upper_rad=np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
    velocity_rad_s=np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61]),
    home_rad=np.array([0.0, 0.1, 0.0, -2.1, 0.0, 2.2, 0.785]),
)
"""Franka Emika Panda (manufacturer's limits); home holds the hand over the table."""
