"""What heads read from states while training: numbers of every row, from columns of the dataset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ReadoutConfig, TrainConfig, WayToGraspConfig
from lewm_ros.robot.rotations import rotations, two_axes
from lewm_training.data.checks import DatasetError
from lewm_training.data.hindsight import grasp_rows
from lewm_training.data.reading import EpisodeDataset

Targets = Mapping[str, NDArray[np.float32]]
"""By the name of the head, numbers (N, n) of every row; NaN where they are not known."""

WAY_TO_GRASP = "way_to_grasp"


def targets_of(dataset: EpisodeDataset, config: TrainConfig) -> Targets:
    """What the heads of a recipe are to read.

    Raises:
        DatasetError: a column is missing or of the wrong size, or there is no gripper whose grasps could be told.
    """
    targets = {readout.name: _read_out(dataset, readout) for readout in config.readouts}
    if config.way_to_grasp is not None:
        targets[WAY_TO_GRASP] = way_to_grasp(dataset, config.way_to_grasp)
    return targets


def way_to_grasp(dataset: EpisodeDataset, config: WayToGraspConfig) -> NDArray[np.float32]:
    """From every row's hand, in its own frame, the way (m) to where the gripper next closes, and the turn (N, 6).

    The turn is a rotation vector, of which the length is twice the sine of half the angle: rad, if it is small. Rows
    from which the way is longer than `within_m` have NaN.
    """
    position = _numbers(dataset, config.position, 3).astype(np.float64)
    quaternion = _numbers(dataset, config.orientation, 4).astype(np.float64)
    grasps = grasp_rows(dataset)
    rows = np.flatnonzero(grasps >= 0)
    way = position[grasps[rows]] - position[rows]
    near = np.linalg.norm(way, axis=1) <= config.within_m
    rows, way = rows[near], way[near]
    hand = rotations(two_axes(quaternion[rows]))  # its axes as columns, (M, 3, 3)
    target = np.full((len(position), 6), np.nan, np.float32)
    target[rows] = np.concatenate(
        [np.einsum("nji,nj->ni", hand, way), _turn(quaternion[rows], quaternion[grasps[rows]])], axis=1
    )
    return target


def _turn(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 sin(angle / 2) times the axis (N, 3) of the turn between quaternions (N, 4), in the frame of the first."""
    w, v = start[:, :1], start[:, 1:]
    real = (start * end).sum(1, keepdims=True)
    vector = w * end[:, 1:] - end[:, :1] * v - np.cross(v, end[:, 1:])
    return 2.0 * np.where(real < 0.0, -1.0, 1.0) * vector


def _read_out(dataset: EpisodeDataset, readout: ReadoutConfig) -> NDArray[np.float32]:
    """The numbers that a readout asks for (N, n)."""
    column = _numbers(dataset, readout.column)
    if not readout.at_grasp:
        return column
    grasps = grasp_rows(dataset)
    return np.where(grasps[:, None] < 0, np.float32(np.nan), column[np.maximum(grasps, 0)])


def _numbers(dataset: EpisodeDataset, name: str, size: int | None = None) -> NDArray[np.float32]:
    """A column of vectors (N, n), of this size if one is asked for."""
    column = dataset.columns.get(name)
    if column is None or column.ndim != 2:
        there = ", ".join(name for name, found in dataset.columns.items() if found.ndim == 2)
        raise DatasetError(f"{dataset.path}: has no numbers '{name}' to read out; it has {there}")
    if size is not None and column.shape[1] != size:
        raise DatasetError(f"{dataset.path}: way_to_grasp: '{name}' has {column.shape[1]} numbers, {size} are needed")
    return np.asarray(column, np.float32)
