"""Worlds to act in: the simulated Panda, Gymnasium's, and those that live in another process."""

from lewm_ros.environments.environment import (
    Behaviour,
    Environment,
    EnvironmentFailure,
    Problem,
    Recording,
    Score,
    positions_of,
)
from lewm_ros.environments.registry import make_environment, task_names

__all__ = [
    "Behaviour",
    "Environment",
    "EnvironmentFailure",
    "Problem",
    "Recording",
    "Score",
    "make_environment",
    "positions_of",
    "task_names",
]
