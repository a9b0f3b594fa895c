"""Datasets of any size that hold nothing to learn, to measure how they are read."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lewm_ros.observation.input_spec import UNNAMED
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import joint_delta
from lewm_training.data.spec import PROPRIO, DatasetSpec, camera_columns
from lewm_training.data.writing import new_file

EPISODE_STEPS = 100
LIMIT_RAD = 0.05
CONTROL_HZ = 20.0
NOISE_BYTES = 1 << 26
GB = 10**9


@contextlib.contextmanager
def synthetic_dataset(folder: Path, gigabytes: float, image_size: int, seed: int, sparse: bool) -> Iterator[Path]:
    """A file of about `gigabytes` of frames in `folder`, gone afterwards.

    Args:
        folder: where there is room for it.
        gigabytes: size of the frames, in 10^9 bytes.
        image_size: height and width of the frames.
        seed: of actions, labels and noise.
        sparse: leave the frames unwritten (zeros that take no disk) instead of filling them with noise.
    """
    path = folder / f"synthetic_{os.getpid()}.h5"
    episodes = max(2, round(gigabytes * GB / (3 * image_size**2 * EPISODE_STEPS)))
    steps = episodes * EPISODE_STEPS
    rng = np.random.default_rng(seed)
    joints = PANDA.joint_names
    actions = joint_delta(joints, (LIMIT_RAD,) * len(joints), CONTROL_HZ)
    spec = DatasetSpec(camera_columns([UNNAMED]), {PROPRIO: joints}, actions)
    try:
        with new_file(path) as file:
            file["ep_len"] = np.full(episodes, EPISODE_STEPS)
            file["ep_offset"] = np.arange(episodes) * EPISODE_STEPS
            pixels = file.create_dataset(spec.cameras[UNNAMED], (steps, image_size, image_size, 3), np.uint8)
            widths = {"action": spec.action_space.dim, PROPRIO: len(joints), "ee_position": 3}
            columns = {name: file.create_dataset(name, (steps, width), np.float32) for name, width in widths.items()}
            noise = rng.integers(0, 256, NOISE_BYTES, dtype=np.uint8)
            for start in tqdm(range(0, steps, EPISODE_STEPS), desc="synthetic dataset", unit="episode"):
                rows = slice(start, start + EPISODE_STEPS)
                for name, column in columns.items():
                    column[rows] = rng.uniform(-LIMIT_RAD, LIMIT_RAD, (EPISODE_STEPS, widths[name]))
                if not sparse or rows.stop == steps:
                    first = rng.integers(NOISE_BYTES - EPISODE_STEPS * pixels[0].size)
                    pixels[rows] = noise[first:][: EPISODE_STEPS * pixels[0].size].reshape(
                        EPISODE_STEPS, *pixels.shape[1:]
                    )
            file.attrs["meta"] = json.dumps(spec.meta())
        yield path
    finally:
        for leftover in (path, path.with_name(f"{path.name}.writing")):
            leftover.unlink(missing_ok=True)
