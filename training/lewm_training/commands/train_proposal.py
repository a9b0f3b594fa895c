"""`lewm train-proposal`: teach a checkpoint where the search should begin."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_ros.config import ProposalTrainConfig, from_mapping
from lewm_training.commands.arguments import add_datasets, add_overrides, output_file, with_overrides

HELP = "Teach a checkpoint where the planner's search should begin, and how many blocks lie between two frames."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="path of a trained checkpoint")
    add_datasets(parser, "that it was trained on")
    add_overrides(parser, "steps=2000")
    parser.add_argument("--out", type=output_file, required=True, help="checkpoint to write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from lewm_training.data import open_datasets
    from lewm_training.learn.proposal import train_proposal

    config = from_mapping(ProposalTrainConfig, with_overrides({}, options.set), "--set")
    checkpoint, metrics = train_proposal(
        load_checkpoint(options.checkpoint), open_datasets(options.dataset), config, options.seed
    )
    return {"checkpoint": str(save_checkpoint(checkpoint, options.out))} | metrics
