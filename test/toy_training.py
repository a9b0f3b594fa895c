"""A world small enough to train on: a bright bar whose place is joint 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import small_model_config
from toy_dataset import LIMIT_RAD, META

from lewm_ros.config import TrainConfig
from lewm_training.data import EpisodeDataset, merge_episodes, write_episode
from lewm_training.learn.trainer import Trainer

NANO_RECIPE = {
    "model": {
        "encoder": {"image_size": 32, "patch_size": 8, "width": 16, "depth": 1, "heads": 2},
        "predictor": {"depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 32},
        "embedding_dim": 16,
        "projector_dim": 32,
        "history": 2,
    },
    "action_block": 2,
    "batch_size": 8,
    "steps_per_epoch": 2,
    "epochs": 1,
    "validation_fraction": 0.3,
    "validation_windows": 8,
    "probe_frames": 16,
    "precision": "fp32",
}
"""What a YAML for `lewm train` says to be done in no time."""

EPISODES, STEPS, BLOCK = 6, 40, 5


def write_bars(folder: Path, labels: bool = True, straight: bool = False) -> Path:
    """Six short episodes of the bar as one dataset; the first two of them share an anchor.

    The bar wanders about the middle, and all joints but its own rest. If `straight`, it goes from 0.4 to 0.6 and, in
    every other episode, back, while the other joints wander; that is less than a patch, so that no two places look
    alike to an encoder that has hardly learned.
    """
    rng, parts = np.random.default_rng(0), []
    for number in range(EPISODES):
        action = np.zeros((STEPS, 7), dtype=np.float32)
        wanders, way = (slice(1, 7), 0.2 * (-1) ** number) if straight else (slice(0, 1), 0.0)
        action[:, 0] = way / STEPS
        shape = action[:, wanders].shape
        action[:, wanders] = rng.normal(0.0, 0.02, shape).clip(-LIMIT_RAD, LIMIT_RAD)
        joints = np.zeros((STEPS, 7), dtype=np.float32)
        joints[:, 0] = 0.5 - way / 2 + np.concatenate([[0.0], np.cumsum(action[:-1, 0])])
        bar = np.abs(np.arange(32) - 32 * joints[:, :1]) < 4
        pixels = np.broadcast_to(255 * bar[:, None, :, None], (STEPS, 32, 32, 3)).astype(np.uint8)
        columns: dict[str, Any] = {"pixels": pixels, "action": action}
        if labels:
            columns |= {"proprio": joints, "ee_position": joints[:, :3]}
        parts.append(folder / f"{number}.h5")
        write_episode(parts[-1], columns, {"number": number, "anchor": 0 if number < 2 else None})
    merge_episodes(parts, folder / "bars.h5", META)
    return folder / "bars.h5"


def toy_config(**changes: Any) -> TrainConfig:
    sizes = {"batch_size": 8, "steps_per_epoch": 3, "validation_fraction": 0.2, "validation_windows": 8}
    rest = {"probe_frames": 20, "epochs": 2, "precision": "fp32"}
    return TrainConfig(**{"model": small_model_config(), **sizes, **rest, **changes})


def toy_trainer(path: Path, folder: Path, **changes: Any) -> Trainer:
    return Trainer(toy_config(**changes), EpisodeDataset.open(path), folder, seed=0, device="cpu")


def state_of(folder: Path) -> dict[str, Any]:
    """Everything that a run goes on from."""
    return torch.load(folder / "state.pt", weights_only=True)


def assert_same_state(one: Any, other: Any, where: str = "state") -> None:
    """Equal to the last bit, but for the time it took."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"trained_s"}:
            assert_same_state(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same_state(left, right, f"{where}[{index}]")
    else:
        assert one == other, where
