"""OGBench's single cube: bring it to where a frame shows it."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np

from lewm_ros.environments.environment import Array
from lewm_ros.environments.paper_tasks.criteria import CUBE_POSITION, cube_distance_m, cube_near

DRAWN = ("start_position", "start_yaw", "goal_position", "goal_yaw")
"""Of the cube, anew at every reset."""


class CubePlaces(gymnasium.Wrapper):
    """Tells state, goal and how far they are from one another, and follows the seed, which the environment ignores.

    A state is MuJoCo's: positions of arm (6), gripper (8) and cube (place and quaternion), then their velocities.
    Frames have no shadows, which take more than nine tenths of the time of drawing one without a GPU.
    """

    def __init__(self, env: gymnasium.Env, image_size: int | None = None) -> None:
        super().__init__(env)  # which draws frames of one size
        self._goal: Array | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env.reset`; the options `state` and `goal_state` are states."""
        options, env = options or {}, self.unwrapped
        rng = env.np_random = np.random.default_rng(seed)
        spaces = {f"cube.{name}": env.variation_space["cube"][name] for name in DRAWN}
        drawn = {name: rng.uniform(space.low, space.high) for name, space in spaces.items()}
        given = {"state": np.asarray(options["state"], float)} if "state" in options else {}
        observation, info = self.env.reset(options={"variation": (), "variation_values": drawn} | given)
        self._goal = np.asarray(options["goal_state"]) if "goal_state" in options else None
        return observation, self._with_goal(info)

    def step(self, action: Array) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, self._with_goal(info)

    def render(self) -> Any:
        """The frame (height, width, 3)."""
        return self.env.render(scene_callback=_without_shadows)

    def _with_goal(self, info: dict[str, Any]) -> dict[str, Any]:
        state = np.concatenate([info["qpos"], info["qvel"]])
        goal = state if self._goal is None else self._goal
        return info | {
            "state": state,
            "goal_state": goal,
            "cube": state[CUBE_POSITION],
            "distance": cube_distance_m(state, goal),
            "solved": cube_near(state, goal),
        }


def _without_shadows(scene: mujoco.MjvScene) -> None:
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        scene.flags[flag] = 0
