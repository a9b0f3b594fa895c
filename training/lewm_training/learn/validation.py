"""What a model is worth on held-out episodes, in evaluation mode, and whether it is about to collapse."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import TrainConfig
from lewm_ros.model import LeWorldModel, SIGReg
from lewm_ros.model.checkpoint import LEAST_ERROR, ErrorSpread
from lewm_ros.model.precision import autocast
from lewm_training.data.windows import WindowReader
from lewm_training.judge.probe import light_probe
from lewm_training.learn.batch_norm import batch_statistics

HORIZONS = (1, 2, 5, 10)
"""Blocks ahead at which rollouts are judged."""

DISAGREEMENT = 0.5
"""Between what running and what batch statistics give, relative: above it, a warning."""

FALL = 0.5
"""Of a collapse monitor's best so far: below that share of it, a warning."""

LEAST_CHANGE_QUANTILE = 0.01
"""Of predicted changes: what is smaller says no more about the error."""

LEAST_STD = 1e-3
"""Of the logarithm of errors, for data too few to tell."""

COLLAPSE_MONITORS = ("effective_rank", "mean_std", "min_std")


@dataclass(frozen=True)
class Validation:
    """Validates on the same windows whenever it is asked.

    Args:
        config: sizes, precision, and how many windows.
        reader: reads the windows.
        episodes: held-out ones.
        train_rows: rows of training episodes, for probes to be fitted on.
        seed: of the choice of windows and of SIGReg's directions.
    """

    config: TrainConfig
    reader: WindowReader
    episodes: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    seed: int

    @torch.inference_mode()
    def measure(self, model: LeWorldModel) -> dict[str, Any]:
        """Prediction error beside that of 'nothing changes', collapse monitors, the BatchNorm check, and probes."""
        model.eval()
        rng = np.random.default_rng([self.seed, 1])
        starts, frames = self._choose(rng)
        with autocast(self.config.precision, self.reader.device):
            windows = max(1, self.config.batch_size * self.config.window_frames // frames)  # as in training, or less
            pieces = np.array_split(starts, -(-len(starts) // windows))
            z, actions = self._encode(model, pieces, frames)
            figures = self._one_step(model, z, actions) | self._rollouts(model, z, actions)
            figures |= self._batch_norm_check(model, z, actions, starts)
        figures |= collapse_monitors(z[..., 0, :].flatten(0, 1).double().cpu().numpy())
        test_rows = self.reader.dataset.window_starts(self.episodes, 1)
        return figures | light_probe(
            model,
            self.reader.dataset,
            np.sort(_some(rng, self.train_rows, 4 * self.config.probe_frames)),
            np.sort(_some(rng, test_rows, self.config.probe_frames)),
            self.seed,
        )

    def _choose(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
        """First rows of the windows, and their frames: as far ahead as HORIZONS, or as the episodes, go."""
        dataset, history = self.reader.dataset, self.config.model.history
        block = self.reader.action_space.action_block
        blocks_held = (dataset.lengths[self.episodes] - 1) // block  # whole blocks in each episode
        ahead = max((k for k in HORIZONS if history - 1 + k <= blocks_held.max()), default=1)
        span = (history - 1 + ahead) * block + 1
        long_enough = self.episodes[dataset.lengths[self.episodes] >= span]
        starts = dataset.window_starts(long_enough if len(long_enough) else self.episodes, span)
        return _some(rng, starts, self.config.validation_windows), history + ahead

    def _encode(self, model: LeWorldModel, batches: list[NDArray[np.int64]], frames: int) -> tuple[Tensor, Tensor]:
        """States (N, F, K, D) and z-scored blocks (N, F-1, A) of all windows, encoded batch by batch."""
        states, blocks = [], []
        for windows in self.reader.read_ahead(batches, frames):
            inputs, actions = self.reader.to_device(windows)
            states.append(model.encode_windows(inputs).float())
            blocks.append(actions)
        return torch.cat(states), torch.cat(blocks)

    def _one_step(self, model: LeWorldModel, z: Tensor, actions: Tensor) -> dict[str, float]:
        history = self.config.model.history
        z = z[:, : history + 1]
        sigreg = SIGReg(self.config.sigreg).to(z.device)
        directions = sigreg.draw_directions(z.shape[-1], torch.Generator().manual_seed(self.seed))
        judged = z[:, :, :1] if self.config.model.tokens == "patches" else z  # of patches, one says enough
        pieces = judged.flatten(1, 2).transpose(0, 1).tensor_split(max(1, len(z) // self.config.batch_size), dim=1)
        predicted = model.predict(z[:, :-1], actions[:, :history])[:, -1].float()
        errors, changes = ((predicted - z[:, k]).square().mean((-2, -1)).cpu().numpy() for k in (-1, -2))
        return {
            **{f"validation/error_{key}": value for key, value in asdict(error_spread(errors, changes)).items()},
            "validation/prediction": _prediction_error(model, z, actions),
            "validation/nothing_changes": _mean_square(z[:, 1:] - z[:, :-1]),
            "validation/sigreg": float(np.mean([float(sigreg(piece, directions)) for piece in pieces])),
        }

    def _rollouts(self, model: LeWorldModel, z: Tensor, actions: Tensor) -> dict[str, float]:
        """Error at each of HORIZONS, beside that of taking the newest frame's state for the later one's."""
        history = self.config.model.history
        plan = actions[:, history - 1 :].unsqueeze(1)
        imagined = model.rollout(z[:, :history], actions[:, : history - 1], plan).squeeze(1)  # (N, F-H, K, D)
        figures = {}
        for k in (k for k in HORIZONS if k <= imagined.shape[1]):
            true = z[:, history - 1 + k]
            figures[f"rollout/error_{k}"] = _mean_square(imagined[:, k - 1] - true)
            figures[f"rollout/nothing_changes_{k}"] = _mean_square(z[:, history - 1] - true)
        return figures

    def _batch_norm_check(
        self, model: LeWorldModel, z: Tensor, actions: Tensor, starts: NDArray[np.int64]
    ) -> dict[str, float]:
        """What changes if BatchNorm normalises by one large batch, as in training, not by its running statistics."""
        frames, windows = self.config.model.history + 1, min(2 * self.config.batch_size, len(starts))
        z, actions = z[:windows, :frames], actions[:windows]
        with batch_statistics(model):
            by_batch, _ = self._encode(model, [starts[:windows]], frames)
            prediction = _prediction_error(model, by_batch, actions)
        difference = (by_batch - z).square().sum() / (z - z.mean((0, 1))).square().sum().clamp_min(1e-12)
        running = _prediction_error(model, z, actions)
        return {
            "batch_norm/embedding_difference": float(difference.sqrt()),
            "batch_norm/prediction_difference": running / max(prediction, 1e-12) - 1.0,
        }


def error_spread(errors: NDArray[np.float32], changes: NDArray[np.float32]) -> ErrorSpread:
    """What is to be expected of prediction errors (N,), given the predicted changes (N,): a line through logarithms."""
    least_change = max(float(np.quantile(changes, LEAST_CHANGE_QUANTILE)), LEAST_ERROR)
    x, y = np.log(np.maximum(changes, least_change)), np.log(np.maximum(errors, LEAST_ERROR))
    slope = float(np.cov(x, y)[0, 1] / max(np.var(x, ddof=1), 1e-9)) if len(x) > 1 else 0.0
    intercept = float(y.mean() - slope * x.mean())
    residuals = y - intercept - slope * x
    return ErrorSpread(intercept, slope, max(float(residuals.std()), LEAST_STD), least_change)


def collapse_monitors(embeddings: NDArray[np.float64]) -> dict[str, float]:
    """Of embeddings (N, D): effective rank, and least and mean std of a dimension."""
    covariance = np.atleast_2d(np.cov(embeddings.T))
    std = np.sqrt(np.diag(covariance))
    return {
        "validation/effective_rank": effective_rank(covariance),
        "validation/mean_std": float(std.mean()),
        "validation/min_std": float(std.min()),
    }


def effective_rank(covariance: NDArray[np.float64]) -> float:
    """Exp of the entropy of the normalised eigenvalues (Roy and Vetterli, 2007): D if isotropic, 1 if collapsed."""
    eigenvalues = np.clip(np.linalg.eigvalsh(covariance), 1e-12, None)
    share = eigenvalues / eigenvalues.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def warnings_about(figures: dict[str, Any], earlier: list[dict[str, Any]]) -> list[str]:
    """One line for each figure of a validation that bodes ill, given those of earlier epochs."""
    lines = []
    for name in (f"validation/{monitor}" for monitor in COLLAPSE_MONITORS):
        best = max((entry[name] for entry in earlier if name in entry), default=0.0)
        if figures[name] < FALL * best:
            lines.append(
                f"{name} fell to {figures[name]:.3g} from {best:.3g}: embeddings are collapsing; "
                "raise sigreg.weight or lower learning_rate"
            )
    for name in ("batch_norm/embedding_difference", "batch_norm/prediction_difference"):
        if abs(figures[name]) > DISAGREEMENT:
            lines.append(
                f"{name} is {figures[name]:+.2f}: BatchNorm's running statistics disagree with the batch's, "
                "so that validation and the checkpoint say little about training"
            )
    return lines


def _prediction_error(model: LeWorldModel, z: Tensor, actions: Tensor) -> float:
    history = z.shape[1] - 1
    return _mean_square(model.predict(z[:, :-1], actions[:, :history]) - z[:, 1:])


def _mean_square(x: Tensor) -> float:
    return float(x.float().square().mean())


def _some(rng: np.random.Generator, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return rng.choice(rows, min(count, len(rows)), replace=False)
