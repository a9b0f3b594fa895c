"""Teach a checkpoint a policy: minutes on the CPU, on the model's states, which stay as they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import PolicyTrainConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.policy import Policy, make_policy
from lewm_training.data import EpisodeDataset
from lewm_training.data.hindsight import HindsightGoals
from lewm_training.judge.embeddings import embed
from lewm_training.learn.familiarity import learn_familiarity
from lewm_training.learn.head import fit, provenance_with

VALIDATION_FRAMES = 4096


def train_policy(
    checkpoint: Checkpoint, dataset: EpisodeDataset, config: PolicyTrainConfig, seed: int
) -> tuple[Checkpoint, dict[str, Any]]:
    """Regress, on a frame and a later one of the same episode, what was done next and how long the way was.

    Returns:
        the checkpoint with the policy, and with what tells strange goals if there are enough demonstrations; and
        figures on held-out episodes: of every channel the share of its mean absolute deviation that is explained, None
        where nothing varies, and the mean error of the steps left.

    Raises:
        ConfigError, DatasetError: frames, vectors or actions do not fit the model, or there are too few episodes.
        ConfigError: the loss is no longer finite.
    """
    dataset.require_same_actions(checkpoint.action_space, f"checkpoint '{checkpoint.name}'")
    train, held_out = dataset.split(config.validation_fraction, seed)
    train = dataset.some(train, config.episodes, seed)
    torch.manual_seed(seed)
    frames = Demonstrations(checkpoint, dataset, config, np.union1d(train, held_out))
    train_rows, held_out_rows = (frames.beginnings(episodes) for episodes in (train, held_out))
    policy = make_policy(config.policy, checkpoint.model, checkpoint.action_space)
    rng = np.random.default_rng([seed, 4])
    noise = config.noise * frames.states[frames.at(train_rows)].std(0)

    def loss_of_batch() -> Tensor:
        batch = frames.draw(rng, train_rows, config.batch_size)
        z, goal = batch.z + noise * torch.randn_like(batch.z), batch.goal
        goal = goal + noise[policy.goal_places] * torch.randn_like(goal)
        return policy.loss(z, goal, batch.blocks, batch.left)

    fit("policy", policy.parameters(), config, loss_of_batch)
    familiarity = learn_familiarity(checkpoint.model, dataset, train, held_out)
    metrics = _measure(policy.eval(), frames.draw(rng, held_out_rows, VALIDATION_FRAMES), checkpoint)
    provenance = provenance_with(checkpoint, "policy", dataset, config, seed, metrics)
    taught = dataclasses.replace(checkpoint, policy=policy, familiarity=familiarity, provenance=provenance)
    return taught, metrics | {"knows_strange_goals": familiarity is not None}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Frames with goals from the same episode.

    Attributes:
        z: states (B, K * D).
        goal: what a goal has of a state (B, Kg * D).
        blocks: z-scored (B, A), to be imitated from the frame on.
        left: control steps (B,) to the goal.
    """

    z: Tensor
    goal: Tensor
    blocks: Tensor
    left: Tensor


class Demonstrations:
    """The states of every `config.stride`-th frame of some episodes, and of their last ones."""

    def __init__(
        self, checkpoint: Checkpoint, dataset: EpisodeDataset, config: PolicyTrainConfig, episodes: NDArray[np.int64]
    ) -> None:
        self._dataset, self._space = dataset, checkpoint.action_space
        self._goals = HindsightGoals(dataset, config.final_share, config.goal_within)
        self._width, self._goal_tokens = checkpoint.state_shape[1], list(checkpoint.goal_tokens)
        spans = (np.arange(rows.start, rows.stop) for rows in map(dataset.rows, episodes))
        self._rows = np.concatenate([np.union1d(rows[:: config.stride], rows[-1:]) for rows in spans])
        states = embed(checkpoint.model, dataset, self._rows, progress="embed")
        self.states = torch.from_numpy(states.reshape(len(states), -1)).float()

    def beginnings(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these episodes whose states are known and after which a whole block was done."""
        starts = self._dataset.window_starts(episodes, self._space.action_block + 1)
        return np.intersect1d(starts, self._rows, assume_unique=True)

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the states of rows stand, or those of the last known row before."""
        return np.searchsorted(self._rows, rows, side="right") - 1

    def draw(self, rng: np.random.Generator, rows: NDArray[np.int64], count: int) -> Lesson:
        """So many of these rows, with goals."""
        starts = rng.choice(rows, count)
        goals = self._rows[self.at(self._goals.draw(rng, starts))]
        done = self._dataset.read_actions(starts, 1, self._space.action_block, self._dataset.imitated)
        blocks = self._space.normalise(done[:, 0])
        return Lesson(
            self.states[self.at(starts)],
            self._as_goals(goals),
            torch.from_numpy(blocks.astype(np.float32)),
            torch.from_numpy((goals - starts).astype(np.float32)),
        )

    def _as_goals(self, rows: NDArray[np.int64]) -> Tensor:
        return self.states[self.at(rows)].unflatten(1, (-1, self._width))[:, self._goal_tokens].flatten(1)


@torch.inference_mode()
def _measure(policy: Policy, batch: Lesson, checkpoint: Checkpoint) -> dict[str, Any]:
    guess, space = policy(batch.z, batch.goal, batch.left), checkpoint.action_space
    error = (guess.blocks - batch.blocks).abs().unflatten(1, (-1, space.dim)).mean((0, 1))
    spread = (batch.blocks - batch.blocks.median(0).values).abs().unflatten(1, (-1, space.dim)).mean((0, 1))
    each = zip(space.names, error.tolist(), spread.tolist(), strict=True)
    explained = {name: round(1.0 - e / s, 4) if s > 0.0 else None for name, e, s in each}
    return {"explained": explained, "steps_left_error": round(float((guess.left - batch.left).abs().mean()), 2)}
