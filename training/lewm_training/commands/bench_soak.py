"""`lewm bench soak`: the closed loop for a long time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import CommandError, add_checkpoint

SHORTEST_MIN = 0.5
HELP = "Drive the simulated arm over ROS for minutes or hours; look for leaks, missed cycles and old images."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--minutes", type=float, default=10.0, help="default 10")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw memory and latency over time")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.bench.soak import bench_soak
    from lewm_training.judge.figures import plot_soak

    if options.minutes < SHORTEST_MIN:
        raise CommandError(f"--minutes {options.minutes:g}: must be at least {SHORTEST_MIN:g}")
    figures = bench_soak(options.checkpoint, options.minutes, options.seed)
    if options.figure:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_soak(figures, options.figure)
    return figures
