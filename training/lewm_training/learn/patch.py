"""Train the patch-token baseline: the predictor of a frozen encoder's tokens."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lewm_ros.config import ConfigError, PatchTrainConfig, to_mapping
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint
from lewm_ros.model.patch import PatchWorldModel
from lewm_training.data import EpisodeDataset
from lewm_training.data.locking import exclusive
from lewm_training.data.windows import WindowReader
from lewm_training.judge.machine import describe
from lewm_training.learn.action_statistics import action_block, action_space_of
from lewm_training.learn.finite import require_finite
from lewm_training.learn.run_folder import RunFolder


class PatchTrainer:
    """Trains one baseline in one run folder; see `RunFolder` for what lies there at the end of every epoch.

    Args:
        config: the recipe.
        dataset: what to learn from.
        folder: the run folder; a run that stopped there goes on.
        seed: of everything random.
        device: where to compute.

    Raises:
        DatasetError: the dataset does not fit the model.
        CheckpointError: the encoder cannot be taken from `config.encoder_checkpoint`.
        ConfigError: timm does not have the encoder.
    """

    def __init__(self, config: PatchTrainConfig, dataset: EpisodeDataset, folder: Path, seed: int, device: str) -> None:
        self.dataset, self.folder, self.seed = dataset, RunFolder(folder), seed
        self.device = torch.device(device)
        torch.manual_seed(seed)
        self.config, self.model = _build(config)
        self.model.to(self.device)
        self.block = action_block(self.config.model, dataset)
        train, held_out = dataset.split(config.validation_fraction, seed)
        span = self.config.model.history * self.block + 1
        self.train_starts, self.validation_starts = (dataset.window_starts(e, span) for e in (train, held_out))
        self.action_space = action_space_of(dataset, train, self.block)
        self.reader = WindowReader(dataset, self.action_space, self.device)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=config.learning_rate, weight_decay=config.weight_decay)
        total, warmup = config.epochs * config.steps_per_epoch, config.warmup_fraction
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _rate(step / total, warmup))
        self.epoch, self.trained_s = 0, 0.0

    def run(self, until: int | None = None) -> Checkpoint:
        """Train from where the folder's state stands to the last epoch, or to `until`; returns the checkpoint.

        Raises:
            ConfigError: the folder belongs to a run of another configuration, or the loss is not finite.
            OutputError: another process writes the folder.
        """
        with exclusive(self.folder.path):
            self._resume()
            while self.epoch < min(until or self.config.epochs, self.config.epochs):
                started_s = time.monotonic()
                figures = {"train/prediction": self._train_epoch()} | self._validate()
                self.epoch += 1
                self.trained_s += time.monotonic() - started_s
                self._save(figures)
            return self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        """The model as it stands, with the record of how it came to be."""
        history = self.folder.history()
        return self._checkpoint(history[-1] if history else {})

    def _checkpoint(self, newest: dict[str, Any]) -> Checkpoint:
        """The model as it stands, with the figures of its newest epoch."""
        machine = describe(self.device)
        provenance = {
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": self.seed,
            "dataset": self.dataset.provenance,
            "train": to_mapping(self.config),
            "epochs": self.epoch,
            "training_s": round(self.trained_s),
            "hardware": f"{machine['device']}, {machine['threads']} threads",
            "torch": machine["torch"],
            "metrics": newest,
        }
        return Checkpoint(self.model, self.action_space, name="model", provenance=provenance)

    def _train_epoch(self) -> float:
        """The mean loss of one epoch's steps."""
        self.model.train()
        config, total = self.config, 0.0
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**31)))  # of dropout
        chosen = (rng.choice(self.train_starts, config.batch_size) for _ in range(config.steps_per_epoch))
        label = f"epoch {self.epoch + 1}/{config.epochs}"
        with tqdm(total=config.steps_per_epoch, desc=label, unit="step", leave=False) as bar:
            for pixels, actions in self._windows(chosen):
                loss = self._loss(pixels, actions)
                require_finite(label, [loss.item()])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
                self.optimizer.step()
                self.schedule.step()
                total += loss.item()
                bar.update()
                bar.set_postfix(prediction=f"{loss.item():.3f}", refresh=False)
        require_finite(label, [total], self.model)
        return total / config.steps_per_epoch

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """Errors of the predictions on held-out episodes, and of saying that nothing changes."""
        self.model.eval()
        rng = np.random.default_rng([self.seed, 1])
        count = min(self.config.validation_windows, len(self.validation_starts))
        chosen = rng.choice(self.validation_starts, count, replace=False)
        prediction = unchanged = 0.0
        for pixels, actions in self._windows(np.array_split(chosen, -(-count // self.config.batch_size))):
            prediction += len(pixels) / count * self._loss(pixels, actions).item()
            z = self.model.encode(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
            unchanged += len(pixels) / count * (z[:, 1:] - z[:, :-1]).square().mean().item()
        return {"validation/prediction": prediction, "validation/nothing_changes": unchanged}

    def _windows(self, chosen: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised frames (B, H+1, 3, height, width) and z-scored blocks (B, H, A) of windows from these rows on."""
        return map(self.reader.to_device, self.reader.read_ahead(chosen, self.config.model.history + 1))

    def _loss(self, pixels: Tensor, actions: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.model.loss(pixels, actions)

    def _identity(self) -> dict[str, Any]:
        """What must not change when a run goes on."""
        return {"config": to_mapping(self.config), "seed": self.seed, "dataset": self.dataset.fingerprint}

    def _resume(self) -> None:
        if not self.folder.state.exists():
            return
        state = torch.load(self.folder.state, map_location=self.device, weights_only=True)
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ConfigError(f"{self.folder.path}: was started with another {name}; choose another --out")
        for name in ("model", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.epoch, self.trained_s = state["epoch"], state["trained_s"]

    def _save(self, figures: dict[str, float]) -> None:
        earlier = [entry for entry in self.folder.history() if entry["epoch"] < self.epoch]
        newest = {"epoch": self.epoch, "trained_s": round(self.trained_s, 1)} | figures
        state = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "schedule")}
        state |= self._identity() | {"epoch": self.epoch, "trained_s": self.trained_s}
        self.folder.write_epoch([*earlier, newest], self._checkpoint(newest), state)
        tqdm.write(f"epoch {self.epoch:3d}  " + "  ".join(f"{name} {value:.4f}" for name, value in figures.items()))


def _build(config: PatchTrainConfig) -> tuple[PatchTrainConfig, PatchWorldModel]:
    """The model, and the configuration with the sizes of the encoder that it was given."""
    if not config.encoder_checkpoint:
        return config, PatchWorldModel(config.model, pretrained=bool(config.model.timm_name))
    source = load_checkpoint(config.encoder_checkpoint)
    source.require_kind("lewm")
    config = replace(config, model=replace(config.model, encoder=source.model.config.encoder))
    model = PatchWorldModel(config.model)
    model.vit.load_state_dict(source.model.encoder.vit.state_dict())
    return config, model


def _rate(progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero: the share of the learning rate after this share of all steps."""
    if progress < warmup:
        return max(progress, 1e-3 * warmup) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))
