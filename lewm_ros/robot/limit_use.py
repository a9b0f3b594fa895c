"""How much of an arm's limits a motion uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lewm_ros.robot.limits import JointLimits

Array = NDArray[np.float64]

LIMITED = ("position", "velocity", "acceleration", "jerk")


class LimitUse:
    """Counts samples of motions, those beyond a limit, and the largest share of each limit; 1 is all of it.

    Args:
        limits: of J joints.
        margin_rad: distance from the position limits that is to be kept.
    """

    def __init__(self, limits: JointLimits, margin_rad: float = 0.0) -> None:
        lower, upper = np.array(limits.lower_rad), np.array(limits.upper_rad)
        self._middle, reach = (lower + upper) / 2.0, (upper - lower) / 2.0 - margin_rad
        derivatives = limits.velocity_rad_s, limits.acceleration_rad_s2, limits.jerk_rad_s3
        self._largest = np.array([reach, *derivatives])
        self.samples = 0
        self.largest = dict.fromkeys(LIMITED, 0.0)
        self.beyond = dict.fromkeys(LIMITED, 0)

    def add(self, motion: Array) -> dict[str, Array]:
        """Take in positions, velocities, accelerations and jerks (4, m, J).

        Returns:
            for every limit that is passed, the samples (k,) of the m in which it is.
        """
        shares = np.abs(motion)
        shares[0] = np.abs(motion[0] - self._middle)
        shares = (shares / self._largest[:, np.newaxis]).max(2, initial=0.0)  # (4, m)
        self.samples += shares.shape[1]
        passed = {}
        for name, row in zip(LIMITED, shares, strict=True):
            self.largest[name] = max(self.largest[name], float(row.max(initial=0.0)))
            # Not a number is beyond, too.
            if len(beyond := np.flatnonzero(~(row <= 1.0))):
                self.beyond[name] += len(beyond)
                passed[name] = beyond
        return passed

    def report(self) -> dict[str, float]:
        """All figures, by names of their own."""
        return {
            "samples": self.samples,
            **{f"largest_{name}_share": share for name, share in self.largest.items()},
            **{f"samples_beyond_{name}": count for name, count in self.beyond.items()},
        }
