"""Train the proposal that starts the planner's search: minutes on the CPU, on embeddings of the same dataset."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
    """Regress the first action block between two frames of an episode, 1 to `longest` blocks apart.

    The encoder stays as it is: embeddings are computed once. Embeddings carry a little noise in training, since in the
    loop the proposal also sees predicted ones.

    Returns:
        the checkpoint with the proposal, and the error on held-out episodes: the share of the variance of z-scored
        actions that the proposal leaves, over all pairs and for goals up to four blocks away.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 3])
    space, block = checkpoint.action_space, checkpoint.action_space.action_block
    embeddings = torch.from_numpy(
        embed(checkpoint.model, dataset, np.arange(len(dataset.pixels)), progress="embed").astype(np.float32)
    )
    actions = dataset.columns["action"]
    ends = np.repeat(dataset.offsets + dataset.lengths, dataset.lengths)

    def pairs(rows: np.ndarray, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        start = rng.choice(rows, count)
        left = rng.integers(1, np.minimum((ends[start] - 1 - start) // block, config.proposal.longest) + 1)
        chosen = actions[start[:, None] + np.arange(block)]
        target = torch.from_numpy(space.normalise(chosen).astype(np.float32))
        return embeddings[start], embeddings[start + left * block], torch.from_numpy(left), target

    train, held_out = (dataset.window_starts(e, block + 1) for e in dataset.split(config.validation_fraction, seed))
    proposal = Proposal(config.proposal, embeddings.shape[1], space.block_dim)
    optimizer = torch.optim.AdamW(proposal.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    for _ in (bar := tqdm(range(config.steps), desc="train proposal", unit="step")):
        z, goal, left, target = pairs(train, config.batch_size)
        noisy = z + config.noise * torch.randn_like(z)
        loss = (proposal(noisy, goal, left) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    proposal.eval()
    with torch.inference_mode():
        z, goal, left, target = pairs(held_out, VALIDATION_PAIRS)
        error = (proposal(z, goal, left) - target).square().mean(1)
    near = left <= 4
    metrics = {
        "residual_variance": float(error.mean() / target.var()),
        "residual_variance_near": float(error[near].mean() / target[near].var()),
    }
    provenance = checkpoint.provenance | {
        "proposal": {
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": seed,
            "train": dataclasses.asdict(config),
            "metrics": metrics,
        }
    }
    return dataclasses.replace(checkpoint, proposal=proposal, provenance=provenance), metrics
