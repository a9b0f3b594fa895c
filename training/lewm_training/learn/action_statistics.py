"""The action space of a checkpoint, from the dataset that it is trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ModelConfig
from lewm_ros.robot.action_space import ACTION_DIM, ActionSpace
from lewm_training.data import DatasetError, EpisodeDataset


def action_block(model: ModelConfig, dataset: EpisodeDataset) -> int:
    """Control steps per model step, from the sizes of the model's actions and the dataset's.

    Raises:
        DatasetError: frames or actions of the dataset do not fit the model.
    """
    height, width = dataset.pixels.shape[1:3]
    size = model.encoder.image_size
    if (height, width) != (size, size):
        raise DatasetError(f"{dataset.path}: frames are {width}x{height} px, the model takes {size}x{size}")
    numbers = dataset.columns["action"].shape[1]
    if model.action_dim % numbers:
        raise DatasetError(
            f"{dataset.path}: actions have {numbers} numbers, which do not divide the model's action_dim "
            f"{model.action_dim}; set model.action_dim to {numbers} times the control steps of a block"
        )
    return model.action_dim // numbers


def action_space_of(dataset: EpisodeDataset, episodes: NDArray[np.int64], block: int) -> ActionSpace:
    """The dataset's action space in blocks, with the statistics of `episodes`.

    Raises:
        DatasetError: the dataset does not say what its actions are.
    """
    for key in ("action_space", "control_hz", "limit"):
        if key not in dataset.meta:
            raise DatasetError(
                f"{dataset.path}: its attribute 'meta' lacks '{key}'; `lewm collect` and `lewm import` write it"
            )
    actions = dataset.statistics("action", episodes)
    known = {}
    proprio = dataset.columns.get("proprio")
    if dataset.meta["action_space"] == "joint_delta" and proprio is not None and proprio.shape[1:] == (ACTION_DIM,):
        positions = dataset.statistics("proprio", episodes)
        known = {"known_low": tuple(positions.low.tolist()), "known_high": tuple(positions.high.tolist())}
    return ActionSpace(
        kind=dataset.meta["action_space"],
        control_hz=dataset.meta["control_hz"],
        action_block=block,
        limit=tuple(dataset.meta["limit"]),
        mean=tuple(actions.mean.tolist()),
        std=tuple((actions.std + 1e-6).tolist()),
        joint_names=tuple(dataset.meta.get("joint_names", ())),
        **known,
    )
