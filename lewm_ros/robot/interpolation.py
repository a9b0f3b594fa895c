"""Polynomials between the points of a joint trajectory, as joint_trajectory_controller interpolates."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COEFFICIENTS = 6
"""Of the powers t^0 to t^5, t in s."""

DERIVATIVES = 4
"""Position, velocity, acceleration, jerk."""


class MotionPoint(NamedTuple):
    """Positions (..., J), and velocities and accelerations as far as they are given."""

    position_rad: Array
    velocity_rad_s: Array | None = None
    acceleration_rad_s2: Array | None = None


def polynomial_between(start: MotionPoint, end: MotionPoint, duration_s: float) -> Array:
    """Coefficients (6, ..., J): quintic if both have accelerations too, cubic if both have velocities, else linear."""
    t, coefficients = duration_s, np.zeros((COEFFICIENTS, *np.shape(end.position_rad)))
    coefficients[0], way = start.position_rad, end.position_rad - start.position_rad
    if start.velocity_rad_s is None or end.velocity_rad_s is None:
        coefficients[1] = way / t
        return coefficients
    v0, v1 = start.velocity_rad_s, end.velocity_rad_s
    coefficients[1] = v0
    if start.acceleration_rad_s2 is None or end.acceleration_rad_s2 is None:
        coefficients[2] = (3.0 * way - (2.0 * v0 + v1) * t) / t**2
        coefficients[3] = (-2.0 * way + (v0 + v1) * t) / t**3
        return coefficients
    a0, a1 = start.acceleration_rad_s2, end.acceleration_rad_s2
    coefficients[2] = a0 / 2.0
    coefficients[3] = (20.0 * way - (8.0 * v1 + 12.0 * v0) * t - (3.0 * a0 - a1) * t**2) / (2.0 * t**3)
    coefficients[4] = (-30.0 * way + (14.0 * v1 + 16.0 * v0) * t + (3.0 * a0 - 2.0 * a1) * t**2) / (2.0 * t**4)
    coefficients[5] = (12.0 * way - 6.0 * (v1 + v0) * t + (a1 - a0) * t**2) / (2.0 * t**5)
    return coefficients


def motion_along(coefficients: Array, times_s: Array) -> Array:
    """Position, velocity, acceleration and jerk (4, m, ..., J) at times (m,) of polynomials (6, ..., J)."""
    powers = np.arange(COEFFICIENTS)
    factors = [[math.perm(power, order) for power in powers] for order in range(DERIVATIVES)]
    exponents = np.maximum(powers - np.arange(DERIVATIVES)[:, np.newaxis], 0)
    basis = np.array(factors)[:, np.newaxis] * np.asarray(times_s)[:, np.newaxis] ** exponents[:, np.newaxis]
    return np.tensordot(basis, coefficients, axes=1)
