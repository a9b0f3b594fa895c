"""Frames and vectors to what a model takes: the one place where training, evaluation and the live loop do it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.observation.input_spec import InputSpec
from lewm_ros.observation.observation import Observation

Inputs = dict[str, Tensor]
"""By name, normalised frames (..., 3, height, width) and z-scored vectors (..., n)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_inputs(spec: InputSpec, values: Mapping[str, Tensor]) -> Inputs:
    """What the model takes of frames uint8 (..., height, width, 3) and vectors (..., n), by name."""
    frames = {camera.name: normalise_pixels(values[camera.name]) for camera in spec.cameras}
    return frames | _z_scored(spec, values)


def observation_inputs(spec: InputSpec, observation: Observation, device: torch.device | str = "cpu") -> Inputs:
    """What the model takes of one observation, as a batch of one; the numbers that `to_inputs` gives, to the bit.

    Raises:
        ValueError: a frame or a vector is missing, or is not what it should be.
    """
    return fitted_inputs(spec, spec.fit(observation), device)


def fitted_inputs(spec: InputSpec, seen: Observation, device: torch.device | str = "cpu") -> Inputs:
    """What the model takes of what `spec.fit` has made of one observation; see `observation_inputs`."""
    vectors = {name: torch.from_numpy(np.asarray(vector)[np.newaxis]) for name, vector in seen.vectors.items()}
    inputs = {name: normalise_frame(frame) for name, frame in seen.frames.items()} | _z_scored(spec, vectors)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def normalise_pixels(frames: Tensor) -> Tensor:
    """RGB frames uint8 (..., height, width, 3) -> ImageNet-normalised floats (..., 3, height, width)."""
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device)
    std = torch.tensor(IMAGENET_STD, device=frames.device)
    return ((frames.float() / 255.0 - mean) / std).movedim(-1, -3)


def normalise_frame(frame: NDArray[np.uint8]) -> Tensor:
    """One RGB frame (height, width, 3) as `normalise_pixels` gives it, to the bit: (1, 3, height, width).

    It looks the 256 values up, which for a single frame costs a fraction of the arithmetic's calls.
    """
    return torch.from_numpy(cv2.LUT(frame, _normalised_values())).movedim(-1, -3).unsqueeze(0)


def _z_scored(spec: InputSpec, values: Mapping[str, Tensor]) -> Inputs:
    scored = {}
    for vector in spec.vectors:
        value = values[vector.name].float()
        mean, std = (torch.tensor(numbers, device=value.device) for numbers in (vector.mean, vector.std))
        scored[vector.name] = (value - mean) / std
    return scored


@cache
def _normalised_values() -> NDArray[np.float32]:
    """What becomes of each value in each channel (1, 256, 3)."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 256, 1).expand(1, 256, 3)
    return np.ascontiguousarray(normalise_pixels(values).movedim(-3, -1).numpy())
