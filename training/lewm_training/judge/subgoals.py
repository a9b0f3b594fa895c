"""Goals on the way to a goal: the stages of the demonstration that began and ended most alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lewm_ros.environments import Environment
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.observation.observation import Observation
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.planning.goal_sequence import GoalSequence
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.hindsight import grasp_rows
from lewm_training.judge.embeddings import embed

LIFTED_S = 0.75
"""So long after the hand begins to close the object is lifted."""

RELEASED_S = 0.2
"""So long after the hand begins to open it has let go. Later the hand rests, and no frame is nearer to its end."""


class NearestDemonstration(NamedTuple):
    """The demonstration that is most alike, and the goals that it gives, the one that was asked for last."""

    episode: int
    goals: list[Observation]


class SubgoalFinder:
    """Finds goals on the way in the demonstrations that grasp, and later let go.

    Args:
        checkpoint: its encoder says what is alike.
        dataset: of demonstrations.
        progress: names a bar to show; empty: none.

    Raises:
        ConfigError, DatasetError: the dataset lacks what the model takes in, a gripper, or such demonstrations.
    """

    def __init__(self, checkpoint: Checkpoint, dataset: EpisodeDataset, progress: str = "") -> None:
        self._checkpoint, self._dataset = checkpoint, dataset
        self._stages = stage_rows(dataset)
        if not self._stages:
            raise DatasetError(f"{dataset.path}: no episode in which the hand closes, stays closed, and opens again")
        rows = [dataset.rows(episode) for episode in self._stages]
        ends = np.array([[row.start, row.stop - 1] for row in rows])
        states = embed(checkpoint.model, dataset, ends.flatten(), progress=progress)
        self._ends = states[:, list(checkpoint.goal_tokens)].reshape(len(ends), -1)  # (E, 2 * Kg * D)

    def find(self, start: Observation, goal: Observation) -> NearestDemonstration:
        """What the demonstration went through that began like `start` and ended like `goal`, then `goal` itself.

        Both hold frames of the cameras that a goal has, at least.

        Raises:
            ValueError: a frame is missing, or is not what it should be.
        """
        wanted = torch.cat([self._checkpoint.encode_goal(seen).flatten() for seen in (start, goal)])
        distances = np.square(self._ends - wanted.double().cpu().numpy()).sum(axis=1)
        episode = list(self._stages)[int(np.argmin(distances))]
        return NearestDemonstration(episode, [*(self._seen(row) for row in self._stages[episode]), goal])

    def _seen(self, row: int) -> Observation:
        """The frames that a goal has at a row."""
        dataset = self._dataset
        sources = self._checkpoint.inputs.sources(dataset.frames, str(dataset.path))
        cameras = [camera.name for camera in self._checkpoint.inputs.of_goal().cameras]
        return Observation({name: dataset.frames[sources[name]][np.array([row])][0] for name in cameras})


def stage_rows(dataset: EpisodeDataset) -> dict[int, list[int]]:
    """Of every episode that grasps and lets go the rows of its stages, for its last grasp.

    They are: about to close, lifted, about to open, and let go; where two are one, there is one row.

    Raises:
        DatasetError: the actions are not those of a hand that grasps.
    """
    grasps: NDArray[np.int64] = grasp_rows(dataset)
    space = dataset.spec.action_space
    (gripper,) = space.places("absolute")
    middle = (space.channels[gripper].low + space.channels[gripper].high) / 2.0
    lifting, releasing = (round(seconds * space.control_hz) for seconds in (LIFTED_S, RELEASED_S))
    stages = {}
    for episode in range(len(dataset.lengths)):
        rows = dataset.rows(episode)
        closing = int(grasps[rows].max())
        if episode in dataset.skipped or closing < 0:
            continue
        opened = np.flatnonzero(dataset.columns["action"][closing : rows.stop, gripper] <= middle)
        if len(opened):
            opening = closing + int(opened[0])
            lifted, let_go = min(closing + lifting, opening), min(opening + releasing, rows.stop - 1)
            stages[episode] = list(dict.fromkeys([closing, lifted, opening, let_go]))
    return stages


def sequence_for(
    checkpoint: Checkpoint,
    planner: RecedingHorizonPlanner,
    environment: Environment,
    finder: SubgoalFinder | None = None,
) -> GoalSequence:
    """The goals of an environment's present problem in order; with demonstrations, theirs on the way to the last.

    Raises:
        ValueError: there are several, and the checkpoint has nothing that says when one is reached.
    """
    goals = environment.goals()
    if finder is not None:
        goals = finder.find(environment.observe(), goals[-1]).goals
    return planner.sequence(torch.stack([checkpoint.encode_goal(goal) for goal in goals]))
