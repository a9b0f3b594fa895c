"""`lewm info`: what a checkpoint is."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "Show what a checkpoint is and how it came to be."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", nargs="?", default="default", help="default, pick_place, push or a path (default: default)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.config import to_mapping
    from lewm_ros.model.checkpoint import HEADS, load_checkpoint

    checkpoint = load_checkpoint(options.checkpoint)
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    return {
        "checkpoint": checkpoint.identity,
        "parameters": parameters,
        "state": dict(zip(("tokens", "width"), checkpoint.state_shape, strict=True)),
        "goal_tokens": len(checkpoint.goal_tokens),
        "cameras": [camera.name for camera in checkpoint.inputs.cameras],
        "vectors": {vector.name: list(vector.components) for vector in checkpoint.inputs.vectors},
        "actions": checkpoint.action_space.describe(),
        "heads": [name for name in HEADS if getattr(checkpoint, name)],
        "model": to_mapping(checkpoint.model.config),
        "inputs": to_mapping(checkpoint.inputs),
        "action_space": to_mapping(checkpoint.action_space),
        "provenance": checkpoint.provenance,
    }
