"""`lewm probe`: what can be read out of embeddings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import add_checkpoint, positive

HELP = "Read joints and end-effector position linearly from embeddings."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--dataset", type=Path, required=True, help="HDF5 file with frames and labels")
    parser.add_argument("--frames", type=positive, default=2000, help="held-out frames (default 2000)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.dataset import EpisodeDataset
    from lewm_training.probe import probe_joints_and_position

    checkpoint, dataset = load_checkpoint(options.checkpoint), EpisodeDataset.open(options.dataset)
    rng = np.random.default_rng(options.seed)
    train, held_out = (dataset.window_starts(episodes, 1) for episodes in dataset.split(0.2, options.seed))
    train = np.sort(rng.choice(train, min(4 * options.frames, len(train)), replace=False))
    held_out = np.sort(rng.choice(held_out, min(options.frames, len(held_out)), replace=False))
    return {"checkpoint": checkpoint.identity} | probe_joints_and_position(checkpoint.model, dataset, train, held_out)
