"""LeWorldModel (arXiv 2603.19312): encode, predict, roll out, and the two-term loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lewm_ros.config import ConfigError, ModelConfig
from lewm_ros.model.encoder import make_encoder, projector
from lewm_ros.model.predictor import ActionEncoder, Predictor, prediction_head
from lewm_ros.observation.input_spec import UNNAMED, CameraSpec, InputSpec


@dataclass(frozen=True)
class Loss:
    """The two terms (scalars), with states (B, F, K, D) and predictions of steps 1 to H (B, H, K, D)."""

    prediction: Tensor
    sigreg: Tensor
    states: Tensor
    predicted: Tensor


class LeWorldModel(nn.Module):
    """One encoder and one action-conditioned predictor in one latent space. No EMA copy, no stop-gradient.

    Letters: B batch, H history (at most `config.history` model steps), S candidate plans, T model steps, K tokens of a
    state, D width of a token, A action block.

    Args:
        config: the architecture.
        inputs: cameras and vectors; by default one camera, named `camera`, of the encoder's size.
        pretrained: begin with timm's weights of `config.encoder.timm_name`.

    Raises:
        ConfigError: the inputs do not fit the encoder, or timm does not have it.
    """

    def __init__(self, config: ModelConfig, inputs: InputSpec | None = None, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.inputs = inputs or InputSpec((CameraSpec(UNNAMED, config.encoder.image_size),))
        for camera in self.inputs.cameras:
            if camera.size != config.encoder.image_size:
                raise ConfigError(
                    f"camera '{camera.name}': is of {camera.size} px, the encoder takes {config.encoder.image_size} px"
                )
        self.tokens = _count_tokens(config, self.inputs)
        self.goal_tokens = _goal_tokens(config, self.inputs)
        self.encoder = make_encoder(config, pretrained)
        numbers = sum(len(vector.components) for vector in self.inputs.vectors)
        self.vector_encoder = projector(numbers, config.projector_dim, config.embedding_dim) if numbers else None
        self.action_encoder = ActionEncoder(config.action_dim, config.width, config.action_features)
        self.predictor = Predictor(config, self.tokens)
        self.prediction_projector = prediction_head(config)

    @property
    def tokens_of(self) -> dict[str, tuple[int, ...]]:
        """Which tokens of a state come from which camera, and from the `vectors`, all of which are one."""
        each = self.config.tokens_per_frame
        own = {c.name: tuple(range(n * each, (n + 1) * each)) for n, c in enumerate(self.inputs.cameras)}
        return own | ({"vectors": (self.tokens - 1,)} if self.inputs.vectors else {})

    def encode(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Normalised frames (B, 3, height, width) and z-scored vectors (B, n), by name -> states (B, K, D).

        Frames alone stand for those of the only camera.
        """
        return self._encode(inputs, self.inputs)

    def with_vectors(self, tokens: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Tokens (B, ., D) of the cameras and, after them, that of z-scored vectors (B, n), by name."""
        vectors = torch.cat([inputs[vector.name] for vector in self.inputs.vectors], dim=-1)
        return torch.cat([tokens, self.vector_encoder(vectors).unsqueeze(1).to(tokens.dtype)], dim=1)

    def encode_goal(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """What a goal has of a state (B, `len(goal_tokens)`, D); see `encode`."""
        return self._encode(inputs, self.inputs.of_goal())

    def predict(self, z: Tensor, actions: Tensor) -> Tensor:
        """States (B, H, K, D) and z-scored action blocks (B, H, A) -> the next state at every step (B, H, K, D)."""
        x = self.predictor(z, self.predictor.modulate(self.action_encoder(actions)))
        return self.prediction_projector(x.flatten(0, 2)).view_as(z)

    def rollout(self, z: Tensor, past_actions: Tensor, plans: Tensor) -> Tensor:
        """Imagine what candidate plans lead to, step by step, each prediction fed back.

        Args:
            z: states (B, H, K, D) of the newest frames, oldest first.
            past_actions: z-scored blocks (B, H-1, A) executed between those frames.
            plans: z-scored blocks (B, S, T, A) to imagine from the newest frame on.

        Returns:
            states (B, S, T, K, D) after each block of each plan.
        """
        batch, samples, steps, _ = plans.shape
        actions = torch.cat([past_actions.unsqueeze(1).expand(-1, samples, -1, -1), plans], dim=2).flatten(0, 1)
        modulations = self.predictor.modulate(self.action_encoder(actions))  # of (B*S, H-1+T, 6 W)
        states = z.unsqueeze(1).expand(-1, samples, -1, -1, -1).flatten(0, 1)  # (B*S, H, K, D)
        known = states.shape[1]
        for step in range(steps):
            newest = known + step
            oldest = max(0, newest - self.config.history)
            x = self.predictor(states[:, oldest:], [m[:, oldest:newest] for m in modulations])[:, -1]  # (B*S, K, W)
            after = self.prediction_projector(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            states = torch.cat([states, after.unsqueeze(1)], dim=1)
        return states[:, known:].unflatten(0, (batch, samples))

    def loss(self, inputs: Tensor | Mapping[str, Tensor], actions: Tensor, sigreg: Callable[[Tensor], Tensor]) -> Loss:
        """The terms of L = mean ||predicted - next||^2 + weight * SIGReg, gradients through both sides (LeWM, eq. 3).

        Args:
            inputs: normalised windows (B, F, 3, height, width) and (B, F, n), by name, of at least H+1 frames. The
                predictions are of the first H+1; SIGReg judges all.
            actions: z-scored blocks (B, F-1, A) between those frames.
            sigreg: the regulariser, of embeddings (F * K, B, D).
        """
        history = self.config.history
        z = self.encode_windows(inputs)
        predicted = self.predict(z[:, :history], actions[:, :history])
        prediction = (predicted - z[:, 1 : history + 1]).float().square().mean()
        return Loss(prediction, sigreg(z.float().flatten(1, 2).transpose(0, 1)), z, predicted)

    def encode_windows(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """States (B, F, K, D) of windows of F frames; see `loss`."""
        by_name = self._by_name(inputs, self.inputs)
        windows = {item.name: by_name[item.name] for item in (*self.inputs.cameras, *self.inputs.vectors)}
        shape = next(iter(windows.values())).shape[:2]
        return self.encode({name: values.flatten(0, 1) for name, values in windows.items()}).unflatten(0, shape)

    def _encode(self, inputs: Tensor | Mapping[str, Tensor], spec: InputSpec) -> Tensor:
        by_name = self._by_name(inputs, spec)
        frames = torch.cat([by_name[camera.name] for camera in spec.cameras])  # (C * B, 3, height, width)
        tokens = self.encoder(frames).unflatten(0, (len(spec.cameras), -1))  # (C, B, tokens, D)
        state = tokens.transpose(0, 1).flatten(1, 2)
        return self.with_vectors(state, by_name) if spec.vectors else state

    @staticmethod
    def _by_name(inputs: Tensor | Mapping[str, Tensor], spec: InputSpec) -> Mapping[str, Tensor]:
        return {spec.cameras[0].name: inputs} if isinstance(inputs, Tensor) else inputs


def _count_tokens(config: ModelConfig, inputs: InputSpec) -> int:
    return len(inputs.cameras) * config.tokens_per_frame + bool(inputs.vectors)


def _goal_tokens(config: ModelConfig, inputs: InputSpec) -> tuple[int, ...]:
    """Which of a state's tokens a goal has."""
    has = [camera.in_goal for camera in inputs.cameras for _ in range(config.tokens_per_frame)]
    has += [inputs.vectors[0].in_goal] if inputs.vectors else []
    return tuple(place for place, known in enumerate(has) if known)
