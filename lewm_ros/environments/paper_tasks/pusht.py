"""Push-T that can be put into a recorded state as it was."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from lewm_ros.environments.environment import Array


class ExactStart(gymnasium.Wrapper):
    """Puts stable-worldmodel's Push-T into the state that the option `state` of `reset` says.

    The environment itself goes on for a physics step after that, in which the pusher moves on and may push the block.
    The block's own velocity is no part of a state: it stands still at the start.
    """

    def __init__(self, env: gymnasium.Env, image_size: int | None = None) -> None:
        super().__init__(env)  # which draws frames of one size

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        if options and "state" in options:
            self._place([float(number) for number in options["state"]])
            state = self._state()
            observation = {"proprio": np.concatenate([state[:2], state[-2:]]), "state": state}
        return observation, info

    def _place(self, state: list[float]) -> None:
        env = self.unwrapped
        env.agent.position, env.agent.velocity = tuple(state[:2]), tuple(state[-2:])
        env.block.angle = state[4]  # first: it turns about the centre of gravity, which moves the position
        env.block.position = tuple(state[2:4])
        env.block.velocity, env.block.angular_velocity = (0.0, 0.0), 0.0
        for body in (env.agent, env.block):
            env.space.reindex_shapes_for_body(body)

    def _state(self) -> Array:
        agent, block = self.unwrapped.agent, self.unwrapped.block
        return np.array([*agent.position, *block.position, block.angle % math.tau, *agent.velocity])
