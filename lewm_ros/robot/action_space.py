"""Action spaces and their z-scored blocks, shared by training and the live loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError

Array = NDArray[np.float64]

ACTION_DIM = 7
ARM_KINDS = ("joint_delta", "ee_delta")
KINDS = (*ARM_KINDS, "other")


@dataclass(frozen=True)
class ActionSpace:
    """One of the action spaces, with the statistics that z-score a block of them.

    `joint_delta` is the change of the seven joint positions per control step (rad). `ee_delta` is the end-effector
    twist per control step in the base frame (x, y, z in m; rotation vector in rad) and the gripper (-1 open, +1
    closed). `other` is what an imported model of another robot or game takes, any number of them: it can be planned
    with, but no arm here carries it out. A model step is `action_block` control steps; its action vector holds them one
    after the other.

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
            if len(getattr(self, name)) != self.dim:
                raise ConfigError(f"action space: {name} must have {self.dim} numbers")
        if self.control_hz <= 0.0 or self.action_block < 1 or min(self.std) <= 0.0:
            raise ConfigError("action space: control_hz and every std must be above 0, action_block at least 1")
        if len(self.known_low) != len(self.known_high) or len(self.known_low) not in (0, ACTION_DIM):
            raise ConfigError(f"action space: known_low and known_high must both have {ACTION_DIM} numbers or none")

    @property
    def dim(self) -> int:
        """Numbers per control step: 7 for an arm."""
        return len(self.limit) if self.kind == "other" else ACTION_DIM

    @property
    def block_dim(self) -> int:
        """Size A of one model step's action vector."""
        return self.action_block * self.dim

    @property
    def block_s(self) -> float:
        """Duration of one model step."""
        return self.action_block / self.control_hz

    def clip(self, actions: Array) -> Array:
        """Actions (..., dim) within the limit per control step."""
        limit = np.asarray(self.limit)
        return np.clip(actions, -limit, limit)

    def normalise(self, actions: Array) -> Array:
        """Actions per control step (..., action_block, dim) -> z-scored blocks (..., A)."""
        scored = (np.asarray(actions) - self.mean) / self.std
        return scored.reshape(*scored.shape[:-2], self.block_dim)

    def denormalise(self, blocks: Array) -> Array:
        """z-scored blocks (..., A) -> actions per control step (..., action_block, dim), within the limit."""
        scored = np.asarray(blocks, dtype=np.float64).reshape(*blocks.shape[:-1], self.action_block, self.dim)
        return self.clip(scored * self.std + self.mean)

    def bounds(self) -> tuple[Array, Array]:
        """The limit as lower and upper bounds (A,) of a z-scored block."""
        limit, mean, std = (np.asarray(v) for v in (self.limit, self.mean, self.std))
        return np.tile((-limit - mean) / std, self.action_block), np.tile((limit - mean) / std, self.action_block)
