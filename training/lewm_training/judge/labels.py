"""What a dataset knows about every frame, as targets for probes and as errors in units that people use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lewm_ros.robot.rotations import (
    CUBE_FOLD,
    angle_deg,
    cube_angle_deg,
    cube_numbers,
    cube_rotations,
    heading,
    rotations,
    two_axes,
    yaw_deg,
)
from lewm_training.data import EpisodeDataset
from lewm_training.data.spec import PROPRIO, DatasetSpec

Array = NDArray[np.float64]

NOT_LABELS = re.compile(r"action|timestamp.*|.*_goal|(ep|episode|frame|step|task)_(idx|index)|index|idx")
"""Numeric columns that say nothing about what a frame shows."""

POSITION, QUATERNION = 3, 4
"""Numbers of each."""

STANDARD = {
    "end effector position": ("ee_position",),
    "end effector orientation": ("ee_quaternion",),
    "end effector yaw": ("ee_quaternion",),
    "gripper opening": ("gripper",),
    "object position": ("object_pose",),
    "object orientation": ("object_pose",),
    "object yaw": ("object_pose",),
    "object relative to end effector": ("object_pose", "ee_position"),
    "contact": ("contact",),
    "joint positions": (PROPRIO,),
    "joint velocities": ("joint_velocity",),
}
"""What a manipulator's dataset should know, and the columns that each is made of."""


@dataclass(frozen=True)
class Label:
    """One label of N frames.

    Args:
        name: what it is called in tables.
        components: a name for each of the L targets.
        values: targets (N, L) to regress; not a number where the frame has no such label.
        unit: of the errors; empty for the column's own.
        errors: from predicted and true targets (M, L) to errors (M,) or (M, L) in that unit; None: yes or no, 1 or 0.
    """

    name: str
    components: tuple[str, ...]
    values: Array
    unit: str
    errors: Callable[[Array, Array], Array] | None

    @property
    def yes_or_no(self) -> bool:
        """Whether it is a question with two answers."""
        return self.errors is None


def labels_of(dataset: EpisodeDataset, rows: NDArray[np.int64]) -> list[Label]:
    """Every label that the dataset carries for `rows`, those of `STANDARD` first; what never changes is none.

    Columns are told by their names and sizes: joint positions and velocities, the gripper, positions, orientations,
    poses, and yes or no. An object is taken for a cube: its orientations that look alike are one. Other numeric columns
    are taken as they are, those of vectors with the names of their numbers.
    """
    values = {
        name: column[rows].astype(np.float64).reshape(len(rows), -1)
        for name, column in dataset.columns.items()
        if not NOT_LABELS.fullmatch(name) and column.ndim <= 2 and column.dtype.kind in "fiub"
    }
    changing = {name: column for name, column in values.items() if np.nanstd(column, axis=0).any()}
    labels = [label for name in sorted(changing) for label in _labels_of_column(name, changing[name], dataset.spec)]
    if {"object_pose", "ee_position"} <= changing.keys():
        apart = changing["object_pose"][:, :POSITION] - changing["ee_position"]
        labels.append(_position("object relative to end effector", apart))
    order = list(STANDARD)
    return sorted(labels, key=lambda label: order.index(label.name) if label.name in order else len(order))


def missing_labels(dataset: EpisodeDataset, labels: Sequence[Label]) -> dict[str, str]:
    """Those of `STANDARD` that are not among `labels`, and why."""
    found = {label.name for label in labels}
    missing = {}
    for name in (name for name in STANDARD if name not in found):
        lacking = [column for column in STANDARD[name] if column not in dataset.columns]
        missing[name] = f"no column {' or '.join(lacking)}" if lacking else "never changes, or is of another kind"
    return missing


def _labels_of_column(name: str, values: Array, spec: DatasetSpec) -> Iterator[Label]:
    size, joints = values.shape[1], spec.joints
    words = re.sub(r"^ee\b", "end effector", name.replace("_", " "))
    if name == PROPRIO and joints:
        yield Label("joint positions", joints, values, "deg", differences_deg)
    elif name == "joint_velocity" and size == len(joints):
        yield Label("joint velocities", joints, values, "deg/s", differences_deg)
    elif name == "gripper" and size == 1:
        yield Label("gripper opening", ("opening",), values, "mm", distances_mm)
    elif name.endswith("_position") and size == POSITION:
        yield _position(words, values)
    elif name.endswith("_quaternion") and size == QUATERNION:
        yield from _orientation(words.removesuffix(" quaternion"), values)
    elif name.endswith("_pose") and size == POSITION + QUATERNION:
        words = words.removesuffix(" pose")
        yield _position(f"{words} position", values[:, :POSITION])
        yield from _orientation(words, values[:, POSITION:])
    elif size == 1 and np.isin(values[np.isfinite(values)], (0.0, 1.0)).all():
        yield Label(words, (words,), values, "", None)
    else:
        numbered = (words,) if size == 1 else tuple(f"{words} {i}" for i in range(1, size + 1))
        yield Label(words, spec.vectors.get(name, numbered), values, "", differences)


def _position(name: str, values: Array) -> Label:
    return Label(name, ("x", "y", "z"), values, "mm", distances_mm)


def _orientation(body: str, quaternions: Array) -> Iterator[Label]:
    """How a body is turned, and its yaw alone."""
    axes = two_axes(quaternions)
    if body == "object":
        numbers, yaw = cube_numbers(rotations(axes)), ("cos 4 yaw", "sin 4 yaw")
        yield Label("object orientation", ("tilt x", "tilt y", *yaw), numbers, "deg", cube_angles_deg)
        yield Label("object yaw", yaw, numbers[:, 2:], "deg", lambda p, t: yaw_deg(p, t, CUBE_FOLD))
        return
    components = ("x axis, x", "x axis, y", "x axis, z", "y axis, x", "y axis, y", "y axis, z")
    yield Label(f"{body} orientation", components, axes, "deg", rotation_angles_deg)
    yield Label(f"{body} yaw", ("cos yaw", "sin yaw"), heading(axes), "deg", yaw_deg)


def rotation_angles_deg(predicted: Array, true: Array) -> Array:
    """Angles (M,) between rotations that are given by two axes (M, 6)."""
    return angle_deg(rotations(predicted), rotations(true))


def cube_angles_deg(predicted: Array, true: Array) -> Array:
    """Angles (M,) between orientations of a cube that are given by `cube_numbers` (M, 4)."""
    return cube_angle_deg(cube_rotations(predicted), cube_rotations(true))


def distances_mm(predicted: Array, true: Array) -> Array:
    """Distances (M,) between points (M, L) in m."""
    return 1000.0 * np.linalg.norm(predicted - true, axis=1)


def differences_deg(predicted: Array, true: Array) -> Array:
    """Differences (M, L) of angles (M, L) in rad."""
    return np.degrees(differences(predicted, true))


def differences(predicted: Array, true: Array) -> Array:
    """Differences (M, L) of numbers (M, L), without sign."""
    return np.abs(predicted - true)
