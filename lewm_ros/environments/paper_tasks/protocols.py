"""By which protocols the paper's tasks are judged: the paper's own, and Moderate and Strict of CLEAR-LeWM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lewm_ros.config import ConfigError
from lewm_ros.environments.environment import Array
from lewm_ros.environments.paper_tasks import criteria

GOAL_STEPS = 25
"""A goal is what was recorded so many control steps after the start."""

PROTOCOLS = ("paper", "moderate", "strict")


def anywhere(_: Array) -> bool:
    """Any recorded way will do."""
    return True


@dataclass(frozen=True)
class Criterion:
    """When an attempt counts as successful.

    Args:
        reached: whether a state is the goal.
        held: in so many states after one another.
        fits: whether a recorded way (n, numbers) from start to goal is one to be judged by.
    """

    reached: Callable[[Array, Array], bool]
    held: int = 1
    fits: Callable[[Array], bool] = anywhere

    def admits(self, way: Array) -> bool:
        """Whether a recorded way (n, numbers) can be asked for: it fits, and is not over where it begins."""
        return self.fits(way) and not self.reached(way[0], way[-1])


class Verdict:
    """What a criterion makes of an attempt, from state to state.

    Args:
        criterion: to judge by.
        goal: state (numbers,) that is to be reached.
    """

    def __init__(self, criterion: Criterion, goal: Array) -> None:
        self._criterion, self._goal, self._held = criterion, goal, 0
        self.solved = False

    def saw(self, state: Array) -> None:
        """Take in the next state (numbers,): once the goal was reached, and held, the attempt is solved."""
        self._held = self._held + 1 if self._criterion.reached(state, self._goal) else 0
        self.solved |= self._held == self._criterion.held


CRITERIA: dict[str, dict[str, Criterion]] = {
    "pusht": {
        "paper": Criterion(criteria.pusht_pose_reached),
        "moderate": Criterion(criteria.pusht_pose_reached),
        "strict": Criterion(criteria.pusht_block_reached, held=3),
    },
    "cube": {
        "paper": Criterion(criteria.cube_near),
        "moderate": Criterion(criteria.cube_near),
        "strict": Criterion(criteria.cube_reached, held=3),
    },
    "reacher": {
        "paper": Criterion(criteria.reacher_raw_pose_reached),
        "moderate": Criterion(criteria.reacher_pose_reached),
        "strict": Criterion(criteria.reacher_finger_reached, held=2),
    },
    "tworoom": {
        "paper": Criterion(criteria.tworoom_near),
        "moderate": Criterion(criteria.tworoom_near, fits=criteria.tworoom_crosses),
        "strict": Criterion(criteria.tworoom_reached, fits=criteria.tworoom_crosses),
    },
}
"""By task and protocol."""


def criteria_of(task: str) -> dict[str, Criterion]:
    """The criteria of a task by protocol.

    Raises:
        ConfigError: the task is none of the paper's.
    """
    if task not in CRITERIA:
        raise ConfigError(f"task '{task}': protocols are known for {', '.join(CRITERIA)}")
    return CRITERIA[task]
