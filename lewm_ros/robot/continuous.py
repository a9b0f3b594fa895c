"""Joints that turn without end: some drivers give positions within one turn, which jump from pi to -pi, some do not."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TURN_RAD = 2.0 * math.pi
LARGEST_STEP_RAD = 0.5 * math.pi
"""No joint turns this far from one row to the next."""


def follow_turns(positions_rad: Array, joint_names: Sequence[str], continuous: Collection[str]) -> Array:
    """Positions (rows, J) in which the continuous joints go the shortest way from row to row; the first row stays."""
    turning = [joint for joint, name in enumerate(joint_names) if name in continuous]
    followed = positions_rad.copy()
    followed[:, turning] = np.unwrap(positions_rad[:, turning], axis=0)
    return followed


def begin_in_first_turn(positions_rad: Array, joint_names: Sequence[str], continuous: Collection[str]) -> Array:
    """As `follow_turns`, and the continuous joints begin from -pi to pi."""
    turning = [joint for joint, name in enumerate(joint_names) if name in continuous]
    followed = follow_turns(positions_rad, joint_names, continuous)
    followed[:, turning] -= TURN_RAD * np.round(followed[:1, turning] / TURN_RAD)
    return followed


def find_wrap(positions_rad: Array, joint_names: Sequence[str], continuous: Collection[str] = ()) -> tuple[int, str]:
    """The first row of positions (rows, J) in which a joint wraps, and words for it; empty if none does.

    Args:
        positions_rad: successive positions.
        joint_names: of the J joints.
        continuous: joints that may wrap.
    """
    steps_rad = np.abs(np.diff(positions_rad, axis=0))
    wrapped = (np.abs(steps_rad - TURN_RAD) < LARGEST_STEP_RAD) & (np.abs(positions_rad[1:]) < TURN_RAD)
    for row, joint in np.argwhere(wrapped & [name not in continuous for name in joint_names]):
        before_rad, after_rad = positions_rad[row : row + 2, joint]
        return int(row) + 1, f"joint '{joint_names[joint]}' wraps from {before_rad:.4g} to {after_rad:.4g} rad"
    return 0, ""
