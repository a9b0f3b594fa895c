"""Teach a checkpoint to paint what its states hold: minutes on the CPU; the model stays as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import mse_loss

from lewm_ros.config import DecoderTrainConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.decoder import Decoder
from lewm_ros.model.inputs import to_inputs
from lewm_training.data import EpisodeDataset
from lewm_training.data.windows import InputReader
from lewm_training.judge.reconstruction import decoder_split, fidelity, reconstruct
from lewm_training.learn.head import fit, provenance_with

FIRST_FRAMES, JUDGED_FRAMES = 256, 512


def train_decoder(
    checkpoint: Checkpoint, dataset: EpisodeDataset, config: DecoderTrainConfig, seed: int
) -> tuple[Checkpoint, dict[str, Any]]:
    """Regress frames on what the encoder makes of them, by squared error.

    Frames are encoded as they are drawn, so that memory does not grow with the dataset or with the patch tokens.

    Returns:
        the checkpoint with the decoder, and by camera the peak signal-to-noise ratio on held-out episodes; see
        `fidelity`.

    Raises:
        ConfigError, DatasetError: frames or vectors do not fit the model, or there are too few episodes.
        ConfigError: the model has no such source, or the loss is no longer finite.
    """
    train, held_out = (
        dataset.window_starts(episodes, 1)
        for episodes in decoder_split(dataset, checkpoint.provenance, config.validation_fraction, seed)
    )
    torch.manual_seed(seed)
    model, rng = checkpoint.model, np.random.default_rng([seed, 5])
    decoder = Decoder(config.decoder, model).to(checkpoint.device)
    lessons = Lessons(decoder, checkpoint, InputReader(dataset, model.inputs))
    decoder.begin_with(*lessons.averages(np.sort(rng.choice(train, min(FIRST_FRAMES, len(train)), replace=False))))

    def loss_of_batch() -> Tensor:
        tokens, frames = lessons.read(np.sort(rng.choice(train, config.batch_size)))
        return mse_loss(decoder(tokens), frames)

    fit("decoder", decoder.parameters(), config, loss_of_batch)
    taught = dataclasses.replace(checkpoint, decoder=decoder.eval())
    judged = np.sort(rng.choice(held_out, min(JUDGED_FRAMES, len(held_out)), replace=False))
    cameras = [camera.name for camera in model.inputs.cameras]
    metrics = {"source": config.decoder.source, "frames": len(judged)}
    metrics["cameras"] = fidelity(reconstruct(taught, dataset, judged), cameras)
    provenance = provenance_with(checkpoint, "decoder", dataset, config, seed, metrics)
    return dataclasses.replace(taught, provenance=provenance), metrics


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What a decoder paints from, with what it should have painted."""

    decoder: Decoder
    checkpoint: Checkpoint
    inputs: InputReader

    @torch.no_grad()
    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Tokens (B, tokens, width) and the cameras' frames (B, C, 3, size, size) from 0 to 1, at rows (B,)."""
        spec, model = self.inputs.inputs, self.checkpoint.model
        values = {name: value.to(self.checkpoint.device) for name, value in self.inputs.read(rows).items()}
        frames = torch.stack([values[camera.name] for camera in spec.cameras], dim=1)
        return self.decoder.tokens(model, to_inputs(spec, values)).float(), frames.movedim(-1, -3).float() / 255.0

    def averages(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The mean frames (C, 3, size, size), and the tokens (N, tokens, width), at rows (N,)."""
        tokens, frames = self.read(rows)
        return frames.mean(0), tokens
