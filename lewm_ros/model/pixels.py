"""Camera frames to model input: the one place where training and the live loop do it."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def fit_frame(frame: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Crop an RGB frame (height, width, 3) to its central square and resize it to the model's size, if it differs."""
    height, width = frame.shape[:2]
    if height != width:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        frame = frame[top : top + side, left : left + side]
    if frame.shape[0] != image_size:
        frame = cv2.resize(frame, (image_size, image_size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(frame)


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


@cache
def _normalised_values() -> NDArray[np.float32]:
    """What becomes of each value in each channel (1, 256, 3)."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 256, 1).expand(1, 256, 3)
    return np.ascontiguousarray(normalise_pixels(values).movedim(-3, -1).numpy())
