"""What tells strange goals, learned from how demonstrations end."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import FamiliarityConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.familiarity import Familiarity, enough_to_learn_from
from lewm_training.data import EpisodeDataset
from lewm_training.judge.embeddings import embed


def learn_familiarity(
    model: LeWorldModel, dataset: EpisodeDataset, train: NDArray[np.int64], held_out: NDArray[np.int64]
) -> Familiarity | None:
    """From the last frames of demonstrations, and of held-out ones; None if there are too few of them.

    Args:
        model: encodes the frames.
        dataset: of the demonstrations.
        train: numbers of the episodes that are learned from.
        held_out: of those that say what is usual.

    Raises:
        ConfigError, DatasetError: the dataset lacks what the model takes in.
    """
    goal_dim = len(model.goal_tokens) * model.config.embedding_dim
    if not enough_to_learn_from(len(train), goal_dim):
        return None

    def last_goals(episodes: NDArray[np.int64]) -> Tensor:
        rows = np.array([dataset.rows(episode).stop - 1 for episode in episodes])
        return torch.from_numpy(embed(model, dataset, rows)[:, list(model.goal_tokens)]).float().flatten(1)

    familiarity = Familiarity(FamiliarityConfig(), goal_dim)
    familiarity.learn(last_goals(train), last_goals(held_out))
    return familiarity
