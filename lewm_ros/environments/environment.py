"""What collection, evaluation, benchmarks and the simulator node know of a world to act in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import UserError
from lewm_ros.observation.observation import Observation
from lewm_ros.robot.action_space import ActionSpace

Array = NDArray[np.float64]

Problem = Any
"""A start and a goal, as an environment describes them to itself."""


class EnvironmentFailure(UserError):
    """An environment that cannot be made, or that does not do what it should; the message is one line for the user."""


class EnvironmentGone(EnvironmentFailure):
    """An environment whose process has ended, or does not answer; another one can be made."""


@dataclass(frozen=True)
class Score:
    """How far the present state is from solving the problem.

    Args:
        value: such as a distance; smaller is better.
        unit: of the value, such as m.
        success: whether it counts as solved.
        stages: what has been brought about so far on the way, in order; empty where a task has no stages.
        cost: of the way so far, such as for touching what is not to be touched; 0 where nothing is counted.
        over: whether the problem has ended, so that nothing changes the score any more.
    """

    value: float
    unit: str
    success: bool
    stages: Mapping[str, bool] = field(default_factory=dict)
    cost: float = 0.0
    over: bool = False


class Behaviour(Protocol):
    """What acts while an episode is recorded."""

    def act(self) -> Array:
        """The next action (dim,), within the bounds of the action space."""
        ...


@dataclass(frozen=True)
class Recording:
    """An episode about to be recorded: the environment stands at its start.

    Args:
        behaviour: acts.
        steps: how many control steps.
        notes: for the dataset.
        problem: that the behaviour solves; None if it only explores.
        intention: what the last action (dim,) would have been without the noise that the behaviour adds to widen what
            is recorded; None if it adds none.
    """

    behaviour: Behaviour
    steps: int
    notes: dict[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    intention: Callable[[], Array] | None = None


class Environment(Protocol):
    """Something that can be reset to a problem, observed, acted on and scored.

    Attributes:
        name: of the task.
        action_space: with its rate; without statistics.
        cameras: names of the frames that it gives.
        vectors: names of the vectors that it gives, with the names of their numbers.
        budget_steps: control steps that a problem may take.
    """

    name: str
    action_space: ActionSpace
    cameras: tuple[str, ...]
    vectors: Mapping[str, tuple[str, ...]]
    budget_steps: int

    def problems(self, seed: int) -> Iterator[Problem]:
        """The endless sequence of problems of a seed. None is solved at its start, and no recording shares one."""
        ...

    def reset(self, problem: Problem) -> None:
        """Go to the start of a problem."""
        ...

    def goals(self) -> list[Observation]:
        """What is to be brought about in the problem: one observation, or several in order."""
        ...

    def observe(self) -> Observation:
        """What is perceived now."""
        ...

    def labels(self) -> dict[str, Array]:
        """What is known of the present state beside what is perceived, for probes: (n,) by name."""
        ...

    def step(self, action: Array) -> None:
        """Advance one control step by an action (dim,)."""
        ...

    def score(self) -> Score:
        """How far the present state is from solving the problem."""
        ...

    def record(self, number: int, rng: np.random.Generator) -> Recording:
        """Get ready for a recording.

        Args:
            number: of the episode, which may choose among behaviours.
            rng: the episode's own.
        """
        ...

    def random(self, rng: np.random.Generator) -> Behaviour:
        """A behaviour that knows nothing: the floor that a policy is compared with."""
        ...

    def expert(self) -> Behaviour | None:
        """What solves the present problem, as well as is known; None if nothing does."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


STATE = "state"
"""The label of a `RestorableEnvironment` that says all of its state."""


class RestorableEnvironment(Environment, Protocol):
    """An environment that can be put into a recorded state: its label `STATE`."""

    def between(self, start: Array, goal: Array) -> Problem:
        """The problem of getting from one state (n,) into another (n,)."""
        ...


def positions_of(environment: Environment, observation: Observation) -> Array | None:
    """What the delta channels have added up to (dim,), by the names that they share with numbers of the vectors."""
    named = {
        name: float(value)
        for vector, names in environment.vectors.items()
        for name, value in zip(names, observation.vectors[vector], strict=True)
    }
    return environment.action_space.positions(named)


def check_observation(environment: Environment, observation: Observation) -> Observation:
    """The observation, if it is what the environment says that it gives.

    Raises:
        EnvironmentFailure: a frame or a vector is missing, of another shape or not finite.
    """
    for name in environment.cameras:
        frame = observation.frames.get(name)
        if frame is None or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            shown = "nothing" if frame is None else f"{frame.dtype} {frame.shape}"
            raise EnvironmentFailure(f"{environment.name}: camera '{name}' gave {shown}, expected an RGB frame")
    for name, components in environment.vectors.items():
        vector = np.asarray(observation.vectors.get(name, ()))
        if vector.shape != (len(components),) or not np.isfinite(vector).all():
            raise EnvironmentFailure(
                f"{environment.name}: vector '{name}' is {vector.tolist()}, expected {len(components)} finite numbers"
            )
    return observation


def check_score(environment: Environment, score: Score) -> Score:
    """The score, if it is a number.

    Raises:
        EnvironmentFailure: it is not finite.
    """
    if not np.isfinite(score.value):
        raise EnvironmentFailure(f"{environment.name}: the score is {score.value}, expected a finite number")
    return score
