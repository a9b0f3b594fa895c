"""Tasks of VLA-Arena by name, which run in a Python environment of their own: `make vla-arena`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lewm_ros.config import ConfigError
from lewm_ros.environments import benchmarks
from lewm_ros.environments.remote import RemoteEnvironment, RemoteTask

FORM = "vla_arena/SUITE/LEVEL/TASK"
EXAMPLE = "vla_arena/safety_static_obstacles/level_0/pick_the_apple"

PYTHON = "VLA_ARENA_PYTHON"
"""The variable that names the interpreter; without it, that of .venv-vla in the checkout, or in the working folder."""

BENCHMARKS = Path(benchmarks.__file__).parent


def make_vla_arena(task: str, **options: Any) -> RemoteEnvironment:
    """The environment of a task, such as vla_arena/safety_static_obstacles/level_0/pick_the_apple; see `World`.

    Raises:
        ConfigError: the name is of another form, or VLA-Arena is not installed.
        EnvironmentFailure: there is no such task, or it does not have what is asked for.
    """
    _, *parts = task.split("/")
    if len(parts) != 3 or not all(parts):
        raise ConfigError(f"task '{task}': expected {FORM}, such as {EXAMPLE}")
    remote = RemoteTask(
        python=str(interpreter()),
        factory="vla_arena_world.world:World",
        path=(str(BENCHMARKS),),
        arguments=dict(zip(("suite", "level", "task"), parts, strict=True)),
        install=f"`make vla-arena` brings it, or {PYTHON} names another",
    )
    return RemoteEnvironment(remote, task, Path(), **options)


def interpreter() -> Path:
    """Where the benchmark's Python is, or should be."""
    if named := os.environ.get(PYTHON):
        return Path(named)
    places = [folder / ".venv-vla" / "bin" / "python" for folder in (Path(__file__).parents[2], Path.cwd())]
    return next((place for place in places if place.exists()), places[-1])
