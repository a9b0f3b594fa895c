"""TwoRoom with walls that hold: the whole disk is swept along every step, not only tested where the step ends."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from lewm_ros.environments.environment import Array
from lewm_ros.environments.paper_tasks.rooms import Rooms


class SweptCollisions(gymnasium.Wrapper):
    """Shortens every action of stable-worldmodel's TwoRoom to what the walls leave of it.

    The environment itself looks only at where a step ends: a fast or slanting one passes through the wall or clips a
    doorway. What is left of an action ends where the environment sees nothing to stop, so that it is done as it is.
    """

    def __init__(self, env: gymnasium.Env, image_size: int | None = None) -> None:
        super().__init__(env)  # which draws frames of one size

    def step(self, action: Array) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        env = self.unwrapped
        position = env.agent_position.numpy().astype(float)
        speed = float(env.variation_space["agent"]["speed"].value.item())
        wanted = position + speed * np.clip(np.asarray(action, float), -1.0, 1.0)
        return self.env.step((Rooms.of(env).move(position, wanted) - position) / speed)
