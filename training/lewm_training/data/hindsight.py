"""What an episode itself tells about its earlier frames: goals that were reached, and where the gripper closed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lewm_training.data.checks import DatasetError
from lewm_training.data.reading import EpisodeDataset

HELD_STEPS = 5
"""So long the gripper must stay closed, so that noise in its command is no grasp."""


class HindsightGoals:
    """Goals for rows: later rows of the same episode.

    Args:
        dataset: where the episodes are.
        final_share: share of goals that are the last row of the episode.
        within: the others are at most so many rows later; None: however far.
    """

    def __init__(self, dataset: EpisodeDataset, final_share: float, within: int | None = None) -> None:
        self._last = np.repeat(dataset.offsets + dataset.lengths - 1, dataset.lengths)
        self._final_share, self._within = final_share, within

    def draw(self, rng: np.random.Generator, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """A row at or after each of the rows (B,), as chance has it."""
        last = self._last[rows]
        farthest = last if self._within is None else np.minimum(last, rows + self._within)
        between = rng.integers(rows, farthest + 1)
        return np.where(rng.random(len(rows)) < self._final_share, last, between)


def grasp_rows(dataset: EpisodeDataset) -> NDArray[np.int64]:
    """For every row with an open gripper the one of its episode at which the gripper next closes, itself included.

    It is -1 where the gripper does not close any more, and while it is closed: what it will grasp after that is open.

    Raises:
        DatasetError: the actions have no single absolute channel, that of a gripper.
    """
    space = dataset.spec.action_space
    places = space.places("absolute") if space else []
    if len(places) != 1:
        raise DatasetError(f"{dataset.path}: a readout at_grasp needs actions with one absolute channel, the gripper's")
    channel = space.channels[places[0]]
    above = np.asarray(dataset.columns["action"])[:, places[0]] > (channel.low + channel.high) / 2.0
    rows = np.full(len(above), -1)
    for episode in range(len(dataset.lengths)):
        where = dataset.rows(episode)
        closed, next_row = above[where], -1
        for step in range(len(closed) - 1, -1, -1):
            begins = not (step and closed[step - 1])
            if begins and closed[step : step + HELD_STEPS].all():
                next_row = where.start + step
            if begins or not closed[step]:
                rows[where.start + step] = next_row
    return rows
