"""Small episodes of an arm that never existed, for tests of datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.robot.arm import PANDA
from lewm_training.data import merge_episodes, write_episode

CONTROL_HZ = 20.0
LIMIT_RAD = 0.05
META = {
    "action_space": "joint_delta",
    "limit": [LIMIT_RAD] * 7,
    "control_hz": CONTROL_HZ,
    "joint_names": list(PANDA.joint_names),
}


def toy_columns(number: int, steps: int = 20, size: int = 16) -> dict[str, NDArray[Any]]:
    """Columns of one episode; joints add up the actions, and every frame is a smooth picture of its own."""
    rng = np.random.default_rng(number)
    action = rng.uniform(-LIMIT_RAD, LIMIT_RAD, (steps, 7)).astype(np.float32)
    start = rng.uniform(-1.0, 1.0, 7)
    joints = start + np.concatenate([np.zeros((1, 7)), np.cumsum(action[:-1].astype(np.float64), axis=0)])
    row, column = np.mgrid[:size, :size] / size
    phase = (number + np.arange(steps) / steps)[:, None, None]
    channels = [np.sin(3.0 * (row + phase)), np.cos(3.0 * (column + phase)), np.sin(3.0 * (row * column + phase))]
    pixels = np.rint(127.5 + 127.5 * np.stack(channels, axis=-1)).astype(np.uint8)
    return {
        "pixels": pixels,
        "action": action,
        "proprio": joints.astype(np.float32),
        "ee_position": joints[:, :3].astype(np.float32),
        "timestamp_s": np.arange(steps) / CONTROL_HZ,
    }


def write_toy(path: Path, episodes: Sequence[dict[str, NDArray[Any]]], meta: dict[str, Any] | None = None) -> Path:
    """Write episodes as one dataset."""
    parts = []
    for number, columns in enumerate(episodes):
        parts.append(path.with_name(f"{path.stem}_{number}.h5"))
        write_episode(parts[-1], columns, {"number": number})
    merge_episodes(parts, path, META if meta is None else meta)
    for part in parts:
        part.unlink()
    return path
