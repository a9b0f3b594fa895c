"""Environments of Gymnasium, each described by a YAML file: what is seen, what is done, what is wanted."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from lewm_ros import config
from lewm_ros.config import ConfigError, setting
from lewm_ros.environments.environment import Behaviour, EnvironmentFailure, Recording, Score
from lewm_ros.environments.smooth_noise import SmoothNoise
from lewm_ros.observation.observation import Frame, Observation
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.arm import Array

RENDERED = "render"
"""The source of frames that `Env.render` gives."""

LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class GymnasiumTask:
    """What a YAML file says of a task.

    A source is a path into what the environment gives: `observation`, `info.goal_state`, `observation.proprio`,
    `reward`, `terminated`; `render` for the frame that it renders.

    Args:
        id: of the environment, as Gymnasium knows it.
        channels: of an action, in order; names, units and kinds. Without bounds they have those of the environment.
        cameras: source of every camera's frames, by name.
        vectors: source of every vector, by name.
        labels: source of every label, by name.
        wrapper: what is put around the environment, as `module:class`, made of it and the height and width of frames in
            pixels (None: its own). Empty: nothing.
        modules: to be imported first, such as those that register the environment.
        install: the command that brings what is missing.
        arguments: of `gymnasium.make`.
        control_hz: actions per second, as the environment takes them.
        budget_steps: control steps that a problem may take.
        record_steps: control steps of a recorded episode.
        policy: what acts in recordings, as `module:function`: a function of the environment and a generator that gives
            one of the last observation and info. Empty: smooth noise.
        goal_steps: a goal is what is seen so many steps of `policy` after the start; 0: where the environment puts
            `goal_state` itself.
        goal_state: source of the state that the goal is.
        start_option: option of `reset` that puts the environment into a state.
        goal_option: option of `reset` that tells the environment which state is the goal.
        distance: source of the distance to the goal; a minus sign in front turns it round.
        unit: of the distance.
        success: source of what is true once the problem is solved.
    """

    id: str
    channels: tuple[Channel, ...]
    goal_state: str
    start_option: str
    goal_option: str
    distance: str
    unit: str
    success: str
    cameras: dict[str, str] = field(default_factory=lambda: {"camera": RENDERED})
    vectors: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    wrapper: str = ""
    modules: tuple[str, ...] = ()
    install: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    control_hz: float = setting(10.0, "actions per second", "Hz", 1e-3, 1e4)
    budget_steps: int = setting(50, "control steps that a problem may take", "steps", 1, 1_000_000)
    record_steps: int = setting(100, "control steps of a recorded episode", "steps", 1, 1_000_000)
    policy: str = ""
    goal_steps: int = setting(0, "steps of the policy from start to goal", "steps", 0, 1_000_000)

    def __post_init__(self) -> None:
        config.check_settings(self)


class GymnasiumProblem(NamedTuple):
    """A seed of `reset`, the state that is the goal, and the one to start in; None: the one that the seed draws."""

    seed: int
    goal_state: tuple[float, ...]
    start_state: tuple[float, ...] | None = None


class GymnasiumEnvironment:
    """See `Environment`.

    Args:
        task: what the YAML says.
        name: of the task.
        cameras: names; empty: all of the task's.
        image_size: frames are resized to this height and width, pixels; None: they stay as they are.
        control_hz: must be the task's rate, which cannot be chosen.
        action_space: must be the task's name.

    Raises:
        ConfigError: something is asked for that the task does not have.
        EnvironmentFailure: the package is not installed, or the environment is not what the task says.
    """

    def __init__(
        self,
        task: GymnasiumTask,
        name: str,
        cameras: tuple[str, ...] = (),
        image_size: int | None = None,
        control_hz: float | None = None,
        action_space: str = "",
    ) -> None:
        unknown = [camera for camera in cameras if camera not in task.cameras]
        if unknown:
            raise ConfigError(f"cameras: task '{name}' has {', '.join(task.cameras)}, not '{unknown[0]}'")
        if control_hz not in (None, task.control_hz):
            raise ConfigError(f"control_hz: task '{name}' runs at {task.control_hz:g} Hz, not {control_hz:g}")
        if action_space not in ("", name):
            raise ConfigError(f"action_space: task '{name}' acts in '{name}', not '{action_space}'")
        self._task, self._image_size = task, image_size
        self._env = _make(task, image_size)
        self.name, self.cameras, self.budget_steps = name, cameras or tuple(task.cameras), task.budget_steps
        self.action_space = ActionSpace(name, _bounded(task.channels, self._env.action_space), task.control_hz)
        self._given: dict[str, Any] = {}
        self._problem: GymnasiumProblem | None = None
        self._goal_frames: dict[str, Frame] = {}
        self._reset(0)
        self.vectors = {
            vector: tuple(f"{vector}_{i}" for i in range(np.size(self._value(source))))
            for vector, source in task.vectors.items()
        }

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], path: Path, **options: Any) -> GymnasiumEnvironment:
        """The environment that a YAML file describes, by the file's name."""
        return cls(config.from_mapping(GymnasiumTask, content, str(path)), path.stem, **options)

    def problems(self, seed: int) -> Iterator[GymnasiumProblem]:
        """See `Environment`."""
        rng = np.random.default_rng([seed, zlib.crc32(b"evaluate")])
        while True:
            problem = self._draw(rng)
            self.reset(problem)
            if not self.score().success:
                yield problem

    def reset(self, problem: GymnasiumProblem) -> None:
        """See `Environment`."""
        self._problem = problem
        options = {self._task.goal_option: np.array(problem.goal_state)}
        if problem.start_state is not None:
            options[self._task.start_option] = np.array(problem.start_state)
        self._reset(problem.seed, options)

    def between(self, start: Array, goal: Array) -> GymnasiumProblem:
        """See `RestorableEnvironment`."""
        return GymnasiumProblem(0, tuple(goal.tolist()), tuple(start.tolist()))

    def goals(self) -> list[Observation]:
        """See `Environment`: what is seen in the goal state."""
        problem, state = self._problem, np.array(self._problem.goal_state)
        self._reset(problem.seed, {self._task.start_option: state, self._task.goal_option: state})
        goal = self.observe()
        self.reset(problem)
        return [goal]

    def observe(self) -> Observation:
        """See `Environment`."""
        frames = {camera: self._frame(self._task.cameras[camera]) for camera in self.cameras}
        return Observation(frames, self._values(self._task.vectors))

    def labels(self) -> dict[str, Array]:
        """See `Environment`."""
        return self._values(self._task.labels)

    def step(self, action: Array) -> None:
        """See `Environment`."""
        wanted = np.asarray(action, self._env.action_space.dtype)
        observation, reward, terminated, truncated, info = self._env.step(wanted)
        self._given = {
            "observation": observation,
            "info": info,
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
        }

    def score(self) -> Score:
        """See `Environment`; at the start of a problem it is that of staying there for a step."""
        if "reward" not in self._given:
            problem = self._problem
            self.step(np.nan_to_num(self.action_space.rest()))
            score = self.score()
            self.reset(problem)
            return score
        source = self._task.distance
        sign = -1.0 if source.startswith("-") else 1.0
        distance = sign * float(self._value(source.removeprefix("-")))
        return Score(distance, self._task.unit, bool(self._value(self._task.success)))

    def record(self, number: int, rng: np.random.Generator) -> Recording:
        """See `Environment`: the task's policy from a random start."""
        self._problem = None
        self._reset(int(rng.integers(LARGEST_SEED)))
        kind = self._task.policy or "noise"
        return Recording(self._policy(rng), self._task.record_steps, {"kind": kind})

    def random(self, rng: np.random.Generator) -> Behaviour:
        """See `Environment`."""
        return SmoothNoise(self.action_space, rng)

    def expert(self) -> Behaviour | None:
        """See `Environment`: none is known."""
        return None

    def close(self) -> None:
        """See `Environment`."""
        self._env.close()

    def _draw(self, rng: np.random.Generator) -> GymnasiumProblem:
        task, seed = self._task, int(rng.integers(LARGEST_SEED))
        self._reset(seed)
        behaviour = self._policy(rng)
        for _ in range(task.goal_steps):
            self.step(behaviour.act())
        return GymnasiumProblem(seed, tuple(np.asarray(self._value(task.goal_state), np.float64).tolist()))

    def _policy(self, rng: np.random.Generator) -> Behaviour:
        if not self._task.policy:
            return SmoothNoise(self.action_space, rng)
        return _Policy(self, _named("policy", self._task.policy)(self._env.unwrapped, rng))

    def _reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        observation, info = self._env.reset(seed=seed, options=options)
        self._given = {"observation": observation, "info": info}

    def _frame(self, source: str) -> Frame:
        frame = np.asarray(self._env.render() if source == RENDERED else self._value(source))
        size = self._image_size
        if size is None or frame.shape[:2] == (size, size) or frame.ndim != 3:
            return frame
        return cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)

    def _values(self, sources: Mapping[str, str]) -> dict[str, Array]:
        return {name: np.atleast_1d(np.asarray(self._value(s), np.float64)).ravel() for name, s in sources.items()}

    def _value(self, source: str) -> Any:
        value: Any = self._given
        for key in source.split("."):
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                raise EnvironmentFailure(f"task '{self.name}': the environment gives no '{source}'") from None
        return value


