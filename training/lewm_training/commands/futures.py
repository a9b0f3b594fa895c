"""`lewm futures`: what a model imagines, painted."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import add_datasets, add_device, device_of, picture_file, whole

HELP = "Paint what a checkpoint with a decoder imagines, block by block, below what came."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="checkpoint of `lewm train-decoder`")
    add_datasets(parser, "with frames and actions")
    parser.add_argument("--blocks", type=whole(1, 50), default=10, help="model steps to imagine (default 10)")
    parser.add_argument("--starts", type=whole(1, 20), default=2, help="starts to imagine from (default 2)")
    add_device(parser)
    parser.add_argument("--figure", type=picture_file, default="futures.png", help="PNG to write (default futures.png)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.data import open_datasets
    from lewm_training.judge.figures import plot_futures
    from lewm_training.judge.reconstruction import imagine_frames, psnr_db, unseen_episodes

    checkpoint = load_checkpoint(options.checkpoint, device_of(options))
    dataset = open_datasets(options.dataset)
    episodes = unseen_episodes([checkpoint], dataset)
    future = imagine_frames(checkpoint, dataset, episodes, options.blocks, options.starts, options.seed)
    cameras = [camera.name for camera in checkpoint.inputs.cameras]
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    plot_futures(future, cameras, checkpoint.action_space.block_s, options.figure)
    blocks = range(options.blocks)
    return {
        "checkpoint": checkpoint.identity,
        "dataset": dataset.path,
        "rows": future.start.tolist(),
        "blocks": [block + 1 for block in blocks],
        "own_states_psnr_db": [psnr_db(future.true[:, block], future.seen[:, block]) for block in blocks],
        "imagined_psnr_db": [psnr_db(future.true[:, block], future.imagined[:, block]) for block in blocks],
        "figure": str(options.figure),
    }
