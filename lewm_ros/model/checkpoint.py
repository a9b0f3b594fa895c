"""Checkpoints: `NAME.safetensors` (weights) beside `NAME.json` (everything else a node needs). Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lewm_ros.config import (
    ConfigError,
    DecoderConfig,
    FamiliarityConfig,
    GapConfig,
    ModelConfig,
    PolicyConfig,
    ProposalConfig,
    UserError,
    from_mapping,
    to_mapping,
)
from lewm_ros.model.compiled_rollout import make_rollout
from lewm_ros.model.decoder import Decoder
from lewm_ros.model.familiarity import Familiarity
from lewm_ros.model.format_1 import to_format_2
from lewm_ros.model.gap import FrameGap
from lewm_ros.model.inputs import observation_inputs
from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.policy import Policy, make_policy
from lewm_ros.model.proposal import Proposal
from lewm_ros.model.rollout import Rollout
from lewm_ros.observation.input_spec import InputSpec
from lewm_ros.observation.observation import Observation
from lewm_ros.robot.action_space import ActionSpace

ASSETS = Path(__file__).parents[1] / "assets"
SHIPPED = ("default", "pick_place", "push")
"""Names of the checkpoints among the assets: for reach, and for the tasks of these names."""
KNOWN = f"{', '.join(SHIPPED)} or the path of NAME.json"

FORMAT = 2

HEADS = {
    "proposal": ProposalConfig,
    "gap": GapConfig,
    "policy": PolicyConfig,
    "familiarity": FamiliarityConfig,
    "decoder": DecoderConfig,
}
"""What may stand beside the model, its weights under this name and a dot."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be used; the message is one line for the user."""


LEAST_ERROR = 1e-12
"""What a perfect prediction counts as."""


@dataclass(frozen=True)
class ErrorSpread:
    """How the errors of one-step predictions were distributed on validation data.

    Errors and predicted changes are squared distances, mean over dimensions. Errors grow with the change that is
    predicted, and have a long tail: their logarithm is normal about `intercept + slope * log(change)`, with this `std`.
    Changes below `least_change` count as that.
    """

    intercept: float
    slope: float
    std: float
    least_change: float

    def __post_init__(self) -> None:
        for key in ("std", "least_change"):
            if getattr(self, key) <= 0.0:
                raise ConfigError(f"{key}: must be above 0")

    def surprise(self, error: float, change: float) -> float:
        """An error in standard deviations above the one to be expected of a predicted change."""
        expected = self.intercept + self.slope * math.log(max(change, self.least_change))
        return (math.log(max(error, LEAST_ERROR)) - expected) / self.std


@dataclass(frozen=True)
class Checkpoint:
    """A model with what it was trained for.

    `error` is what makes a prediction error a surprise; None if it was not measured. `provenance` holds command, seed,
    dataset, hardware, time and metrics.
    """

    model: LeWorldModel
    action_space: ActionSpace
    proposal: Proposal | None = None
    gap: FrameGap | None = None
    policy: Policy | None = None
    familiarity: Familiarity | None = None
    decoder: Decoder | None = None
    error: ErrorSpread | None = None
    name: str = "unnamed"
    identity: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> InputSpec:
        """Cameras and vectors of the model."""
        return self.model.inputs

    @property
    def history(self) -> int:
        """Model steps that the model looks back on."""
        return self.model.config.history

    @property
    def state_shape(self) -> tuple[int, int]:
        """Tokens K of a state, and their width D."""
        return self.model.tokens, self.model.config.embedding_dim

    @property
    def goal_tokens(self) -> tuple[int, ...]:
        """Which of a state's tokens a goal has."""
        return self.model.goal_tokens

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def encode(self, observation: Observation) -> Tensor:
        """The state (K, D) of what is perceived.

        Raises:
            ValueError: a frame or a vector is missing, or is not what it should be.
        """
        return self.model.encode(observation_inputs(self.inputs, observation, self.device))[0].float()

    @torch.inference_mode()
    def encode_goal(self, observation: Observation) -> Tensor:
        """What a goal has of a state (Kg, D); see `encode`."""
        return self.model.encode_goal(observation_inputs(self.inputs.of_goal(), observation, self.device))[0].float()

    def rollout(self, precision: str, compiled: bool = False) -> Rollout:
        """A frozen copy of the predictor that rolls out plans fast, with matmuls in `fp32` or `bf16`."""
        return make_rollout(self.model, precision, compiled)

    def require_tokens(self, tokens: str) -> None:
        """Raise CheckpointError unless the model's state is of these tokens, `cls` or `patches`."""
        if self.model.config.tokens != tokens:
            raise CheckpointError(
                f"checkpoint '{self.name}' has a state of {self.model.config.tokens} tokens, but {tokens} is needed; "
                "choose another"
            )

    def require_finite(self) -> None:
        """Raise CheckpointError if a weight is not finite."""
        for name, weight in _weights(self).items():
            if not weight.isfinite().all():
                raise CheckpointError(f"checkpoint '{self.name}': the weight {name} is not finite; nothing is written")


