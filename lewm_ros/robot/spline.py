"""The curve of an arm's commands: a uniform cubic B-spline with what the safety filter lets through as control points.

Control point k belongs to time k dt. At that time (a knot) the curve has

    position (c[k-1] + 4 c[k] + c[k+1]) / 6,   velocity (c[k+1] - c[k-1]) / (2 dt),
    acceleration (c[k+1] - 2 c[k] + c[k-1]) / dt^2.

Why every limit holds between the knots too: a B-spline is at every moment a convex combination of control points, and
its derivatives are B-splines again, of their differences. Velocity is a convex combination of first differences / dt,
acceleration of second differences / dt^2, and jerk is one of the third differences / dt^3. The filter keeps all of
them within their limits, so the curve keeps them at all times.

Why a controller follows the same curve: between two knots it is one cubic. The cubic through the positions and
velocities of both ends is that one, and the quintic through their accelerations too, since both are unique. So points
at the knots mean the same to a controller that interpolates with either.

Why the curve can be replanned: control point k shapes it from knot k - 2 to knot k + 2 only. What arrives before knot
k - 2, and begins with knots that come before it, changes nothing that has been followed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lewm_ros.robot.limits import JointLimits

Array = NDArray[np.float64]

SHAPED_BEFORE = 2
"""A control point shapes the curve from so many knots before its own."""


class Knots(NamedTuple):
    """Positions, velocities and accelerations (n, J) of the curve, dt apart."""

    positions_rad: Array
    velocities_rad_s: Array
    accelerations_rad_s2: Array


def spline_knots(control_points_rad: Array, dt: float) -> Knots:
    """The knots of all control points (2 + n, J) but the first and the last."""
    before, at, after = control_points_rad[:-2], control_points_rad[1:-1], control_points_rad[2:]
    return Knots(
        (before + 4.0 * at + after) / 6.0,
        (after - before) / (2.0 * dt),
        (after - 2.0 * at + before) / dt**2,
    )


def rest_to_rest_s(distance_rad: Array, limits: JointLimits) -> float:
    """How long the quintic from rest to rest must take over distances (J,) to stay within the limits.

    Over 1 rad in 1 s it reaches 15/8 rad/s, 10/sqrt(3) rad/s2 and 60 rad/s3.
    """
    distance = np.abs(distance_rad)
    return float(
        max(
            np.max(15.0 / 8.0 * distance / limits.velocity_rad_s),
            np.max(10.0 / np.sqrt(3.0) * distance / limits.acceleration_rad_s2) ** (1.0 / 2.0),
            np.max(60.0 * distance / limits.jerk_rad_s3) ** (1.0 / 3.0),
        )
    )
