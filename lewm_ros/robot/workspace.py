"""A box that the end effector stays in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_ros.robot.kinematics import Kinematics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Workspace:
    """A box in the base frame, from the corner `low_m` (x, y, z) to `high_m`; infinite where it has no wall.

    Raises:
        ConfigError: the corners do not span a box.
    """

    kinematics: Kinematics
    low_m: tuple[float, ...]
    high_m: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = len(self.low_m), len(self.high_m)
        if sizes != (3, 3) or not all(low < high for low, high in zip(self.low_m, self.high_m, strict=True)):
            raise ConfigError(f"workspace: needs x, y, z with low below high, got {self.low_m} and {self.high_m}")

    def outside_m(self, positions_rad: Array) -> Array:
        """How far (...,) the end effector is outside the box at joint positions (..., J); negative inside."""
        tip = self.kinematics.tip_positions_m(positions_rad)
        return np.maximum(self.low_m - tip, tip - self.high_m).max(-1)