def resolve(path: str | Path) -> Path:
    """The JSON file of a checkpoint that is shipped (`default`, `pick_place`, `push`), or given by a path.

    A path may come with or without suffix. What is named like a shipped one is that: `./push` is the user's own.

    Raises:
        CheckpointError: the path has no name.
    """
    if str(path) in SHIPPED:
        return ASSETS / f"{path}.json"
    path = Path(os.path.expanduser(path))
    if not path.name:
        raise CheckpointError(f"checkpoint '{path}': no file; give {KNOWN}")
    if path.suffix in (".json", ".safetensors"):
        return path.with_suffix(".json")
    return path.with_name(path.name + ".json")


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> Path:
    """Write both files beside their names, then rename them; returns the JSON's path.

    Raises:
        CheckpointError: a weight is not finite.
    """
    checkpoint.require_finite()
    target = resolve(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    weights = target.with_suffix(".safetensors")
    beside = weights.with_suffix(".safetensors.writing")
    save_file(_weights(checkpoint), beside)
    beside.chmod(0o644)  # safetensors leaves it to its owner alone
    content = {
        "format": FORMAT,
        "weights_sha256": _sha256(beside),
        "model": to_mapping(checkpoint.model.config),
        "inputs": to_mapping(checkpoint.inputs),
        **{name: to_mapping(head.config) if head else None for name, head in _heads(checkpoint).items()},
        "action_space": to_mapping(checkpoint.action_space),
        "error": asdict(checkpoint.error) if checkpoint.error else None,
        "provenance": checkpoint.provenance,
    }
    os.replace(beside, weights)
    beside = target.with_suffix(".json.writing")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, target)
    return target


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint; the model comes in evaluation mode.

    Args:
        path: `default`, or a path with or without suffix.
        device: where the weights go.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    target = resolve(path)
    weights = target.with_suffix(".safetensors")
    for file in (target, weights):
        if not file.is_file():
            raise CheckpointError(f"checkpoint {path}: no file {file}; give {KNOWN}")
    try:
        content = json.loads(target.read_text(encoding="utf-8"))
        if content.get("format") == 1:
            content = to_format_2(content)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} is unknown; this version reads formats 1 and {FORMAT}")
        config = from_mapping(ModelConfig, content["model"], f"{target}: model")
        inputs = from_mapping(InputSpec, content["inputs"], f"{target}: inputs")
        action_space = from_mapping(ActionSpace, content["action_space"], f"{target}: action_space")
        heads = {
            name: content.get(name) and from_mapping(head_config, content[name], f"{target}: {name}")
            for name, head_config in HEADS.items()
        }
        error = content.get("error") and from_mapping(ErrorSpread, content["error"], f"{target}: error")
        digest = content["weights_sha256"]
        model = LeWorldModel(config, inputs)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        reason = f"key {problem} is missing" if isinstance(problem, KeyError) else str(problem)
        raise CheckpointError(f"checkpoint {path}: {target.name} is damaged: {reason}") from None
    if _sha256(weights) != digest:
        raise CheckpointError(
            f"checkpoint {path}: {weights.name} is damaged or belongs to another {target.name} "
            f"(its SHA-256 is not the recorded {digest[:12]}...); copy both files again"
        )
    if config.action_dim != action_space.block_dim:
        raise CheckpointError(
            f"checkpoint {path}: the model takes {config.action_dim} numbers per block, "
            f"its action space gives {action_space.block_dim}"
        )
    goal_dim = len(model.goal_tokens) * config.embedding_dim
    proposal = Proposal(heads["proposal"], goal_dim, action_space) if heads["proposal"] else None
    gap = FrameGap(heads["gap"], goal_dim) if heads["gap"] else None
    policy = make_policy(heads["policy"], model, action_space) if heads["policy"] else None
    familiarity = Familiarity(heads["familiarity"], goal_dim) if heads["familiarity"] else None
    decoder = Decoder(heads["decoder"], model) if heads["decoder"] else None
    identity = f"{target.stem}-{digest[:12]}"
    checkpoint = Checkpoint(
        model,
        action_space,
        proposal,
        gap,
        policy,
        familiarity,
        decoder,
        error,
        target.stem,
        identity,
        content.get("provenance", {}),
    )
    try:
        _load_weights(checkpoint, load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {path}: the weights do not fit the configuration: {str(error).splitlines()[0]}"
        ) from None
    for network in filter(None, (model, proposal, gap, policy, familiarity, decoder)):
        network.to(device).eval()
    return checkpoint


def _heads(checkpoint: Checkpoint) -> dict[str, Proposal | FrameGap | Policy | Familiarity | Decoder | None]:
    return {name: getattr(checkpoint, name) for name in HEADS}


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every weight under its name in the file: the model's own names, and each head's behind the head's."""
    weights = checkpoint.model.state_dict()
    for name, head in _heads(checkpoint).items():
        if head is not None:
            weights |= {f"{name}.{key}": tensor for key, tensor in head.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


def _load_weights(checkpoint: Checkpoint, weights: dict[str, Tensor]) -> None:
    """The reverse of `_weights`."""
    for name, head in _heads(checkpoint).items():
        mine = {key: weights.pop(key) for key in list(weights) if key.startswith(f"{name}.")}
        if head is not None:
            head.load_state_dict({key.removeprefix(f"{name}."): tensor for key, tensor in mine.items()})
    checkpoint.model.load_state_dict(weights)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
