"""Goals in order: which of them is the present one, by how many control steps are left to each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lewm_ros.config import setting

NEARER_STEPS = 1.0
"""Control steps by which a guess has to fall to count as progress; less is noise."""

MANY_RETURNS = 3
"""Going back more often than this, goals are probably not in the order in which they can be reached."""


@dataclass(frozen=True)
class GoalSettings:
    """When one goal of several has been reached, and when it has been lost.

    A policy's guess errs: of the frame that is the goal itself, one for pick_place said five steps, and of one in ten
    frames eleven. With these defaults, all of 20 demonstrations went through their own goals and never back.
    """

    goal_reached_steps: float = setting(
        10.0, "with fewer steps left to a goal of a sequence, the next one follows", "control steps", 0.0, 1_000.0
    )
    goal_lost_steps: float = setting(
        40.0,
        "so many steps more to a goal than at its beginning, and the nearest earlier one follows",
        "control steps",
        0.0,
        1_000.0,
    )
    goal_frames: int = setting(3, "so many frames in a row must say so before the goal changes", "frames", 1, 1_000)
    goal_stalled_frames: int = setting(
        30,
        "no step nearer to a goal of a sequence for so many frames, and the next one follows; 0: never",
        "frames",
        0,
        100_000,
    )


class GoalSequence:
    """Goals that are pursued one after the other; the last is never left for a next one.

    Args:
        goals: tokens (G, Kg, D) of every goal, in order.
        settings: when to go on and when to go back.

    Attributes:
        index: of the present goal, from 0.
        returns: how often it went back to an earlier goal.

    Raises:
        ValueError: there is no goal.
    """

    def __init__(self, goals: Tensor, settings: GoalSettings) -> None:
        if not len(goals):
            raise ValueError("goals: there must be at least one")
        self.goals, self._settings = goals, settings
        self.returns = 0
        self._pursue(0)

    def __len__(self) -> int:
        return len(self.goals)

    @property
    def present(self) -> Tensor:
        """The goal to pursue now (Kg, D)."""
        return self.goals[self.index]

    @property
    def left(self) -> int:
        """How many goals follow the present one."""
        return len(self) - 1 - self.index

    @property
    def problem(self) -> str:
        """What is probably wrong with the goals; empty if nothing is known to be."""
        if self.returns <= MANY_RETURNS:
            return ""
        return f"goals may be in the wrong order: went back {self.returns} times, last to goal {self.index + 1}"

    def tell(self, steps_left: Sequence[float]) -> None:
        """Take in how many control steps are left to every goal (G,) at a new frame, and change the goal if it is time.

        Raises:
            ValueError: there is not one number for every goal.
        """
        if len(steps_left) != len(self):
            raise ValueError(f"steps left: {len(steps_left)} numbers for {len(self)} goals")
        now = steps_left[self.index]
        if self._first is None:
            self._first = now
        if now <= self._least - NEARER_STEPS:
            self._least, self._since_nearer = now, 0
        else:
            self._since_nearer += 1
        follows = self._next(steps_left)
        self._frames = self._frames + 1 if follows is not None and follows == self._follows else 1
        self._follows = follows
        if follows is not None and self._frames >= self._settings.goal_frames:
            self.returns += follows < self.index
            self._pursue(follows)

    @property
    def _stalled(self) -> bool:
        return 0 < self._settings.goal_stalled_frames <= self._since_nearer

    def _next(self, steps_left: Sequence[float]) -> int | None:
        """The goal that a frame speaks for; None for the present one."""
        now = steps_left[self.index]
        if self.left and (now < self._settings.goal_reached_steps or self._stalled):
            return self.index + 1
        if now > self._first + self._settings.goal_lost_steps and self.index:
            nearest = min(range(self.index - 1, -1, -1), key=lambda goal: steps_left[goal])  # of equals, the latest
            return nearest if steps_left[nearest] < now else None
        return None

    def _pursue(self, index: int) -> None:
        self.index = index
        self._first: float | None = None
        self._least, self._since_nearer = math.inf, 0
        self._follows: int | None = None
        self._frames = 0


def require_step_count(known: bool) -> None:
    """Raise ValueError unless something learned says how many steps are left, as several goals in order need it."""
    if not known:
        raise ValueError(
            "goals: several in order need a checkpoint with a policy (`lewm train-policy`) or a gap, which say when "
            "one is reached; give a single goal"
        )