class _Policy:
    """A policy of the observation and the info that came last."""

    def __init__(self, environment: GymnasiumEnvironment, choose: Any) -> None:
        self._environment, self._choose = environment, choose

    def act(self) -> Array:
        """The next action (dim,)."""
        given = self._environment._given
        action = np.asarray(self._choose(given["observation"], given["info"]), np.float64)
        return self._environment.action_space.clip(action.reshape(-1))


def _make(task: GymnasiumTask, image_size: int | None) -> Any:
    try:
        import gymnasium

        for module in task.modules:
            importlib.import_module(module)
        env = gymnasium.make(task.id, disable_env_checker=True, **task.arguments).unwrapped
        return _named("wrapper", task.wrapper)(env, image_size) if task.wrapper else env
    except ImportError as error:
        hint = f": {task.install}" if task.install else ""
        raise EnvironmentFailure(f"environment '{task.id}' needs the package '{error.name}'{hint}") from None
    except gymnasium.error.Error as error:
        raise EnvironmentFailure(f"environment '{task.id}': {str(error).splitlines()[0]}") from None


def _named(key: str, path: str) -> Any:
    """What a task names as `module:name`."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EnvironmentFailure(f"{key} '{path}': {error}") from None


def _bounded(channels: tuple[Channel, ...], box: Any) -> tuple[Channel, ...]:
    """The channels within the bounds of the environment's own action space."""
    shape = getattr(box, "shape", None)
    if not hasattr(box, "low") or shape != (len(channels),):
        raise EnvironmentFailure(f"channels: the task names {len(channels)}, the environment acts in {box}")
    return tuple(
        replace(channel, low=float(low), high=float(high))
        for channel, low, high in zip(channels, box.low, box.high, strict=True)
    )
