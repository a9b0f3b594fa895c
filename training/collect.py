"""Record episodes of the simulated arm in parallel processes."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.robot.arm import PANDA
from lewm_ros.sim import SimArm, make_task
from lewm_training.dataset import merge_episodes, write_episode
from lewm_training.exploration import ANCHORS, KINDS, Explorer

JOINT_DELTA_LIMIT_RAD = (0.05,) * 7
"""Largest change per control step: 1 rad/s at 20 Hz, under half of the Panda's velocity limits."""


@dataclass(frozen=True)
class CollectConfig:
    """What to record. An episode's generator is seeded with (seed, crc32 of 'collect', episode number)."""

    task: str = "reach"
    episodes: int = 1000
    steps: int = 100
    image_size: int = 96
    control_hz: float = 20.0
    seed: int = 0


@lru_cache(maxsize=1)
def _arm(task: str, control_hz: float, image_size: int) -> SimArm:
    """The process's arm: a rendering context is costly to make and is kept from episode to episode."""
    return SimArm(control_hz, image_size, cube=make_task(task).needs_cube)


def record_episode(config: CollectConfig, number: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Simulate one episode: its columns and its notes."""
    rng = np.random.default_rng([config.seed, zlib.crc32(b"collect"), number])
    arm = _arm(config.task, config.control_hz, config.image_size)
    kind = KINDS[number % len(KINDS)]
    explorer = Explorer(kind, np.asarray(JOINT_DELTA_LIMIT_RAD), rng)
    anchor = number // len(KINDS) % ANCHORS if kind == "wrist" else None
    arm.reset(explorer.start_rad(arm, anchor))
    columns: dict[str, list[Any]] = {}
    for _ in range(config.steps):
        action = explorer.propose(arm.target_rad)
        if not arm.is_free(arm.target_rad + action):
            explorer.redraw()
            action = np.zeros(7)
        row = observe(arm) | {"action": action.astype(np.float32)}
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
        arm.step(arm.target_rad + action)
    return {n: np.stack(v) for n, v in columns.items()}, {"number": number, "kind": kind, "anchor": anchor}


def observe(arm: SimArm) -> dict[str, NDArray[Any]]:
    """One row of labels and pixels of the present state."""
    row = {
        "pixels": arm.render(),
        "proprio": arm.positions_rad.astype(np.float32),
        "joint_velocity": arm.velocities_rad_s.astype(np.float32),
        "gripper": np.array([arm.gripper_m], dtype=np.float32),
        "ee_position": arm.tcp_position_m.astype(np.float32),
        "ee_quaternion": arm.tcp_quaternion.astype(np.float32),
    }
    if arm.has_cube:
        row["object_pose"] = arm.cube_pose.astype(np.float32)
    return row


def _record_part(job: tuple[CollectConfig, int, Path]) -> int:
    config, number, path = job
    write_episode(path, *record_episode(config, number))
    return number


def collect(config: CollectConfig, out: Path, processes: int) -> Path:
    """Record all episodes of `config` into the HDF5 file `out`; episodes already recorded are kept.

    Finished episodes wait in `OUT.parts/` until all are there, so that an interrupted run can go on.
    """
    folder = out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"{number:06d}.h5" for number in range(config.episodes)]
    jobs = [(config, number, part) for number, part in enumerate(parts) if not part.exists()]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        finished: Iterable[int] = pool.imap_unordered(_record_part, jobs)
        for _ in tqdm(finished, total=len(jobs), desc=f"collect {config.task}", unit="episode"):
            pass
    meta = {
        "config": asdict(config),
        "action_space": "joint_delta",
        "limit": JOINT_DELTA_LIMIT_RAD,
        "joint_names": PANDA.joint_names,
        "control_hz": config.control_hz,
    }
    merge_episodes(parts, out, meta)
    for part in parts:
        part.unlink()
    folder.rmdir()
    return out
