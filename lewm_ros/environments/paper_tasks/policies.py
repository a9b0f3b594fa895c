"""Policies of `stable-worldmodel` that act in recordings, one environment at a time."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

REACHER_WRIST_RAD = (-2.6, 2.6)
"""How far the wrist is bent on purpose; it is stopped at 2.79."""

Choose = Callable[[Any, dict[str, Any]], Any]
"""Of the last observation and info, the next action (dim,)."""


def pusht(env: Any, rng: np.random.Generator) -> Choose:
    """Pushes about the block of Push-T."""
    from stable_worldmodel.envs.pusht.expert_policy import WeakPolicy

    return _alone(WeakPolicy(seed=int(rng.integers(2**31))), env)


def tworoom(env: Any, rng: np.random.Generator) -> Choose:
    """Goes through the door of TwoRoom to the target, with noise of its own strength in every episode."""
    from stable_worldmodel.envs.two_room.expert_policy import ExpertPolicy

    noise = float(rng.uniform(0.0, 1.0))
    return _alone(ExpertPolicy(action_noise=noise, seed=int(rng.integers(2**31))), env)


def reacher(env: Any, rng: np.random.Generator) -> Choose:
    """Brings the arm of Reacher from pose to pose, with noise of its own strength in every episode.

    Written here, a controller of the joints: the expert of `stable-worldmodel` is a network that has to be downloaded.
    """
    noise, stiffness, damping = rng.uniform(0.0, 0.5), 3.0, 0.15
    pose, left = np.zeros(2), 0

    def choose(_: Any, info: dict[str, Any]) -> Any:
        nonlocal pose, left
        if left == 0:
            turn, (low, high) = rng.uniform(-np.pi, np.pi), REACHER_WRIST_RAD
            pose, left = np.array([info["qpos"][0] + turn, rng.uniform(low, high)]), int(rng.integers(15, 40))
        left -= 1
        torque = stiffness * (pose - info["qpos"]) - damping * info["qvel"] + noise * rng.normal(size=2)
        return np.clip(torque, -1.0, 1.0)

    return choose


def cube(env: Any, rng: np.random.Generator) -> Choose:
    """Picks OGBench's cube up, brings it to a place and lets it go, with noise of its own strength in every episode."""
    from stable_worldmodel.envs.ogbench.expert_policy import ExpertPolicy

    np.random.seed(int(rng.integers(2**31)))  # its oracle draws from numpy's own generator
    policy, steps = ExpertPolicy(seed=int(rng.integers(2**31))), itertools.count()
    policy.set_env(_pool(env))

    def choose(_: Any, info: dict[str, Any]) -> Any:
        known = {name: [[value]] for name, value in info.items()}
        return policy.get_action(known | {"step_idx": [[next(steps)]]})[0]

    return choose


def _alone(policy: Any, env: Any) -> Choose:
    """The policy, which expects a vector of environments, on one."""
    policy.set_env(_pool(env))

    def choose(_: Any, info: dict[str, Any]) -> Any:
        return policy.get_action({name: np.asarray(value)[np.newaxis] for name, value in info.items()})[0]

    return choose


def _pool(env: Any) -> types.SimpleNamespace:
    """One environment as what its policies take for a vector of them."""
    space = types.SimpleNamespace(shape=(1, *env.action_space.shape))
    return types.SimpleNamespace(envs=[env], num_envs=1, spec=env.spec, action_space=space)
