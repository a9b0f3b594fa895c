"""What a dataset knows about every frame, as targets for probes and as errors in units that people use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lewm_training.data import EpisodeDataset
from lewm_training.data.spec import PROPRIO, DatasetSpec

Array = NDArray[np.float64]

NOT_LABELS = re.compile(r"action|timestamp.*|(ep|episode|frame|step|task)_(idx|index)|index|idx")
"""Numeric columns that say nothing about what a frame shows."""

POSITION, QUATERNION = 3, 4
"""Numbers of each."""


@dataclass(frozen=True)
class Label:
    """One label of N frames.

    Args:
        name: what it is called in tables.
        components: a name for each of the L targets.
        values: targets (N, L) to regress; not a number where the frame has no such label.
        unit: of the error; empty for the column's own.
        error: from predicted and true targets (M, L) to one figure in that unit.
    """

    name: str
    components: tuple[str, ...]
    values: Array
    unit: str
    error: Callable[[Array, Array], float]


def labels_of(dataset: EpisodeDataset, rows: NDArray[np.int64]) -> list[Label]:
    """Every label that the dataset carries for `rows`; a column that never changes is none.

    Joint positions and velocities, positions, orientations, poses, the gripper and yes-or-no columns are told by their
    names and sizes; other numeric columns are taken as they are, those of vectors with the names of their numbers.
    """
    labels = []
    for name in sorted(dataset.columns, key=lambda name: (name != PROPRIO, name)):
        column = dataset.columns[name]
        if NOT_LABELS.fullmatch(name) or column.ndim > 2 or column.dtype.kind not in "fiub":
            continue
        values = column[rows].astype(np.float64).reshape(len(rows), -1)
        if np.nanstd(values, axis=0).any():
            labels += _labels_of_column(name, values, dataset.spec)
    return labels


def _labels_of_column(name: str, values: Array, spec: DatasetSpec) -> Iterator[Label]:
    size, words, joints = values.shape[1], name.replace("_", " "), spec.joints
    if name == PROPRIO and joints:
        yield Label("joint positions", joints, values, "deg", median_angle_deg)
    elif name == "joint_velocity" and size == len(joints):
        yield Label("joint velocities", joints, values, "deg/s", median_angle_deg)
    elif name == "gripper" and size == 1:
        yield Label("gripper opening", ("opening",), values, "mm", median_distance_mm)
    elif name.endswith("_position") and size == POSITION:
        yield _position(words, values)
    elif name.endswith("_quaternion") and size == QUATERNION:
        yield _orientation(words.replace("quaternion", "orientation"), values)
    elif name.endswith(("_pose", "_goal")) and size == POSITION + QUATERNION:
        words = words.removesuffix(" pose")
        yield _position(f"{words} position", values[:, :POSITION])
        yield _orientation(f"{words} orientation", values[:, POSITION:])
    elif size == 1 and np.isin(values, (0.0, 1.0)).all():
        yield Label(words, (words,), values, "%", wrong_percent)
    else:
        numbered = (words,) if size == 1 else tuple(f"{words} {i}" for i in range(1, size + 1))
        yield Label(words, spec.vectors.get(name, numbered), values, "", _median_difference)


def _position(name: str, values: Array) -> Label:
    return Label(name, ("x", "y", "z"), values, "mm", median_distance_mm)


def _orientation(name: str, quaternions: Array) -> Label:
    components = ("x axis, x", "x axis, y", "x axis, z", "y axis, x", "y axis, y", "y axis, z")
    return Label(name, components, two_axes(quaternions), "deg", median_rotation_deg)


def two_axes(quaternions: Array) -> Array:
    """Quaternions w, x, y, z (N, 4) -> the x and y axes (N, 6) of the rotations.

    Continuous, which quaternions and angles are not (Zhou et al., 1812.07035), so that a regression can be fair.
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    x_axis = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    y_axis = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    return np.stack([*x_axis, *y_axis], axis=1)


def median_rotation_deg(predicted: Array, true: Array) -> float:
    """Median angle between rotations that are given by two axes (M, 6)."""
    turned = _rotations(predicted).transpose(0, 2, 1) @ _rotations(true)
    cosine = (np.trace(turned, axis1=1, axis2=2) - 1.0) / 2.0
    return float(np.degrees(np.median(np.arccos(np.clip(cosine, -1.0, 1.0)))))


def _rotations(axes: Array) -> Array:
    """Two axes (M, 6), not quite orthonormal -> rotation matrices (M, 3, 3), by Gram and Schmidt."""
    x = axes[:, :3] / np.linalg.norm(axes[:, :3], axis=1, keepdims=True)
    y = axes[:, 3:] - (axes[:, 3:] * x).sum(1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=2)


def median_distance_mm(predicted: Array, true: Array) -> float:
    """Median distance between points (M, L) in m."""
    return float(1000.0 * np.median(np.linalg.norm(predicted - true, axis=1)))


def median_angle_deg(predicted: Array, true: Array) -> float:
    """Median difference of angles (M, L) in rad, over all frames and joints."""
    return float(np.degrees(_median_difference(predicted, true)))


def wrong_percent(predicted: Array, true: Array) -> float:
    """Share of wrong answers to a yes-or-no label (M, 1), yes and no counted alike: 50 is guessing."""
    wrong = (predicted >= 0.5) != (true >= 0.5)
    return float(100.0 * np.mean([wrong[true == answer].mean() for answer in np.unique(true)]))


def _median_difference(predicted: Array, true: Array) -> float:
    return float(np.median(np.abs(predicted - true)))
