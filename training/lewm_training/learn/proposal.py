"""Train what helps the planner beside the model, the proposal and the gap: minutes on the CPU, on frozen embeddings."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lewm_ros.config import ProposalTrainConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.gap import FrameGap
from lewm_ros.model.proposal import Proposal
from lewm_training.data import EpisodeDataset
from lewm_training.judge.embeddings import embed
from lewm_training.learn.action_statistics import action_block
from lewm_training.learn.finite import require_finite

VALIDATION_PAIRS = 4096


def train_proposal(
    checkpoint: Checkpoint, dataset: EpisodeDataset, config: ProposalTrainConfig, seed: int
) -> tuple[Checkpoint, dict[str, Any]]:
    """Regress, on the embeddings of two frames of an episode, the sum of the actions and the blocks between them.

    The encoder stays as it is: embeddings are computed once. Blocks are regressed by a low expectile
    (`config.gap_expectile`), since the way that an episode took is seldom the shortest.

    Returns:
        the checkpoint with the proposal and the gap, if there is to be one, and figures on held-out episodes: R2 of
        each action's sum, and the correlation of the gap with the blocks that lay between.

    Raises:
        CheckpointError: the checkpoint is not a LeWorldModel, or acts in what no arm carries out.
        DatasetError: frames or actions do not fit the model, or there are too few episodes.
        ConfigError: the loss is no longer finite.
    """
    checkpoint.require_kind("lewm")
    checkpoint.require_arm()
    action_block(checkpoint.model.config, dataset)
    torch.manual_seed(seed)
    train, held_out = (dataset.window_starts(e, 1) for e in dataset.split(config.validation_fraction, seed))
    pairs = Pairs(checkpoint, dataset, config, np.random.default_rng([seed, 3]))
    dimension = checkpoint.model.config.embedding_dim
    proposal = Proposal(config.proposal, dimension, checkpoint.action_space.block_dim)
    proposal.scale.copy_(pairs.draw(train, VALIDATION_PAIRS).way.std(0) + 1e-6)
    gap = FrameGap(config.gap, dimension) if config.gap else None
    parameters = [p for head in (proposal, gap) if head for p in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    for _ in (bar := tqdm(range(config.steps), desc="train proposal", unit="step")):
        batch = pairs.draw(train, config.batch_size, config.noise)
        loss = ((proposal.way(batch.z, batch.goal) - batch.way) / proposal.scale).square().mean()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if gap:
            loss = loss + _expectile_loss(gap(batch.z, batch.goal), batch.blocks, config.gap_expectile)
        require_finite(f"step {bar.n + 1}/{config.steps}", [loss.item()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    metrics = _measure(proposal.eval(), gap.eval() if gap else None, pairs.draw(held_out, VALIDATION_PAIRS))
    provenance = checkpoint.provenance | {
        "proposal": {
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": seed,
            "train": dataclasses.asdict(config),
            "metrics": metrics,
        }
    }
    return dataclasses.replace(checkpoint, proposal=proposal, gap=gap, provenance=provenance), metrics


@dataclasses.dataclass(frozen=True)
class Batch:
    """Embeddings of two frames (B, D) each, the sum (B, 7) of the z-scored actions and the blocks (B,) between them."""

    z: Tensor
    goal: Tensor
    way: Tensor
    blocks: Tensor


class Pairs:
    """Pairs of frames of one episode, at most `config.longest_s` apart."""

    def __init__(
        self, checkpoint: Checkpoint, dataset: EpisodeDataset, config: ProposalTrainConfig, rng: np.random.Generator
    ) -> None:
        space, self._rng = checkpoint.action_space, rng
        rows = np.arange(len(dataset.pixels))
        self._embeddings = torch.from_numpy(embed(checkpoint.model, dataset, rows, progress="embed")).float()
        scored = (dataset.columns["action"] - np.asarray(space.mean)) / np.asarray(space.std)
        scored = np.nan_to_num(scored)  # only the last action of an episode may be NaN, and no pair spans it
        self._travelled = np.concatenate([np.zeros((1, scored.shape[1])), np.cumsum(scored, axis=0)])
        self._last = np.repeat(dataset.offsets + dataset.lengths - 1, dataset.lengths)
        self._longest, self._block = round(config.longest_s * space.control_hz), space.action_block

    def draw(self, rows: NDArray[np.int64], count: int, noise: float = 0.0) -> Batch:
        """So many pairs that begin in `rows`; `noise` is the std of what is added to the embeddings."""
        start = self._rng.choice(rows, count)
        end = np.minimum(start + self._rng.integers(0, self._longest + 1, count), self._last[start])
        z, goal = (self._embeddings[row] for row in (start, end))
        if noise:
            z, goal = (x + noise * torch.randn_like(x) for x in (z, goal))
        way = torch.from_numpy((self._travelled[end] - self._travelled[start]).astype(np.float32))
        return Batch(z, goal, way, torch.from_numpy(((end - start) / self._block).astype(np.float32)))


@torch.inference_mode()
def _measure(proposal: Proposal, gap: FrameGap | None, batch: Batch) -> dict[str, Any]:
    residual = (proposal.way(batch.z, batch.goal) - batch.way).square().mean(0)
    metrics = {"way_r2": [round(value, 4) for value in (1.0 - residual / batch.way.var(0)).tolist()]}
    if gap:
        together = torch.stack([gap(batch.z, batch.goal), batch.blocks])
        metrics["gap_r"] = round(float(torch.corrcoef(together)[0, 1]), 4)
    return metrics


def _expectile_loss(predicted: Tensor, true: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared error (Newey and Powell, 1987): least at this expectile of what is true."""
    weight = torch.where(predicted > true, 1.0 - expectile, expectile)
    return (weight * (predicted - true).square()).mean()
