"""Stopping in steps of a fixed rate, for several joints at once: how fast is not too fast, and where a stop leads.

Braking by b (rad/s per step of dt) from a next velocity v takes steps of v, v - b, v - 2b, ... until it stands: in all
(n + 1) v - b n (n + 1) / 2 of them times dt, with n = floor(v / b).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LARGEST_SAMPLES = 16


def slowed(velocity: Array, braking: Array) -> Array:
    """Velocities (J,) after one step of braking."""
    return velocity - np.clip(velocity, -braking, braking)


def stoppable_speed(room_rad: Array, braking: Array, dt: float) -> Array:
    """The largest next speeds (J,) from which the joints can stop within `room_rad`; 0 where there is no room."""
    room = np.maximum(room_rad, 0.0) / dt
    steps = np.floor((np.sqrt(1.0 + 8.0 * room / braking) - 1.0) / 2.0)
    return room / (steps + 1.0) + braking * steps / 2.0


def braking_path(start_rad: Array, velocities: Array, braking: Array, dt: float) -> Array:
    """Positions (K, N, J) from the first step at velocities (N, J) to standstill, at no more than 16 of the steps."""
    speeds = np.abs(velocities)
    steps = math.ceil(np.max(speeds / braking))
    moments = np.unique(np.linspace(0, steps, min(steps + 1, LARGEST_SAMPLES)).round())
    full = np.minimum(moments[:, np.newaxis, np.newaxis], np.floor(speeds / braking))
    travelled = speeds * (full + 1.0) - braking * full * (full + 1.0) / 2.0
    return start_rad + np.sign(velocities) * travelled * dt
