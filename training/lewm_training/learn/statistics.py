"""What a checkpoint says of its inputs and actions, from the dataset that it is trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import InputsConfig, ModelConfig
from lewm_ros.observation.input_spec import CameraSpec, InputSpec, VectorSpec
from lewm_ros.robot.action_space import ActionSpace
from lewm_training.data import DatasetError, EpisodeDataset

LEAST_STD = 1e-6
"""Added to every std, for what never changes."""


def action_block(model: ModelConfig, dataset: EpisodeDataset) -> int:
    """Control steps per model step, from the sizes of the model's actions and the dataset's.

    Raises:
        DatasetError: the dataset's actions do not fit the model.
    """
    numbers = dataset.columns["action"].shape[1]
    if model.action_dim % numbers:
        raise DatasetError(
            f"{dataset.path}: actions have {numbers} numbers, which do not divide the model's action_dim "
            f"{model.action_dim}; set action_block to the control steps of a block"
        )
    return model.action_dim // numbers


def action_space_of(dataset: EpisodeDataset, episodes: NDArray[np.int64], block: int) -> ActionSpace:
    """The dataset's action space in blocks, with the statistics of `episodes`.

    Raises:
        DatasetError: the dataset does not say what its actions are.
    """
    space = dataset.spec.action_space
    if space is None:
        raise DatasetError(
            f"{dataset.path}: its attribute 'meta' does not say what the actions are: 'action_space', 'limit', "
            "'control_hz'; `lewm collect` and `lewm import` write it"
        )
    actions = dataset.statistics("action", episodes)
    return replace(
        space,
        action_block=block,
        mean=tuple(actions.mean.tolist()),
        std=tuple((actions.std + LEAST_STD).tolist()),
        **_known_range(dataset, space, episodes),
    )


def _known_range(dataset: EpisodeDataset, space: ActionSpace, episodes: NDArray[np.int64]) -> dict[str, Any]:
    """How far what the delta channels add up to went, where the dataset has it."""
    positions = dataset.spec.positions
    columns = {column: dataset.statistics(column, episodes) for column in {column for column, _ in positions.values()}}
    if not positions:
        return {}
    found = [positions.get(name) for name in space.names]
    low, high = (
        tuple(None if at is None else float(getattr(columns[at[0]], end)[at[1]]) for at in found)
        for end in ("low", "high")
    )
    return {"known_low": low, "known_high": high}


def input_spec_of(
    config: InputsConfig, image_size: int, dataset: EpisodeDataset, episodes: NDArray[np.int64]
) -> InputSpec:
    """What a model takes in of the dataset, with the statistics of `episodes`.

    Args:
        config: what of the dataset it takes.
        image_size: of the frames that it sees, pixels.
        dataset: what it learns from.
        episodes: those to train on.

    Raises:
        DatasetError: the dataset lacks a camera or a vector.
    """
    cameras = config.cameras or tuple(dataset.frames)
    goals, crops = config.goal_cameras or cameras, {crop.camera: crop.box for crop in config.crops}
    for kind, wanted, there in (
        ("camera", (*cameras, *goals), tuple(dataset.frames)),
        ("vector", config.vectors, tuple(dataset.spec.vectors)),
    ):
        missing = [name for name in wanted if name not in there]
        if missing:
            raise DatasetError(f"{dataset.path}: has no {kind} '{missing[0]}'; it has {', '.join(there) or 'none'}")
    return InputSpec(
        tuple(
            CameraSpec(
                name,
                image_size,
                crops.get(name, ()),
                in_goal=name in goals,
                recorded_size=dataset.frames[name].shape[1],
            )
            for name in cameras
        ),
        tuple(_vector(name, dataset, episodes, config.goal_vectors) for name in config.vectors),
    )


def _vector(name: str, dataset: EpisodeDataset, episodes: NDArray[np.int64], in_goal: bool) -> VectorSpec:
    found = dataset.statistics(name, episodes)
    std = tuple((found.std + LEAST_STD).tolist())
    return VectorSpec(name, dataset.spec.vectors[name], tuple(found.mean.tolist()), std, in_goal)
