"""`lewm train`: train a world model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_ros.config import TrainConfig, from_mapping, read_yaml
from lewm_training.commands.arguments import add_device, add_overrides, device_of, with_overrides

HELP = "Train a world model on a dataset; goes on where an interrupted run stopped."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=Path, required=True, help="HDF5 file of `lewm collect` or `lewm import`")
    parser.add_argument("--config", type=Path, required=True, help="YAML, e.g. config/train_nano.yaml")
    add_overrides(parser, "sigreg.weight=0")
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, help="run folder")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.dataset import EpisodeDataset
    from lewm_training.train import Trainer

    config = from_mapping(TrainConfig, with_overrides(read_yaml(options.config), options.set), str(options.config))
    trainer = Trainer(config, EpisodeDataset.open(options.dataset), options.out, options.seed, device_of(options))
    checkpoint = trainer.run()
    return {"run": str(options.out), "checkpoint": str(options.out / "model.json"), **checkpoint.provenance["metrics"]}
