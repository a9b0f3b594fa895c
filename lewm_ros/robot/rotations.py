"""Rotations as numbers that a regression can be fair to, and how far two are apart; those of a cube too."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CUBE_FOLD = 4
"""How often a cube that is turned once about the vertical looks the same."""


def two_axes(quaternions: Array) -> Array:
    """Quaternions w, x, y, z (N, 4) -> the x and y axes (N, 6) of the rotations.

    Continuous, which quaternions and angles are not (Zhou et al., 1812.07035), so that a regression can be fair.
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    x_axis = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    y_axis = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    return np.stack([*x_axis, *y_axis], axis=1)


def quaternions(rotation_vectors: Array) -> Array:
    """Rotation vectors (N, 3), rad -> quaternions w, x, y, z (N, 4)."""
    angles = np.linalg.norm(rotation_vectors, axis=1, keepdims=True)
    share = 0.5 * np.sinc(angles / (2.0 * np.pi))  # sin(angle / 2) / angle, also at 0
    return np.concatenate([np.cos(angles / 2.0), share * rotation_vectors], axis=1)


def quaternions_of(rotated: Array) -> Array:
    """Rotation matrices (N, 3, 3) -> quaternions w, x, y, z (N, 4), w not negative.

    Each is the eigenvector of a symmetric matrix (Bar-Itzhack, 2000), so that no turn is a special case.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotated.transpose(1, 2, 0)
    matrix = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    found = np.linalg.eigh(matrix.transpose(2, 0, 1)).eigenvectors[:, :, -1]
    return np.where(found[:, :1] < 0.0, -found, found)


def rotations(axes: Array) -> Array:
    """Two axes (N, 6), not quite orthonormal -> rotation matrices (N, 3, 3), by Gram and Schmidt."""
    x = axes[:, :3] / np.linalg.norm(axes[:, :3], axis=1, keepdims=True)
    y = axes[:, 3:] - (axes[:, 3:] * x).sum(1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=2)


def angle_deg(one: Array, other: Array) -> Array:
    """Angle (N,) of the turn from each rotation (N, 3, 3) to another."""
    return _turn_deg(np.trace(one.transpose(0, 2, 1) @ other, axis1=1, axis2=2))


def heading(axes: Array) -> Array:
    """Where the x axis of two axes (N, 6) points, seen from above: the cosine and the sine (N, 2) of the yaw."""
    return axes[:, :2] / np.maximum(np.linalg.norm(axes[:, :2], axis=1, keepdims=True), 1e-9)


def yaw_deg(one: Array, other: Array, fold: int = 1) -> Array:
    """Angle (N,) between yaws that are given by the cosine and the sine of `fold` times each (N, 2)."""
    apart = np.arctan2(one[:, 1], one[:, 0]) - np.arctan2(other[:, 1], other[:, 0])
    return np.degrees(np.abs(np.arctan2(np.sin(apart), np.cos(apart)))) / fold


def cube_numbers(rotated: Array) -> Array:
    """Rotations of a cube (N, 3, 3) -> four numbers (N, 4) that are the same for all 24 that look alike.

    The x and the y of the axis of the cube that is nearest to the vertical; the cosine and the sine of four times the
    yaw about it. Continuous up to a tilt of 45 degrees.
    """
    upward = np.abs(rotated[:, 2]).argmax(1)
    rows = np.arange(len(rotated))
    up = rotated[rows, :, upward] * np.sign(rotated[rows, 2, upward])[:, None]
    side = rotated[rows, :, (upward + 1) % 3]
    level = np.einsum("nji,nj->ni", _tilts(up), side)
    yaw = CUBE_FOLD * np.arctan2(level[:, 1], level[:, 0])
    return np.stack([up[:, 0], up[:, 1], np.cos(yaw), np.sin(yaw)], axis=1)


def cube_rotations(numbers: Array) -> Array:
    """One of the rotations (N, 3, 3) that `cube_numbers` (N, 4), not quite consistent, stand for."""
    tilt, yaw = numbers[:, :2], np.arctan2(numbers[:, 3], numbers[:, 2]) / CUBE_FOLD
    upright = np.sqrt(np.maximum(1.0 - (tilt**2).sum(1, keepdims=True), 0.0))
    up = np.concatenate([tilt, upright], axis=1)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    turn = [[np.cos(yaw), -np.sin(yaw), zero], [np.sin(yaw), np.cos(yaw), zero], [zero, zero, one]]
    return _tilts(up) @ np.stack([np.stack(row, axis=1) for row in turn], axis=1)


def cube_angle_deg(one: Array, other: Array) -> Array:
    """The least angle (N,) of a turn that makes a cube rotated by (N, 3, 3) look as if it were rotated by another."""
    traces = np.einsum("nji,njk,ski->ns", one, other, CUBE_SYMMETRIES)
    return _turn_deg(traces.max(1))


def _turn_deg(trace: Array) -> Array:
    return np.degrees(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0)))


def _tilts(up: Array) -> Array:
    """The shortest turns (N, 3, 3) that bring the vertical to `up` (N, 3), which points upwards."""
    x, y, z = up.T
    share = 1.0 / (1.0 + z)
    rows = [[1.0 - x * x * share, -x * y * share, x], [-x * y * share, 1.0 - y * y * share, y], [-x, -y, z]]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def _cube_symmetries() -> Array:
    """Permutations of a cube's axes, with signs, that keep it right-handed (24, 3, 3)."""
    signed = (
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in permutations(range(3))
        for signs in product((-1.0, 1.0), repeat=3)
    )
    return np.stack([matrix for matrix in signed if np.linalg.det(matrix) > 0.0])


CUBE_SYMMETRIES = _cube_symmetries()
"""The 24 rotations (24, 3, 3) that leave a cube as it is."""
