"""Train what helps the planner beside the model, the proposal and the gap: minutes on the CPU, on frozen states."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import ProposalTrainConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.gap import FrameGap
from lewm_ros.model.proposal import Proposal
from lewm_training.data import EpisodeDataset
from lewm_training.judge.embeddings import embed
from lewm_training.learn.head import fit, provenance_with

VALIDATION_PAIRS = 4096


def train_proposal(
    checkpoint: Checkpoint, dataset: EpisodeDataset, config: ProposalTrainConfig, seed: int
) -> tuple[Checkpoint, dict[str, Any]]:
    """Regress, on the states of two frames of an episode, what leads from one to the other, and in how many blocks.

    Of the channels that add up it is the sum of the actions between the frames; of the others, such as a gripper's
    command, their mean over the block after the first frame. The encoder stays as it is: states are computed once.
    Blocks are regressed by a low expectile (`config.gap_expectile`), since the way that an episode took is seldom the
    shortest.

    Returns:
        the checkpoint with the proposal and the gap, if there is to be one, and figures on held-out episodes: R2 of
        each sum and of each other channel, and the correlation of the gap with the blocks that lay between.

    Raises:
        ConfigError, DatasetError: frames, vectors or actions do not fit the model, or there are too few episodes.
        ConfigError: the loss is no longer finite.
    """
    train, held_out = (dataset.window_starts(e, 2) for e in dataset.split(config.validation_fraction, seed))
    dataset.require_same_actions(checkpoint.action_space, f"checkpoint '{checkpoint.name}'")
    torch.manual_seed(seed)
    pairs = Pairs(checkpoint, dataset, config, np.random.default_rng([seed, 3]))
    proposal = Proposal(config.proposal, pairs.state_dim, checkpoint.action_space)
    if proposal.deltas:
        proposal.scale.copy_(pairs.draw(train, VALIDATION_PAIRS).way.std(0) + 1e-6)
    gap = FrameGap(config.gap, pairs.state_dim) if config.gap else None

    def loss_of_batch() -> Tensor:
        batch = pairs.draw(train, config.batch_size, config.noise)
        loss = _proposal_loss(proposal, batch)
        if gap:
            loss = loss + _expectile_loss(gap(batch.z, batch.goal), batch.blocks, config.gap_expectile)
        return loss

    fit("proposal", [p for head in (proposal, gap) if head for p in head.parameters()], config, loss_of_batch)
    metrics = _measure(proposal.eval(), gap.eval() if gap else None, pairs.draw(held_out, VALIDATION_PAIRS))
    provenance = provenance_with(checkpoint, "proposal", dataset, config, seed, metrics)
    return dataclasses.replace(checkpoint, proposal=proposal, gap=gap, provenance=provenance), metrics


@dataclasses.dataclass(frozen=True)
class Batch:
    """Pairs of frames of an episode.

    Attributes:
        z, goal: what a goal has of their states, side by side (B, Z).
        way: the sums (B, deltas) of the z-scored actions between them, of the channels that add up.
        other: the other z-scored channels (B, others), mean over the block after `z`.
        blocks: (B,) between them.
    """

    z: Tensor
    goal: Tensor
    way: Tensor
    other: Tensor
    blocks: Tensor


class Pairs:
    """Pairs of frames of one episode, at most `config.longest_s` apart."""

    def __init__(
        self, checkpoint: Checkpoint, dataset: EpisodeDataset, config: ProposalTrainConfig, rng: np.random.Generator
    ) -> None:
        space, self._rng = checkpoint.action_space, rng
        states = embed(checkpoint.model, dataset, np.arange(len(dataset.pixels)), progress="embed")
        self._states = torch.from_numpy(states[:, checkpoint.goal_tokens].reshape(len(states), -1)).float()
        scored = (np.asarray(dataset.columns["action"]) - np.asarray(space.mean)) / np.asarray(space.std)
        scored = np.nan_to_num(scored)  # only the last action of an episode may be NaN, and no pair spans it
        self._travelled = np.concatenate([np.zeros((1, space.dim)), np.cumsum(scored, axis=0)])
        self._last = np.repeat(dataset.offsets + dataset.lengths - 1, dataset.lengths)
        self._longest, self._block = round(config.longest_s * space.control_hz), space.action_block
        self._deltas, self._others = space.places("delta"), space.places("absolute", "velocity")

    @property
    def state_dim(self) -> int:
        """Z."""
        return self._states.shape[1]

    def draw(self, rows: NDArray[np.int64], count: int, noise: float = 0.0) -> Batch:
        """So many pairs that begin in `rows`, none the last of an episode; `noise` is the std of that on the states."""
        start = self._rng.choice(rows, count)
        end = np.minimum(start + self._rng.integers(0, self._longest + 1, count), self._last[start])
        block_end = np.minimum(start + self._block, self._last[start])
        z, goal = (self._states[row] for row in (start, end))
        if noise:
            z, goal = (x + noise * torch.randn_like(x) for x in (z, goal))
        way = self._sum(start, end)[:, self._deltas]
        other = self._sum(start, block_end)[:, self._others] / (block_end - start)[:, None]
        blocks = (end - start) / self._block
        return Batch(z, goal, *(torch.from_numpy(values.astype(np.float32)) for values in (way, other, blocks)))

    def _sum(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of the z-scored actions (B, dim) from rows `start` to before rows `end`."""
        return self._travelled[end] - self._travelled[start]


def _proposal_loss(proposal: Proposal, batch: Batch) -> Tensor:
    """Squared error of what adds up, at unit scale, and of what does not."""
    loss = batch.z.new_zeros(())
    if batch.way.shape[1]:
        loss = loss + ((proposal.way(batch.z, batch.goal) - batch.way) / proposal.scale).square().mean()
    if batch.other.shape[1]:
        loss = loss + (proposal.other(batch.z, batch.goal) - batch.other).square().mean()
    return loss


@torch.inference_mode()
def _measure(proposal: Proposal, gap: FrameGap | None, batch: Batch) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, true, predict in (("way", batch.way, proposal.way), ("other", batch.other, proposal.other)):
        if true.shape[1]:
            residual = (predict(batch.z, batch.goal) - true).square().mean(0)
            metrics[f"{name}_r2"] = [_r2(*pair) for pair in zip(residual.tolist(), true.var(0).tolist(), strict=True)]
    if gap:
        together = torch.stack([gap(batch.z, batch.goal), batch.blocks])
        metrics["gap_r"] = round(float(torch.corrcoef(together)[0, 1]), 4)
    return metrics


def _r2(residual: float, variance: float) -> float | None:
    """None for what never changes."""
    return round(1.0 - residual / variance, 4) if variance > 0.0 else None


def _expectile_loss(predicted: Tensor, true: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared error (Newey and Powell, 1987): least at this expectile of what is true."""
    weight = torch.where(predicted > true, 1.0 - expectile, expectile)
    return (weight * (predicted - true).square()).mean()
