"""Checkpoints: `NAME.safetensors` (weights) beside `NAME.json` (everything else a node needs). Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lewm_ros.config import ModelConfig, ProposalConfig, from_mapping, to_mapping
from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.proposal import Proposal
from lewm_ros.robot.action_space import ActionSpace

ASSETS = Path(__file__).parents[1] / "assets"
FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with what it was trained for. `provenance` holds command, seed, dataset, hardware, time and metrics."""

    model: LeWorldModel
    action_space: ActionSpace
    proposal: Proposal | None = None
    name: str = "unnamed"
    identity: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    def require_action_space(self, kind: str) -> None:
        """Raise CheckpointError unless the checkpoint was trained for the action space `kind`."""
        if self.action_space.kind != kind:
            raise CheckpointError(
                f"checkpoint '{self.name}' acts in '{self.action_space.kind}', but '{kind}' is asked for; "
                "choose a checkpoint trained for it"
            )


def resolve(path: str | Path) -> Path:
    """The JSON file of a checkpoint named `default`, or given by a path with or without suffix."""
    if str(path) == "default":
        return ASSETS / "default.json"
    path = Path(path).expanduser()
    if path.suffix in (".json", ".safetensors"):
        return path.with_suffix(".json")
    return path.with_name(path.name + ".json")


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> Path:
    """Write both files beside their names, then rename them; returns the JSON's path."""
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
        "proposal": to_mapping(checkpoint.proposal.config) if checkpoint.proposal else None,
        "image": {"size": checkpoint.model.config.encoder.image_size, "normalisation": "imagenet", "encoding": "rgb8"},
        "action_space": asdict(checkpoint.action_space),
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
            raise CheckpointError(f"checkpoint {path}: no file {file}; give 'default' or the path of NAME.json")
    try:
        content = json.loads(target.read_text(encoding="utf-8"))
        config = from_mapping(ModelConfig, content["model"], f"{target}: model")
        action_space = from_mapping(ActionSpace, content["action_space"], f"{target}: action_space")
        proposing = content.get("proposal") and from_mapping(ProposalConfig, content["proposal"], f"{target}: proposal")
        digest = content["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
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
    model = LeWorldModel(config)
    proposal = Proposal(proposing, config.embedding_dim, config.action_dim) if proposing else None
    checkpoint = Checkpoint(
        model, action_space, proposal, target.stem, f"{target.stem}-{digest[:12]}", content.get("provenance", {})
    )
    try:
        stored = load_file(weights)
        proposed = {
            name.removeprefix("proposal."): stored.pop(name) for name in list(stored) if name[:9] == "proposal."
        }
        model.load_state_dict(stored)
        if proposal is not None:
            proposal.load_state_dict(proposed)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {path}: the weights do not fit the configuration: {str(error).splitlines()[0]}"
        ) from None
    for network in filter(None, (model, proposal)):
        network.to(device).eval()
    return checkpoint


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every weight under its name in the file: the model's own names, and the proposal's under `proposal.`."""
    weights = checkpoint.model.state_dict()
    if checkpoint.proposal is not None:
        weights |= {f"proposal.{name}": tensor for name, tensor in checkpoint.proposal.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
