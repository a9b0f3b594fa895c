"""Record episodes of the simulated arm, in parallel."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.robot.arm import PANDA, Array
from lewm_ros.sim import Problem, SimArm, apply_action, make_task
from lewm_training.collect.experts import Expert, PickPlaceExpert, PushExpert
from lewm_training.collect.exploration import ANCHORS, KINDS, Explorer
from lewm_training.collect.workers import Spread
from lewm_training.data import merge_episodes, write_episode
from lewm_training.data.writing import parts_folder

JOINT_DELTA_LIMIT_RAD = (0.05,) * 7
"""Largest change per control step: 1 rad/s at 20 Hz, under half of the Panda's velocity limits."""

EE_DELTA_LIMIT = (0.02,) * 3 + (0.08,) * 3 + (1.0,)
"""Largest twist per control step (0.4 m/s and 1.6 rad/s at 20 Hz) and gripper command."""


@dataclass(frozen=True)
class CollectConfig:
    """What to record. An episode's generator is seeded with (seed, crc32 of 'collect', episode number).

    Args:
        steps: control steps per episode; None: the task's own number.
        noise: largest noise of a scripted expert, as a share of the action limit; each episode draws its own.
    """

    task: str = "reach"
    episodes: int = 1000
    steps: int | None = None
    image_size: int = 96
    control_hz: float = 20.0
    seed: int = 0
    noise: float = 0.2


class Behaviour(Protocol):
    """What moves the arm while an episode is recorded."""

    def act(self, arm: SimArm) -> Array:
        """The next action (7,), within the limit."""
        ...


@dataclass(frozen=True)
class Scene:
    """An episode about to begin: the arm and the cube stand at their start."""

    behaviour: Behaviour
    notes: dict[str, Any]
    problem: Problem | None = None


@dataclass(frozen=True)
class Recipe:
    """How a task is recorded: in which action space, for how many control steps, and how an episode is set up."""

    action_space: str
    limit: tuple[float, ...]
    steps: int
    begin: Callable[[CollectConfig, SimArm, int, np.random.Generator], Scene]


def _explore(config: CollectConfig, arm: SimArm, number: int, rng: np.random.Generator) -> Scene:
    kind = KINDS[number % len(KINDS)]
    explorer = Explorer(kind, np.asarray(JOINT_DELTA_LIMIT_RAD), rng)
    anchor = number // len(KINDS) % ANCHORS if kind == "wrist" else None
    arm.reset(explorer.start_rad(arm, anchor))
    return Scene(explorer, {"kind": kind, "anchor": anchor})


def _demonstrate(
    expert: type[Expert], config: CollectConfig, arm: SimArm, number: int, rng: np.random.Generator
) -> Scene:
    task = make_task(config.task)
    problem = task.sample(arm, rng)
    task.start(arm, problem)
    noise = rng.uniform(0.0, config.noise)
    behaviour = expert(problem, np.asarray(EE_DELTA_LIMIT), rng, noise)
    return Scene(behaviour, {"kind": "expert", "noise": noise}, problem)


RECIPES = {
    "reach": Recipe("joint_delta", JOINT_DELTA_LIMIT_RAD, 100, _explore),
    "push": Recipe("ee_delta", EE_DELTA_LIMIT, 120, partial(_demonstrate, PushExpert)),
    "pick_place": Recipe("ee_delta", EE_DELTA_LIMIT, 120, partial(_demonstrate, PickPlaceExpert)),
}


@lru_cache(maxsize=1)
def _arm(task: str, control_hz: float, image_size: int) -> SimArm:
    """The process's arm: a rendering context is costly to make and is kept from episode to episode."""
    return SimArm(control_hz, image_size, cube=make_task(task).needs_cube)


def record_episode(config: CollectConfig, number: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Simulate one episode: its columns and its notes."""
    rng = np.random.default_rng([config.seed, zlib.crc32(b"collect"), number])
    task, recipe = make_task(config.task), RECIPES[config.task]
    arm = _arm(config.task, config.control_hz, config.image_size)
    scene = recipe.begin(config, arm, number, rng)
    rows: dict[str, list[Any]] = {}
    for _ in range(config.steps or recipe.steps):
        action = scene.behaviour.act(arm)
        for name, value in (observe(arm) | {"action": action.astype(np.float32)}).items():
            rows.setdefault(name, []).append(value)
        apply_action(arm, recipe.action_space, action)
    columns = {name: np.stack(values) for name, values in rows.items()}
    notes = {"number": number} | scene.notes
    if scene.problem is not None:
        columns["object_goal"] = np.tile(scene.problem.cube_goal_pose.astype(np.float32), (len(columns["action"]), 1))
        notes["success"] = task.distance_m(arm, scene.problem) <= task.success_m
    return columns, notes


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
        row["contact"] = np.array([arm.touches_cube], dtype=np.float32)
    return row


def collect(config: CollectConfig, out: Path, spread: Spread) -> Path:
    """Record all episodes of `config` into the HDF5 file `out`; episodes already recorded are kept.

    Finished episodes wait in `OUT.parts/` until all are there, so that an interrupted run can go on. The file does not
    depend on where they were simulated.

    Args:
        config: what to record.
        out: the file to write.
        spread: where episodes are simulated.

    Raises:
        OutputError: the file exists, or another process writes it.
        DatasetError: the episodes that wait there were recorded with other settings.
        SpreadError: a worker was lost; finished episodes are kept.
    """
    recipe = RECIPES[config.task]
    settings = asdict(config) | {"steps": config.steps or recipe.steps}
    meta = {
        "config": settings,
        "action_space": recipe.action_space,
        "limit": recipe.limit,
        "joint_names": PANDA.joint_names,
        "control_hz": config.control_hz,
    }
    with parts_folder(out, {name: value for name, value in settings.items() if name != "episodes"}) as folder:
        parts = [folder / f"{number:06d}.h5" for number in range(config.episodes)]
        left = [number for number, part in enumerate(parts) if not part.exists()]
        episodes = spread(partial(record_episode, config), left)
        bar = {"total": len(parts), "initial": len(parts) - len(left), "unit": "episode"}
        for number, (columns, notes) in tqdm(episodes, desc=f"collect {config.task}", **bar):
            write_episode(parts[number], columns, notes)
        merge_episodes(parts, out, meta)
    return out
