"""A behaviour for any action space: coloured noise."""

from __future__ import annotations

import math

import numpy as np

from lewm_ros.environments.environment import Array
from lewm_ros.robot.action_space import ActionSpace

MEMORY = 0.85
"""Of the noise, per control step."""


class SmoothNoise:
    """Wanders through the bounds of an action space: an Ornstein-Uhlenbeck process in every channel.

    Its standard deviation is half of a channel's half width, about the middle of its bounds.
    """

    def __init__(self, space: ActionSpace, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng
        self._wander = rng.normal(size=space.dim)

    def act(self) -> Array:
        """The next action (dim,)."""
        kick = self._rng.normal(size=self._space.dim)
        self._wander = MEMORY * self._wander + math.sqrt(1.0 - MEMORY**2) * kick
        middle, half = (self._space.high + self._space.low) / 2.0, (self._space.high - self._space.low) / 2.0
        return self._space.clip(middle + 0.5 * half * self._wander)
