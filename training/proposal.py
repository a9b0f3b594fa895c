"""Train the proposal that starts the planner's search: minutes on the CPU, on embeddings of the same dataset."""

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
from lewm_ros.model.proposal import Proposal
from lewm_training.dataset import EpisodeDataset
from lewm_training.probe import embed

VALIDATION_PAIRS = 4096


def train_proposal(
    checkpoint: Checkpoint, dataset: EpisodeDataset, config: ProposalTrainConfig, seed: int
) -> tuple[Checkpoint, dict[str, Any]]:
    """Regress the sum of the actions between two frames of an episode on their embeddings.

    The encoder stays as it is: embeddings are computed once.

    Returns:
        the checkpoint with the proposal, and R2 of each action's sum on held-out episodes.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 3])
    space = checkpoint.action_space
    embeddings = torch.from_numpy(
        embed(checkpoint.model, dataset, np.arange(len(dataset.pixels)), progress="embed").astype(np.float32)
    )
    scored = (dataset.columns["action"] - np.asarray(space.mean)) / np.asarray(space.std)
    travelled = np.concatenate([np.zeros((1, scored.shape[1])), np.cumsum(scored, axis=0)])
    last = np.repeat(dataset.offsets + dataset.lengths - 1, dataset.lengths)
    longest = round(config.longest_s * space.control_hz)

    def pairs(rows: NDArray[np.int64], count: int) -> tuple[Tensor, Tensor, Tensor]:
        start = rng.choice(rows, count)
        end = np.minimum(start + rng.integers(0, longest + 1, count), last[start])
        way = torch.from_numpy((travelled[end] - travelled[start]).astype(np.float32))
        return embeddings[start], embeddings[end], way

    train, held_out = (dataset.window_starts(e, 1) for e in dataset.split(config.validation_fraction, seed))
    proposal = Proposal(config.proposal, embeddings.shape[1], space.block_dim)
    proposal.scale.copy_(pairs(train, VALIDATION_PAIRS)[2].std(0) + 1e-6)
    optimizer = torch.optim.AdamW(proposal.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    for _ in (bar := tqdm(range(config.steps), desc="train proposal", unit="step")):
        z, goal, way = pairs(train, config.batch_size)
        z, goal = (x + config.noise * torch.randn_like(x) for x in (z, goal))
        loss = ((proposal.way(z, goal) - way) / proposal.scale).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    proposal.eval()
    with torch.inference_mode():
        z, goal, way = pairs(held_out, VALIDATION_PAIRS)
        residual = (proposal.way(z, goal) - way).square().mean(0)
    metrics = {"way_r2": [round(value, 4) for value in (1.0 - residual / way.var(0)).tolist()]}
    provenance = checkpoint.provenance | {
        "proposal": {
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": seed,
            "train": dataclasses.asdict(config),
            "metrics": metrics,
        }
    }
    return dataclasses.replace(checkpoint, proposal=proposal, provenance=provenance), metrics
