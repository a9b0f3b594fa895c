"""Both ways with stable-worldmodel: this project's models under its solvers, and this project's planner as its policy.

Its worlds give frames (envs, 1, height, width, 3) of uint8 in `pixels` and of the goal in `goal`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lewm_ros.config import UserError
from lewm_ros.environments.environment import Array
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.observation.observation import Observation
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.robot.action_space import ActionSpace


class PeerCost:
    """The cost of plans by which stable-worldmodel's solvers search: the squared distance to the goal where they end.

    Args:
        checkpoint: of a model that takes in the frames of one camera.
        precision: of the rollouts, `fp32` or `bf16`.

    Raises:
        UserError: the model takes in more than that.
    """

    def __init__(self, checkpoint: Checkpoint, precision: str = "fp32") -> None:
        self._camera, self._checkpoint = _only_camera(checkpoint), checkpoint
        self._model = checkpoint.rollout(precision)
        self._pixels: Tensor | None = None
        self._ends: tuple[Tensor, Tensor] | None = None

    def get_cost(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """The costs (B, S) of z-scored plans (B, S, T, A), with frames (B, S, 1, height, width, 3) that S share."""
        if info_dict["pixels"] is not self._pixels:  # a solver asks many times about the same frames
            self._pixels = info_dict["pixels"]
            self._ends = self._encode(self._pixels), self._encode(info_dict["goal"])
        z, goal = self._ends  # (B, K, D) both
        none = action_candidates.new_empty(len(z), 0, action_candidates.shape[-1])
        reached = self._model.start(z.unsqueeze(1), none)(action_candidates)[:, :, -1].float()  # (B, S, K, D)
        return (reached - goal.unsqueeze(1)).square().sum((-2, -1))

    def criterion(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """See `get_cost`."""
        return self.get_cost(info_dict, action_candidates)

    def _encode(self, frames: Tensor) -> Tensor:
        each = (Observation({self._camera: frame.numpy()}) for frame in frames[:, 0, -1].cpu())
        return torch.stack([self._checkpoint.encode(observation) for observation in each])


class ActionScores:
    """What stable-worldmodel's policies call the process of actions: z-scores to units and back, within bounds."""

    def __init__(self, space: ActionSpace) -> None:
        self._space, self._mean, self._std = space, np.array(space.mean), np.array(space.std)

    def transform(self, actions: Array) -> Array:
        """Actions (n, dim) to z-scores."""
        return (actions - self._mean) / self._std

    def inverse_transform(self, scores: Array) -> Array:
        """z-scores (n, dim) to actions."""
        return np.clip(scores * self._std + self._mean, self._space.low, self._space.high)


class PeerPolicy:
    """This project's planner as a policy of stable-worldmodel's worlds.

    Args:
        checkpoint: of a model that takes in the frames of one camera.
        config: of the search.
        seed: of its sampling.
        replan_steps: control steps from plan to plan.

    Raises:
        UserError: the model takes in more than that.
    """

    def __init__(self, checkpoint: Checkpoint, config: PlannerConfig, seed: int = 0, replan_steps: int = 1) -> None:
        self._camera, self._checkpoint = _only_camera(checkpoint), checkpoint
        self._config, self._seed, self._every = config, seed, replan_steps

    def set_env(self, env: Any) -> None:
        """Take in the pool of environments: each has a planner of its own."""
        self._space = env.single_action_space
        self._planners = [RecedingHorizonPlanner(self._checkpoint, self._config, self._seed) for _ in env.envs]
        self._steps = [0] * len(self._planners)

    def get_action(self, info: dict[str, Any]) -> Array:
        """The next action of every environment (envs, dim)."""
        flushed = info.get("_needs_flush")
        for place in np.flatnonzero(flushed) if flushed is not None else ():
            self._planners[place].reset()
            self._steps[place] = 0
        frames = zip(info["pixels"][:, -1], info["goal"][:, -1], strict=True)
        actions = [self._act(place, frame, goal) for place, (frame, goal) in enumerate(frames)]
        return np.stack(actions).astype(self._space.dtype)

    def _act(self, place: int, frame: Any, goal: Any) -> Array:
        planner = self._planners[place]
        now_ns = self._steps[place] * planner.control_ns
        planner.observe(now_ns, self._checkpoint.encode(Observation({self._camera: np.asarray(frame)})))
        if self._steps[place] % self._every == 0:
            wanted = self._checkpoint.encode_goal(Observation({self._camera: np.asarray(goal)}))
            planner.adopt(planner.decide(now_ns, wanted))
        self._steps[place] += 1
        return planner.timeline.read(now_ns, 1)[0]


def _only_camera(checkpoint: Checkpoint) -> str:
    cameras, vectors = checkpoint.inputs.cameras, checkpoint.inputs.vectors
    if len(cameras) != 1 or vectors:
        names = ", ".join(item.name for item in (*cameras, *vectors))
        raise UserError(
            f"stable-worldmodel gives frames of one camera, checkpoint '{checkpoint.name}' takes in {names}"
        )
    return cameras[0].name
