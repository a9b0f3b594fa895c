"""Train LeWorldModel on a dataset of episodes: the loop, its state on disk, its validation."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lewm_ros.config import TrainConfig, to_mapping
from lewm_ros.model import LeWorldModel, SIGReg
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.model.pixels import normalise_pixels
from lewm_ros.robot.action_space import ActionSpace
from lewm_training.dataset import DatasetError, EpisodeDataset
from lewm_training.figures import plot_learning_curves
from lewm_training.probe import embed, probe_joints_and_position

Windows = tuple[NDArray[np.uint8], NDArray[np.float32]]


class Trainer:
    """Trains one model in one run folder.

    The folder holds `model.safetensors` + `model.json` (the newest checkpoint), `state.pt` (optimiser and progress, to
    resume from), `metrics.jsonl`, `curves.png` and TensorBoard events. All are renewed at the end of every epoch.
    """

    def __init__(self, config: TrainConfig, dataset: EpisodeDataset, folder: Path, seed: int, device: str) -> None:
        self.config, self.dataset, self.folder, self.seed = config, dataset, folder, seed
        self.device = torch.device(device)
        model = config.model
        if dataset.pixels.shape[1:3] != (model.encoder.image_size,) * 2:
            raise DatasetError(
                f"{dataset.path}: frames are {dataset.pixels.shape[2]}x{dataset.pixels.shape[1]} px, "
                f"the model takes {model.encoder.image_size}x{model.encoder.image_size}"
            )
        for label in ("proprio", "ee_position"):
            if label not in dataset.columns:
                raise DatasetError(f"{dataset.path}: column '{label}' is missing; validation probes for it")
        self.block = model.action_dim // dataset.columns["action"].shape[1]
        self.frames = model.history + 1
        train_episodes, held_out = dataset.split(config.validation_fraction, seed)
        span = model.history * self.block + 1
        self.train_starts = dataset.window_starts(train_episodes, span)
        groups = dataset.anchored_episodes(train_episodes) if config.anchored_fraction > 0.0 else [train_episodes]
        self.anchored_starts = [dataset.window_starts(episodes, span) for episodes in groups]
        self.validation_starts = dataset.window_starts(held_out, span)
        self.action_space = _action_space(dataset, train_episodes, self.block)

        torch.manual_seed(seed)
        self.model = LeWorldModel(model).to(self.device)
        self.sigreg = SIGReg(config.sigreg).to(self.device)
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.epoch, self.trained_s = 0, 0.0
        self.loss = torch.compile(self.model.loss) if config.compile else self.model.loss

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.config.steps_per_epoch

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero."""
        warmup = max(1, round(self.config.warmup_fraction * self.total_steps))
        if step < warmup:
            return self.config.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.total_steps - warmup)
        return self.config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))

    def run(self) -> Checkpoint:
        """Train from where the folder's state stands to the last epoch; returns the final checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        with SummaryWriter(str(self.folder / "tensorboard")) as board:
            while self.epoch < self.config.epochs:
                started = time.monotonic()
                metrics = self._train_epoch()
                self._settle_batch_norm()
                metrics |= self.validate()
                self.epoch += 1
                self.trained_s += time.monotonic() - started
                self._save(metrics)
                for name, value in metrics.items():
                    if isinstance(value, float):
                        board.add_scalar(name, value, self.epoch)
        return self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        """The model as it stands, with the record of how it came to be."""
        provenance = {
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": self.seed,
            "dataset": {"file": self.dataset.path.name, **self.dataset.meta.get("config", {})},
            "train": to_mapping(self.config),
            "epochs": self.epoch,
            "training_s": round(self.trained_s),
            "hardware": _hardware(self.device),
            "torch": torch.__version__,
            "metrics": self._history()[-1] if self._history() else {},
        }
        return Checkpoint(self.model, self.action_space, name="model", provenance=provenance)

    def _train_epoch(self) -> dict[str, Any]:
        self.model.train()
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        sums, steps = torch.zeros(3), self.config.steps_per_epoch
        bar = tqdm(total=steps, desc=f"epoch {self.epoch + 1}/{self.config.epochs}", unit="step", leave=False)
        started = time.monotonic()
        for step, windows in enumerate(self._batches(rng, steps)):
            rate = self.learning_rate(self.epoch * steps + step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            pixels, actions = self._to_device(windows)
            with self._autocast():
                loss = self.loss(pixels, actions, self.sigreg, self.config.sigreg.weight)
            self.optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
            self.optimizer.step()
            sums += torch.stack([loss.total, loss.prediction, loss.sigreg]).detach().float().cpu()
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss.total.item():.3f}", prediction=f"{loss.prediction.item():.4f}")
        bar.close()
        mean = (sums / steps).tolist()
        windows_per_s = steps * self.config.batch_size / (time.monotonic() - started)
        return {
            "train/loss": mean[0],
            "train/prediction": mean[1],
            "train/sigreg": mean[2],
            "train/windows_per_s": windows_per_s,
        }

    @torch.no_grad()
    def _settle_batch_norm(self, batches: int = 16) -> None:
        """Recompute BatchNorm's statistics over plain training windows (precise BN: Wu and Johnson, 2105.07576).

        The moving averages of training trail the weights and carry the anchored share of its batches; evaluation in
        their place would inflate the validation loss.
        """
        norms = [m for m in self.model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
        rng = np.random.default_rng([self.seed, 2])
        for _ in range(batches):
            starts = rng.choice(self.train_starts, self.config.batch_size)
            pixels, actions = self._to_device(self.dataset.read_windows(starts, self.frames, self.block))
            with self._autocast():
                z = self.model.encode(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
                self.model.predict(z[:, :-1], actions)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """Losses on held-out episodes in evaluation mode, collapse monitors, and linear probes."""
        self.model.eval()
        rng = np.random.default_rng([self.seed, 1])
        count = min(self.config.validation_windows, len(self.validation_starts))
        chosen = rng.choice(self.validation_starts, count, replace=False)
        sums, unchanged, batches = torch.zeros(2), 0.0, 0
        for starts in np.array_split(chosen, max(1, count // self.config.batch_size)):
            pixels, actions = self._to_device(self.dataset.read_windows(starts, self.frames, self.block))
            with self._autocast():
                loss = self.model.loss(pixels, actions, self.sigreg, self.config.sigreg.weight)
            z = loss.embeddings.float()
            unchanged += float((z[:, 1:] - z[:, :-1]).square().mean())
            sums += torch.stack([loss.prediction, loss.sigreg]).float().cpu()
            batches += 1
        train_rows = rng.choice(self.train_starts, min(4 * self.config.probe_frames, len(self.train_starts)), False)
        test_rows = rng.choice(
            self.validation_starts, min(self.config.probe_frames, len(self.validation_starts)), False
        )
        spread = np.cov(embed(self.model, self.dataset, np.sort(test_rows)).T)
        probes = probe_joints_and_position(self.model, self.dataset, np.sort(train_rows), np.sort(test_rows))
        return {
            "validation/prediction": float(sums[0]) / batches,
            "validation/sigreg": float(sums[1]) / batches,
            "validation/nothing_changes": unchanged / batches,
            "validation/effective_rank": effective_rank(spread),
            "validation/mean_std": float(np.sqrt(np.diag(spread)).mean()),
            "probe/position_error_mm": probes["position_error_mm"],
            "probe/joint_r2": probes["joint_r2"],
            "probe/position_r2": probes["position_r2"],
        }

    def _batches(self, rng: np.random.Generator, steps: int) -> Iterator[Windows]:
        """Random windows, read ahead in a thread while the model computes."""
        ready: queue.Queue[Windows] = queue.Queue(maxsize=4)
        anchored = round(self.config.anchored_fraction * self.config.batch_size)
        chosen = [
            np.concatenate(
                [
                    rng.choice(self.train_starts, self.config.batch_size - anchored),
                    rng.choice(self.anchored_starts[rng.integers(len(self.anchored_starts))], anchored),
                ]
            )
            for _ in range(steps)
        ]
        stop = threading.Event()

        def read() -> None:
            for starts in chosen:
                windows = self.dataset.read_windows(starts, self.frames, self.block)
                while not stop.is_set():
                    with contextlib.suppress(queue.Full):
                        ready.put(windows, timeout=0.2)
                        break

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            for _ in range(steps):
                yield ready.get()
        finally:
            stop.set()
            reader.join()

    def _to_device(self, windows: Windows) -> tuple[Tensor, Tensor]:
        frames, actions = windows
        blocks = self.action_space.normalise(actions).astype(np.float32)
        return normalise_pixels(torch.from_numpy(frames).to(self.device)), torch.from_numpy(blocks).to(self.device)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["config"] != to_mapping(self.config):
            raise DatasetError(f"{self.folder}: was started with another configuration; choose another --out")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.trained_s = state["epoch"], state["trained_s"]

    def _save(self, metrics: dict[str, Any]) -> None:
        line = {"epoch": self.epoch, "trained_s": round(self.trained_s, 1)} | metrics
        history = [entry for entry in self._history() if entry["epoch"] < self.epoch] + [line]
        _replace(self.folder / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in history))
        save_checkpoint(self.checkpoint(), self.folder / "model")
        plot_learning_curves(history, self.folder / "curves.png")
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "trained_s": self.trained_s,
            "config": to_mapping(self.config),
        }
        beside = self.folder / "state.writing"
        torch.save(state, beside)
        os.replace(beside, self.folder / "state.pt")
        joints = " ".join(f"{v:.2f}" for v in metrics["probe/joint_r2"])
        tqdm.write(
            f"epoch {self.epoch:3d}  prediction {metrics['validation/prediction']:.4f} "
            f"(nothing changes {metrics['validation/nothing_changes']:.4f})  "
            f"sigreg {metrics['validation/sigreg']:.2f}  joints R2 {joints}  "
            f"position {metrics['probe/position_error_mm']:.0f} mm  {metrics['train/windows_per_s']:.0f} windows/s"
        )

    def _history(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def effective_rank(covariance: NDArray[np.float64]) -> float:
    """Exp of the entropy of the normalised eigenvalues (Roy and Vetterli, 2007): D if isotropic, 1 if collapsed."""
    eigenvalues = np.clip(np.linalg.eigvalsh(covariance), 1e-12, None)
    share = eigenvalues / eigenvalues.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _action_space(dataset: EpisodeDataset, episodes: NDArray[np.int64], block: int) -> ActionSpace:
    rows = np.concatenate([np.arange(dataset.offsets[e], dataset.offsets[e] + dataset.lengths[e]) for e in episodes])
    actions = dataset.columns["action"][rows].astype(np.float64)
    for key in ("action_space", "control_hz", "limit", "joint_names"):
        if key not in dataset.meta:
            raise DatasetError(f"{dataset.path}: its attribute 'meta' lacks '{key}'; `lewm collect` writes it")
    known = {}
    if dataset.meta["action_space"] == "joint_delta":
        positions = dataset.columns["proprio"][rows].astype(np.float64)
        known = {"known_low": tuple(positions.min(0).tolist()), "known_high": tuple(positions.max(0).tolist())}
    return ActionSpace(
        kind=dataset.meta["action_space"],
        control_hz=dataset.meta["control_hz"],
        action_block=block,
        limit=tuple(dataset.meta["limit"]),
        mean=tuple(actions.mean(0).tolist()),
        std=tuple((actions.std(0) + 1e-6).tolist()),
        joint_names=tuple(dataset.meta["joint_names"]),
        **known,
    )


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".writing")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
