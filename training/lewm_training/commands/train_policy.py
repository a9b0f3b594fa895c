"""`lewm train-policy`: teach a checkpoint what a demonstrator would do next."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_ros.config import PolicyTrainConfig, from_mapping
from lewm_training.commands.arguments import add_datasets, add_overrides, output_file, with_overrides

HELP = "Teach a checkpoint what a demonstrator would do next on the way to a goal image."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="path of a trained checkpoint")
    add_datasets(parser, "of demonstrations")
    add_overrides(parser, "steps=2000")
    parser.add_argument("--out", type=output_file, required=True, help="checkpoint to write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from lewm_training.data import open_datasets
    from lewm_training.learn.policy import train_policy

    config = from_mapping(PolicyTrainConfig, with_overrides({}, options.set), "--set")
    checkpoint, metrics = train_policy(
        load_checkpoint(options.checkpoint), open_datasets(options.dataset), config, options.seed
    )
    return {"checkpoint": str(save_checkpoint(checkpoint, options.out))} | metrics
