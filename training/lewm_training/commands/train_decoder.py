"""`lewm train-decoder`: teach a checkpoint to paint what its states hold."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_ros.config import DecoderTrainConfig, from_mapping
from lewm_training.commands.arguments import (
    add_datasets,
    add_device,
    add_overrides,
    device_of,
    output_file,
    with_overrides,
)

HELP = "Teach a checkpoint to paint frames from its frozen states, to see what these hold."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="default, pick_place, push or the path of a checkpoint")
    add_datasets(parser, "with frames")
    parser.add_argument(
        "--from",
        dest="source",
        choices=("state", "cls", "patches"),
        default="state",
        help="all tokens of the state, the CLS token of the first camera alone, or patch tokens (default state)",
    )
    add_overrides(parser, "steps=3000")
    add_device(parser)
    parser.add_argument("--out", type=output_file, required=True, help="checkpoint to write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from lewm_training.data import open_datasets
    from lewm_training.learn.decoder import train_decoder

    recipe = with_overrides({"decoder": {"source": options.source}}, options.set)
    config = from_mapping(DecoderTrainConfig, recipe, "--set")
    checkpoint, metrics = train_decoder(
        load_checkpoint(options.checkpoint, device_of(options)),
        open_datasets(options.dataset),
        config,
        options.seed,
    )
    return {"checkpoint": str(save_checkpoint(checkpoint, options.out))} | metrics
