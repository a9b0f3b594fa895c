"""The tasks of the simulated arm, by name."""

from __future__ import annotations

from collections.abc import Callable

from lewm_ros.config import ConfigError
from lewm_ros.environments.panda.cube_tasks import PickPlace, Push
from lewm_ros.environments.panda.problem import PandaProblem, Task
from lewm_ros.environments.panda.reach import JOINT_SPREAD_RAD, Reach, sample_free_joints

__all__ = ["JOINT_SPREAD_RAD", "TASKS", "PandaProblem", "Task", "make_task", "sample_free_joints"]

TASKS: dict[str, Callable[[], Task]] = {"reach": Reach, "push": Push, "pick_place": PickPlace}


def make_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: there is no such task; the message lists those that exist.
    """
    if name not in TASKS:
        raise ConfigError(f"task '{name}' is unknown; known: {', '.join(TASKS)}")
    return TASKS[name]()
