"""What a training run leaves on disk, so that it can be stopped at any moment and go on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_training.judge.figures import plot_learning_curves


@dataclass(frozen=True)
class RunFolder:
    """`metrics.jsonl`, `model.safetensors` + `model.json` (the newest checkpoint), `state.pt`, and `curves.png`.

    After every epoch they are written beside and renamed, `state.pt` last: an epoch is finished once it is there. What
    was written of an unfinished one is replaced when the run goes on. The curves are drawn when a run ends.
    """

    path: Path

    @property
    def state(self) -> Path:
        """What the next run goes on from."""
        return self.path / "state.pt"

    def history(self) -> list[dict[str, Any]]:
        """The figures of every epoch so far."""
        metrics = self.path / "metrics.jsonl"
        return [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []

    def write_epoch(self, history: list[dict[str, Any]], checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        """Put a finished epoch in the place of the one before.

        Args:
            history: the figures of every epoch so far.
            checkpoint: the weights, and what they are.
            state: tensors and plain values that the next run goes on from.

        Raises:
            CheckpointError: a weight is not finite; nothing is written.
        """
        checkpoint.require_finite()
        self.write_history(history)
        self.write_checkpoint(checkpoint)
        beside = self.path / "state.writing"
        torch.save(state, beside)
        os.replace(beside, self.state)

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Put `history` in the place of what was there."""
        self.path.mkdir(parents=True, exist_ok=True)
        beside = self.path / "metrics.writing"
        beside.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")
        os.replace(beside, self.path / "metrics.jsonl")

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """The weights, and what they are."""
        save_checkpoint(checkpoint, self.path / "model")

    def draw_curves(self) -> None:
        """The learning curves so far."""
        plot_learning_curves(self.history(), self.path / "curves.png")
