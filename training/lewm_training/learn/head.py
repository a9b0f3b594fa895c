"""What teaching any head beside a model that stays as it is has in common: the steps, and the record of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lewm_ros.config import to_mapping
from lewm_ros.model.checkpoint import Checkpoint
from lewm_training.data import EpisodeDataset
from lewm_training.learn.finite import require_finite


class HeadTraining(Protocol):
    """How a head is trained, as far as its steps need to know."""

    steps: int
    learning_rate: float
    weight_decay: float


def fit(
    name: str, parameters: Iterable[nn.Parameter], config: HeadTraining, loss_of_batch: Callable[[], Tensor]
) -> None:
    """Minimise the loss of fresh batches by AdamW with a one-cycle schedule, and show it beside `name`.

    Raises:
        ConfigError: the loss is no longer finite.
    """
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    for _ in (bar := tqdm(range(config.steps), desc=f"train {name}", unit="step")):
        loss = loss_of_batch()
        bar.set_postfix(loss=f"{loss.item():.3g}", refresh=False)
        require_finite(f"step {bar.n + 1}/{config.steps}", [loss.item()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def provenance_with(
    checkpoint: Checkpoint, name: str, dataset: EpisodeDataset, config: object, seed: int, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The provenance of a checkpoint that was taught a head of this name."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    entry = {"command": command, "seed": seed, "dataset": dataset.provenance, "train": to_mapping(config)}
    return checkpoint.provenance | {name: entry | {"metrics": metrics}}
