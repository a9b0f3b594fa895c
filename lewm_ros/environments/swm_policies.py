"""Policies of `stable-worldmodel` that act in recordings, one environment at a time."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

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


def _alone(policy: Any, env: Any) -> Choose:
    """The policy, which expects a vector of environments, on one."""
    space = types.SimpleNamespace(shape=(1, *env.action_space.shape))
    policy.set_env(types.SimpleNamespace(envs=[env], spec=env.spec, action_space=space))

    def choose(_: Any, info: dict[str, Any]) -> Any:
        return policy.get_action({name: np.asarray(value)[np.newaxis] for name, value in info.items()})[0]

    return choose
