"""LeWorldModel (arXiv 2603.19312): encode, predict, roll out, and the two-term loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lewm_ros.config import ModelConfig
from lewm_ros.model.encoder import Encoder, projector
from lewm_ros.model.predictor import ActionEncoder, Predictor

if TYPE_CHECKING:
    from lewm_ros.model.rollout import Rollout


@dataclass(frozen=True)
class Loss:
    """The two terms (scalars) and SIGReg's weight, with embeddings (B, F, D) and predictions of 1 to H (B, H, D)."""

    prediction: Tensor
    sigreg: Tensor
    weight: float
    embeddings: Tensor
    predicted: Tensor

    @property
    def total(self) -> Tensor:
        """The weighted sum, which training minimises."""
        return self.prediction + self.weight * self.sigreg


class LeWorldModel(nn.Module):
    """One encoder and one action-conditioned predictor in one latent space. No EMA copy, no stop-gradient.

    Letters: B batch, H history (at most `config.history` model steps), S candidate plans, T model steps, D embedding,
    A action block.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embedding_dim
        self.encoder = Encoder(config.encoder, config.projector_dim, width)
        self.action_encoder = ActionEncoder(config.action_dim, width, config.action_features)
        self.predictor = Predictor(config.predictor, config.history, width)
        self.prediction_projector = projector(width, config.projector_dim, width)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str | torch.device = "cpu") -> LeWorldModel:
        """The model of a checkpoint (`default`, or a path with or without suffix), in evaluation mode.

        Raises:
            CheckpointError: the checkpoint is missing, damaged or of another architecture.
        """
        from lewm_ros.model.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(path, device)
        checkpoint.require_kind("lewm")
        return checkpoint.model

    def encode(self, pixels: Tensor) -> Tensor:
        """Normalised frames (B, 3, H, W) -> embeddings (B, D)."""
        return self.encoder(pixels)

    def predict(self, z: Tensor, actions: Tensor) -> Tensor:
        """Embeddings (B, H, D) and z-scored action blocks (B, H, A) -> the next embedding at every step (B, H, D)."""
        x = self.predictor(z, self.predictor.modulate(self.action_encoder(actions)))
        return self.prediction_projector(x.flatten(0, 1)).view_as(z)

    def rollout(self, z: Tensor, past_actions: Tensor, plans: Tensor) -> Tensor:
        """Imagine what candidate plans lead to, step by step, each prediction fed back.

        Args:
            z: embeddings (B, H, D) of the newest frames, oldest first.
            past_actions: z-scored blocks (B, H-1, A) executed between those frames.
            plans: z-scored blocks (B, S, T, A) to imagine from the newest frame on.

        Returns:
            embeddings (B, S, T, D) after each block of each plan.
        """
        batch, samples, steps, _ = plans.shape
        actions = torch.cat([past_actions.unsqueeze(1).expand(-1, samples, -1, -1), plans], dim=2).flatten(0, 1)
        modulations = self.predictor.modulate(self.action_encoder(actions))  # of (B*S, H-1+T, 6 D)
        states = z.unsqueeze(1).expand(-1, samples, -1, -1).flatten(0, 1)  # (B*S, H, D)
        known = states.shape[1]
        for step in range(steps):
            newest = known + step
            oldest = max(0, newest - self.config.history)
            x = self.predictor(states[:, oldest:], [m[:, oldest:newest] for m in modulations])[:, -1]
            states = torch.cat([states, self.prediction_projector(x).unsqueeze(1)], dim=1)
        return states[:, known:].unflatten(0, (batch, samples))

    def planning_model(self, precision: str) -> Rollout:
        """A frozen copy that rolls out plans fast, with matmuls in `fp32` or `bf16`."""
        from lewm_ros.model.rollout import Rollout

        return Rollout(self, precision)

    def loss(self, pixels: Tensor, actions: Tensor, sigreg: Callable[[Tensor], Tensor], weight: float) -> Loss:
        """L = mean ||predicted - next||^2 + weight * SIGReg, gradients through both sides (LeWM, eq. 3).

        Args:
            pixels: normalised windows (B, F, 3, height, width) of at least H+1 frames. The predictions are of the first
                H+1; SIGReg judges all.
            actions: z-scored blocks (B, F-1, A) between those frames.
            sigreg: the regulariser, of embeddings (F, B, D).
            weight: lambda, the one hyperparameter.
        """
        history = self.config.history
        z = self.encode(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])  # (B, F, D)
        predicted = self.predict(z[:, :history], actions[:, :history])
        prediction = (predicted - z[:, 1 : history + 1]).float().square().mean()
        spread = sigreg(z.float().transpose(0, 1))
        return Loss(prediction, spread, weight, z, predicted)
