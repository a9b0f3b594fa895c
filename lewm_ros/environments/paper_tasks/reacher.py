"""Reacher of dm_control: from one pose of the arm to another, that is seen in the goal's frame."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from lewm_ros.environments.environment import Array
from lewm_ros.environments.paper_tasks.criteria import reacher_joint_error_rad, reacher_pose_reached

RELEASED_SIZE = 224
"""Pixels, height and width, of the released frames."""

NO_SHADOWS = {"shadow": False, "reflection": False}


class ReacherPoses(gymnasium.Wrapper):
    """Tells state, goal and how far they are from one another, and draws frames of the size that is asked for.

    A state is the angles of shoulder and wrist (rad) and their velocities (rad/s). Frames have no shadows, which take
    three quarters of the time of drawing one without a GPU.
    """

    def __init__(self, env: gymnasium.Env, image_size: int | None = None) -> None:
        super().__init__(env)
        self._size, self._goal = image_size or RELEASED_SIZE, np.zeros(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env.reset`; the options `state` and `goal_state` are states (4,)."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._goal = np.asarray((options or {}).get("goal_state", np.zeros(4)))
        return observation, self._with_goal(info)

    def step(self, action: Array) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, self._with_goal(info)

    def render(self) -> Any:
        """The frame (height, width, 3)."""
        env = self.unwrapped
        return env.dmc_env.physics.render(self._size, self._size, env.camera_id, render_flag_overrides=NO_SHADOWS)

    def _with_goal(self, info: dict[str, Any]) -> dict[str, Any]:
        state = np.concatenate([info["qpos"], info["qvel"]])
        return info | {
            "state": state,
            "goal_state": self._goal,
            "distance": reacher_joint_error_rad(state, self._goal),
            "solved": reacher_pose_reached(state, self._goal),
        }
