"""Record episodes of an environment, in parallel."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.config import ConfigError, to_mapping
from lewm_ros.environments import Environment, make_environment
from lewm_ros.environments.environment import EnvironmentGone, check_observation, check_score
from lewm_ros.environments.panda.tasks import TASKS
from lewm_training.collect.learner import Learner
from lewm_training.collect.workers import Spread
from lewm_training.data import INTENDED, merge_episodes, write_episode
from lewm_training.data.spec import camera_columns
from lewm_training.data.writing import parts_folder

ATTEMPTS = 3
"""At an episode whose environment is gone before its end, as when its process was killed."""


@dataclass(frozen=True)
class CollectConfig:
    """What to record. An episode's generator is seeded with (seed, crc32 of 'collect', episode number).

    Args:
        task: name of an environment.
        episodes: how many.
        steps: control steps per episode; None: the environment's own number.
        cameras: names; empty: the environment's choice.
        image_size: height and width of the frames, pixels.
        control_hz: None: the environment's own rate.
        action_space: name of one that the environment has; empty: its choice.
        seed: of everything random.
        steady: nothing varies that need not, where the environment varies something while it is recorded.
        after: a checkpoint whose policy acts before every episode, which begins where that led and is demonstrated
            without noise; empty: none.
    """

    task: str = "reach"
    episodes: int = 1000
    steps: int | None = None
    cameras: tuple[str, ...] = ()
    image_size: int = 96
    control_hz: float | None = None
    action_space: str = ""
    seed: int = 0
    steady: bool = False
    after: str = ""

    def environment(self) -> Environment:
        """What is recorded; see `make_environment` for the errors."""
        if self.steady and self.task not in TASKS:
            raise ConfigError(f"steady: only for {', '.join(TASKS)}, not for task '{self.task}'")
        options = {
            "cameras": self.cameras,
            "control_hz": self.control_hz,
            "action_space": self.action_space,
            "steady": self.steady,
        }
        given = {name: value for name, value in options.items() if value}
        if self.after and self.task in TASKS:
            given["noise"] = 0.0
        return make_environment(self.task, image_size=self.image_size, **given)


@lru_cache(maxsize=1)
def _environment(config: CollectConfig) -> Environment:
    """The process's environment: it is costly to make, and is kept from episode to episode."""
    return config.environment()


@lru_cache(maxsize=1)
def _learner(config: CollectConfig) -> Learner:
    """Who leads in the process's environment."""
    return Learner(config.after, _environment(config))


class Recorded(NamedTuple):
    """An episode's columns and notes, and why it was begun anew, if it was."""

    columns: dict[str, NDArray[Any]]
    notes: dict[str, Any]
    restarts: tuple[str, ...]


def record_episode(config: CollectConfig, number: int) -> Recorded:
    """Record one episode; if the environment is gone, make another one and begin anew.

    Raises:
        EnvironmentFailure: the environment gives something else than it says, or is gone again and again.
    """
    restarts: list[str] = []
    while True:
        try:
            return Recorded(*_record(config, number), tuple(restarts))
        except EnvironmentGone as gone:
            _environment.cache_clear()
            _learner.cache_clear()
            restarts.append(f"episode {number}: {gone}")
            if len(restarts) == ATTEMPTS:
                raise EnvironmentGone(f"{restarts[-1]}; given up after {ATTEMPTS} attempts") from None


def _record(config: CollectConfig, number: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    rng = np.random.default_rng([config.seed, zlib.crc32(b"collect"), number])
    environment = _environment(config)
    recording = environment.record(number, rng)
    if config.after and recording.problem is None:
        raise ConfigError(f"after: task '{environment.name}' demonstrates no problem that a policy could try first")
    led = {"led_steps": _learner(config).lead(rng)} if config.after else {}
    frames = camera_columns(environment.cameras)
    rows: dict[str, list[Any]] = {}
    for _ in range(config.steps or recording.steps):
        observation = check_observation(environment, environment.observe())
        action = recording.behaviour.act()
        row = {column: observation.frames[camera] for camera, column in frames.items()}
        numbers = {**observation.vectors, **environment.labels(), "action": action}
        if recording.intention is not None:
            numbers[INTENDED] = recording.intention()
        row |= {name: np.asarray(value, np.float32) for name, value in numbers.items()}
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
        environment.step(action)
    notes = {"number": number} | recording.notes | led
    if recording.problem is not None:
        notes["success"] = check_score(environment, environment.score()).success
    return {name: np.stack(values) for name, values in rows.items()}, notes


def collect(config: CollectConfig, out: Path, spread: Spread) -> Path:
    """Record all episodes of `config` into the HDF5 file `out`; episodes already recorded are kept.

    Finished episodes wait in `OUT.parts/` until all are there, so that an interrupted run can go on. The file does not
    depend on where they were recorded.

    Args:
        config: what to record.
        out: the file to write.
        spread: where episodes are recorded.

    Raises:
        ConfigError: there is no such environment, or who is to lead cannot act in it.
        OutputError: the file exists, or another process writes it.
        DatasetError: the episodes that wait there were recorded with other settings.
        EnvironmentFailure: an episode cannot be recorded; finished episodes are kept.
        SpreadError: a worker was lost; finished episodes are kept.
    """
    environment = config.environment()
    if config.after:
        Learner(config.after, environment)
    environment.close()
    settings = asdict(config)
    meta = {
        "config": settings,
        "cameras": camera_columns(environment.cameras),
        "vectors": {name: list(components) for name, components in environment.vectors.items()},
        "action_space": to_mapping(environment.action_space),
    }
    with parts_folder(out, {name: value for name, value in settings.items() if name != "episodes"}) as folder:
        parts = [folder / f"{number:06d}.h5" for number in range(config.episodes)]
        left = [number for number, part in enumerate(parts) if not part.exists()]
        episodes = spread(partial(record_episode, config), left)
        bar = {"total": len(parts), "initial": len(parts) - len(left), "unit": "episode"}
        for number, recorded in tqdm(episodes, desc=f"collect {environment.name}", **bar):
            for reason in recorded.restarts:
                tqdm.write(f"{reason}; begun anew")
            write_episode(parts[number], recorded.columns, recorded.notes)
        merge_episodes(parts, out, meta)
    return out
