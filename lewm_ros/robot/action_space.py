"""The 7-D action spaces and their z-scored blocks, shared by training and the live loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError

Array = NDArray[np.float64]

ACTION_DIM = 7
KINDS = ("joint_delta", "ee_delta")


@dataclass(frozen=True)
class ActionSpace:
    """One of the 7-D action spaces, with the statistics that z-score a block of them.

    `joint_delta` is the change of the seven joint positions per control step (rad). `ee_delta` is the end-effector
    twist per control step in the base frame (x, y, z in m; rotation vector in rad) and the gripper (-1 open, +1
    closed). A model step is `action_block` control steps; its action vector holds them one after the other.

    `known_low` and `known_high` span the joint positions (rad) that the training data visited; empty if unknown, or if
    actions are not joint deltas.
    """

    kind: str
    control_hz: float
    action_block: int
    limit: tuple[float, ...]
    mean: tuple[float, ...] = (0.0,) * ACTION_DIM
    std: tuple[float, ...] = (1.0,) * ACTION_DIM
    joint_names: tuple[str, ...] = ()
    known_low: tuple[float, ...] = ()
    known_high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"action space '{self.kind}' is unknown; known: {', '.join(KINDS)}")
        for name in ("limit", "mean", "std"):
            if len(getattr(self, name)) != ACTION_DIM:
                raise ConfigError(f"action space: {name} must have {ACTION_DIM} numbers")
        if len(self.known_low) != len(self.known_high) or len(self.known_low) not in (0, ACTION_DIM):
            raise ConfigError(f"action space: known_low and known_high must both have {ACTION_DIM} numbers or none")

    @property
    def block_dim(self) -> int:
        """Size A of one model step's action vector."""
        return self.action_block * ACTION_DIM

    @property
    def block_s(self) -> float:
        """Duration of one model step."""
        return self.action_block / self.control_hz

    def clip(self, actions: Array) -> Array:
        """Actions (..., 7) within the limit per control step."""
        limit = np.asarray(self.limit)
        return np.clip(actions, -limit, limit)

    def normalise(self, actions: Array) -> Array:
        """Actions per control step (..., action_block, 7) -> z-scored blocks (..., A)."""
        scored = (np.asarray(actions) - self.mean) / self.std
        return scored.reshape(*scored.shape[:-2], self.block_dim)

    def denormalise(self, blocks: Array) -> Array:
        """z-scored blocks (..., A) -> actions per control step (..., action_block, 7), within the limit."""
        scored = np.asarray(blocks, dtype=np.float64).reshape(*blocks.shape[:-1], self.action_block, ACTION_DIM)
        return self.clip(scored * self.std + self.mean)

    def bounds(self) -> tuple[Array, Array]:
        """The limit as lower and upper bounds (A,) of a z-scored block."""
        limit, mean, std = (np.asarray(v) for v in (self.limit, self.mean, self.std))
        return np.tile((-limit - mean) / std, self.action_block), np.tile((limit - mean) / std, self.action_block)
