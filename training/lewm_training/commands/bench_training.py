"""`lewm bench training`: how fast one training step is."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import add_device, device_of, pixels, positive

HELP = "Time training steps of the paper's model, beside the reference's own."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", choices=("stable-worldmodel", "none"), default="none", help="default none")
    parser.add_argument("--batch", type=positive, default=64, help="windows of four frames (default 64)")
    parser.add_argument("--image-size", type=pixels, default=64, help="pixels (default 64)")
    parser.add_argument("--patch-size", type=positive, default=8, help="pixels (default 8)")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="default bf16")
    parser.add_argument("--steps", type=positive, default=10, help="timed steps of each (default 10)")
    add_device(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from lewm_training.bench.training import bench_training
    from lewm_training.judge.machine import describe

    device = torch.device(device_of(options))
    figures = bench_training(
        device,
        options.batch,
        options.image_size,
        options.patch_size,
        options.precision,
        options.steps,
        options.seed,
        options.peer != "none",
    )
    return figures | describe(device)
