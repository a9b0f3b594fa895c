"""Released LeWM weights: `weights.pt` (a state dict) + `config.json`, as `stable-worldmodel` writes and loads them.

Tensors are read with `weights_only`: nothing is unpickled. What the format does not hold (what the actions are, and how
they were z-scored) a YAML declares.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import pickle
import re
import shutil
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from lewm_ros.config import ConfigError, UserError, load, to_mapping
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import HEADS, Checkpoint, CheckpointError, load_checkpoint, resolve, save_checkpoint
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.arm_actions import named_space, other
from lewm_training.data.formats.released_layout import read_architecture, write_architecture
from lewm_training.data.formats.released_names import Weights, as_released, from_released, to_released

ACTION_BLOCK = 5
"""Control steps per model step (`frameskip`) of the released models."""

EXAMPLE = "config/lewm.yaml"


@dataclass(frozen=True)
class ReleasedDeclaration:
    """What the released format does not hold, and a YAML says; see `ActionSpace` for the meaning.

    `mean` and `std` are those of the dataset's actions, with which the reference z-scored them. `limit`, and the
    `joint_names` of joint_delta, stand for the channels of a space that has a name; `channels` are those of any other.
    """

    action_space: str
    control_hz: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    limit: tuple[float, ...] = ()
    channels: tuple[Channel, ...] = ()
    action_block: int = ACTION_BLOCK
    joint_names: tuple[str, ...] = ()
    known_low: tuple[float | None, ...] = ()
    known_high: tuple[float | None, ...] = ()
    image_normalisation: str = "imagenet"

    def __post_init__(self) -> None:
        if bool(self.limit) == bool(self.channels):
            raise ConfigError("limit: must be given, or `channels` in its place")
        self.space()
        if self.image_normalisation != "imagenet":
            raise ConfigError("image_normalisation: must be imagenet, which is what LeWM and all frames here have")

    def space(self) -> ActionSpace:
        """The action space that the checkpoint gets."""
        channels = self.channels
        if not channels:
            channels = named_space(self.action_space, self.limit, self.control_hz, self.joint_names).channels
        return ActionSpace(
            self.action_space,
            channels,
            self.control_hz,
            self.action_block,
            self.mean,
            self.std,
            self.known_low,
            self.known_high,
        )


def import_data(source: Path, out: Path, config: Path | None = None, skip_bad: bool = False) -> dict[str, Any]:
    """Turn released weights into a checkpoint.

    Args:
        source: folder with one `.pt` file and `config.json`, or such a `.pt` file.
        out: checkpoint to write.
        config: YAML of a `ReleasedDeclaration`. Without it the actions are taken for z-scored numbers of a space
            `other`, with which the model can be used, but no arm moved.
        skip_bad: without meaning here, a model has no episodes.

    Returns:
        what was written, and what was assumed.

    Raises:
        CheckpointError: the weights or their configuration are damaged or of another model.
        UserError: the checkpoint exists, or the declared actions are not the model's.
    """
    if resolve(out).exists():
        raise UserError(f"{resolve(out)}: exists already; choose another --out or remove it")
    declaration = load(ReleasedDeclaration, config) if config else None
    weights_file = _weights_file(source)
    architecture = read_architecture(*_read_config(weights_file.with_name("config.json")))
    space = declaration.space() if declaration else _assumed_space(architecture.action_dim)
    if space.block_dim != architecture.action_dim:
        raise UserError(
            f"{config}: gives {space.block_dim} numbers per block ({space.action_block} steps of {space.dim}), "
            f"the model takes {architecture.action_dim}"
        )
    model = LeWorldModel(architecture)
    released = _read_weights(weights_file, to_released(model.state_dict()))
    model.load_state_dict(from_released(released, model.state_dict()))
    origin = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "imported": {
            "format": "lewm",
            "source": str(weights_file),
            "sha256": hashlib.sha256(weights_file.read_bytes()).hexdigest(),
        },
    }
    path = save_checkpoint(Checkpoint(model, space, name=out.name, provenance=origin), out)
    figures = {
        "checkpoint": str(path),
        "parameters": sum(p.numel() for p in model.parameters()),
        "action_space": to_mapping(space),
    }
    if declaration is None:
        figures["assumed"] = (
            f"blocks of {space.action_block} z-scored actions of {space.dim} numbers, space 'other', "
            f"{space.control_hz:g} Hz; declare more with --config, as in {EXAMPLE}"
        )
    return figures


def export_data(source: Path, out: Path) -> dict[str, Any]:
    """Write a checkpoint in the released format, with a `declaration.yaml` of what that format does not hold.

    The ViT's tensors have the names of the release, or those of the `transformers` that is installed here if it is 5.9
    or newer: since then the reference refuses the older names.

    Args:
        source: a checkpoint.
        out: folder to write.

    Raises:
        CheckpointError: the checkpoint is damaged, or the format cannot express its model.
    """
    checkpoint = load_checkpoint(source)
    checkpoint.require_tokens("cls")
    if len(checkpoint.inputs.cameras) > 1 or checkpoint.inputs.vectors:
        names = ", ".join(item.name for item in (*checkpoint.inputs.cameras, *checkpoint.inputs.vectors))
        raise CheckpointError(f"{source}: the released format has one camera and nothing else; the model takes {names}")
    content = write_architecture(checkpoint.model.config)
    renamed = installed_transformers() >= (5, 9)
    weights = to_released(checkpoint.model.state_dict(), renamed)
    beside = out.with_name(out.name + ".writing")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    torch.save(weights, beside / "weights.pt")
    (beside / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    space = json.loads(json.dumps(to_mapping(checkpoint.action_space)))
    declaration = yaml.safe_dump({"action_space": space.pop("name")} | space, sort_keys=False)
    (beside / "declaration.yaml").write_text(declaration, encoding="utf-8")
    os.replace(beside, out)
    return {
        "folder": str(out),
        "tensors": len(weights),
        "vit_names": "transformers 5.9 and newer" if renamed else "as released (transformers before 5.9)",
        "left_out": [name for name in HEADS if getattr(checkpoint, name) is not None],
    }


def _weights_file(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob("*.pt"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CheckpointError(f"{source}: expected one .pt file, found {names}; give the path of one")
    return found[0]


def _read_config(path: Path) -> tuple[Any, str]:
    """The parsed file, and its name for errors."""
    try:
        return json.loads(path.read_text(encoding="utf-8")), str(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); it describes the weights beside it"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from None


def _read_weights(path: Path, expected: Weights) -> Weights:
    """The file's tensors, checked against names and shapes of those expected."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of files that are refused anyway
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for '{asked[1]}'" if asked else "it is damaged or holds Python objects"
        raise CheckpointError(f"{path}: refused, since it is no plain file of tensors: {reason}") from None
    except Exception as error:  # the reader lets out whatever it stumbles over in a damaged file
        raise CheckpointError(f"{path}: damaged: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    if not isinstance(stored, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in stored.values()):
        raise CheckpointError(f"{path}: expected a state dict, names with tensors")
    released = as_released(stored)
    for complaint, names in (
        ("missing", expected.keys() - released.keys()),
        ("unknown", released.keys() - expected.keys()),
    ):
        if names:
            raise CheckpointError(f"{path}: {complaint} tensors: {len(names)}, first '{min(names)}'")
    for name, tensor in released.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, config.json gives {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: '{name}' has shape {shapes}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: '{name}' is not finite")
    return released


def _assumed_space(action_dim: int) -> ActionSpace:
    """Z-scored actions of unknown meaning, within three standard deviations."""
    block = ACTION_BLOCK if action_dim % ACTION_BLOCK == 0 else 1
    dim = action_dim // block
    return replace(other((3.0,) * dim, 10.0), action_block=block)


def installed_transformers() -> tuple[int, ...]:
    """Major and minor version of the library that the reference's encoder comes from; () where there is none."""
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in version.split(".")[:2])
