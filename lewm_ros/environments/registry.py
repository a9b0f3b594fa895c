"""Environments by the name of their task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lewm_ros.config import ConfigError, read_yaml
from lewm_ros.environments.environment import Environment
from lewm_ros.environments.panda.tasks import TASKS
from lewm_ros.observation.input_spec import UNNAMED

SHIPPED = Path(__file__).parents[1] / "assets" / "tasks"
"""Tasks of other packages, a YAML file each."""

ADAPTERS = ("gymnasium", "remote")


def task_names() -> list[str]:
    """The tasks that come with this package."""
    return [*TASKS, *sorted(path.stem for path in SHIPPED.glob("*.yaml"))]


def make_environment(task: str, **options: Any) -> Environment:
    """The environment of a task.

    Args:
        task: one of `task_names`, vla_arena/SUITE/LEVEL/TASK, or the path of a YAML file, which says under `adapter`
            which of `ADAPTERS` reads it.
        options: `cameras` (names), `image_size` (pixels), `control_hz`, `action_space` (a name); what is left out, and
            a camera without a name of its own, is the environment's choice.

    Raises:
        ConfigError: there is no such task, or the environment does not have what is asked for.
        EnvironmentFailure: a package or a process that it needs is not there.
    """
    unnamed = options.get("cameras") == (UNNAMED,)
    if unnamed or options.get("cameras") == ():
        options = {name: value for name, value in options.items() if name != "cameras"}
    if task in TASKS:
        from lewm_ros.environments.panda.environment import CAMERAS, PandaEnvironment

        if unnamed:
            options["cameras"] = CAMERAS[:1]
        return PandaEnvironment(task, **options)
    if task.startswith("vla_arena/"):
        from lewm_ros.environments.vla_arena_tasks import make_vla_arena

        return make_vla_arena(task, **options)
    path = SHIPPED / f"{task}.yaml" if (SHIPPED / f"{task}.yaml").is_file() else Path(task)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"task '{task}' is unknown; known: {', '.join(task_names())}, vla_arena/SUITE/LEVEL/TASK, or a YAML file"
        )
    content = read_yaml(path)
    adapter = content.pop("adapter", None)
    if adapter == "gymnasium":
        from lewm_ros.environments.gymnasium import GymnasiumEnvironment

        return GymnasiumEnvironment.from_mapping(content, path, **options)
    if adapter == "remote":
        from lewm_ros.environments.remote import RemoteEnvironment

        return RemoteEnvironment.from_mapping(content, path, **options)
    raise ConfigError(f"{path}: adapter must be one of {', '.join(ADAPTERS)}, got '{adapter}'")
