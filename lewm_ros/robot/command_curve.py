"""The curve that an arm follows whose commands pass a safety filter: what of it is fixed, and where it leads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lewm_ros.robot.safety import TOLERANCE, Filtered, SafetyFilter
from lewm_ros.robot.spline import SHAPED_BEFORE, Knots, spline_knots

Array = NDArray[np.float64]

KNOTS_BEFORE = 2
"""How many come before the one from which the newest command shapes the curve; they have passed when it is sent."""


class CommandCurve:
    """Control points of a spline (see `spline`), one per command of a filter; before the first one the arm rests.

    Args:
        safety: the filter, just begun.
        dt: time between commands, s.

    Attributes:
        control_points_rad: the newest ones (6, J); the last shapes the curve from the knot of that SHAPED_BEFORE it on.
    """

    def __init__(self, safety: SafetyFilter, dt: float) -> None:
        self._filter, self._dt = safety, dt
        self.control_points_rad = np.tile(safety.position_rad, (1 + KNOTS_BEFORE + 1 + SHAPED_BEFORE, 1))
        self._following: list[Filtered] = []
        self._state = safety.state
        self._earlier = self.control_points_rad, self._following, self._state

    @property
    def standing(self) -> bool:
        """Whether the arm has come to rest and stays, if nothing else is commanded."""
        return not self._following and bool(np.ptp(self.control_points_rad, axis=0).max() < TOLERANCE)

    @property
    def end_rad(self) -> Array:
        """Where the arm comes to rest (J,) if it goes on as foreseen."""
        return [*self.control_points_rad, *(command.position_rad for command in self._following)][-1]

    def append(self) -> None:
        """Take in the filter's newest command."""
        self._earlier = self.control_points_rad, self._following, self._state
        self._following = []
        self._append()

    def take_back(self) -> None:
        """Undo the newest command, which could not be sent in time, and go on as if there had been none."""
        self.control_points_rad, self._following, self._state = self._earlier
        self._filter.resume(self._state)
        self.go_on()

    def foresee(self, targets_rad: Array, scale: float = 1.0) -> Knots:
        """The curve as it goes on through targets (n, J) to a standstill, if nothing else is commanded.

        Returns:
            its knots, a command apart; the one at index KNOTS_BEFORE is where the newest command begins to shape it.
        """
        self._following = self._filter.preview(targets_rad, scale)
        following = [command.position_rad for command in self._following]
        end = [self.end_rad] * SHAPED_BEFORE
        return spline_knots(np.array([*self.control_points_rad, *following, *end]), self._dt)

    def go_on(self) -> None:
        """Note that nothing was commanded in time: the arm goes on as foreseen, and the filter from there."""
        if self._following:
            self._filter.resume(self._following.pop(0).state)
        self._append()

    def _append(self) -> None:
        self._state = self._filter.state
        self.control_points_rad = np.concatenate([self.control_points_rad[1:], [self._state.position_rad]])
