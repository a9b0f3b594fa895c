"""`lewm train`: train a world model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lewm_ros.config import TrainConfig, UserError, from_mapping, read_yaml
from lewm_training.commands.arguments import (
    add_datasets,
    add_device,
    add_overrides,
    device_of,
    output_folder,
    positive,
    with_overrides,
)

HELP = "Train a world model on a dataset; goes on where an interrupted run stopped. Several GPUs: under torchrun."
RESUMABLE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_datasets(parser, "of `lewm collect` or `lewm import`")
    parser.add_argument("--config", type=Path, required=True, help="YAML, e.g. config/train_nano.yaml")
    add_overrides(parser, "sigreg.weight=0")
    add_device(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave bad episodes out instead of stopping at them")
    parser.add_argument("--until", type=positive, metavar="EPOCH", help="stop after this epoch; run it again to go on")
    parser.add_argument("--out", type=output_folder, required=True, help="run folder")


def run(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from lewm_training.data import open_datasets
    from lewm_training.judge.pictures import draw_run_pictures
    from lewm_training.learn.distributed import joined_ranks
    from lewm_training.learn.trainer import Trainer

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, matmuls on CUDA differ from run to run
    torch.use_deterministic_algorithms(True, warn_only=True)
    with _said_once():
        config = from_mapping(TrainConfig, with_overrides(read_yaml(options.config), options.set), str(options.config))
        dataset = open_datasets(options.dataset, options.skip_bad)
        with joined_ranks(device_of(options)) as (ranks, device):
            trainer = Trainer(config, dataset, options.out, options.seed, device, ranks)
            checkpoint, held_out = trainer.run(options.until), trainer.held_out
            del trainer  # the last to let go of a group waits for its threads, and they may wait for Python's lock
    if not ranks.is_first:
        return {}
    pictures = draw_run_pictures(checkpoint, dataset, held_out, options.out, options.seed)
    return {
        "run": str(options.out),
        "checkpoint": str(options.out / "model.json"),
        "pictures": [str(path) for path in pictures],
        "skipped_episodes": len(dataset.skipped),
        **checkpoint.provenance["metrics"],
    }


@contextmanager
def _said_once() -> Iterator[None]:
    """Errors that all processes of a `torchrun` meet are left to the first to report."""
    from lewm_training.learn.distributed import rank_of_environment

    try:
        yield
    except UserError:
        if rank_of_environment() > 0:
            raise SystemExit(2) from None
        raise
