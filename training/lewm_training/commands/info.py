"""`lewm info`: what a checkpoint is."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "Show what a checkpoint is and how it came to be."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", nargs="?", default="default", help="'default' or a path (default: default)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from lewm_ros.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(options.checkpoint)
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    return {
        "checkpoint": checkpoint.identity,
        "parameters": parameters,
        "model": asdict(checkpoint.model.config),
        "action_space": asdict(checkpoint.action_space),
        "provenance": checkpoint.provenance,
    }
