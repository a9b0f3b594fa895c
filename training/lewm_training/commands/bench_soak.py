"""`lewm bench soak`: the closed loop for a long time."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import add_checkpoint, add_task, number, picture_file

SHORTEST_MIN, LONGEST_MIN = 0.5, 7.0 * 24.0 * 60.0
HELP = "Drive the simulated arm over ROS for minutes or hours; look for leaks, missed cycles and old images."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_task(parser)
    parser.add_argument("--minutes", type=number(SHORTEST_MIN, LONGEST_MIN), default=10.0, help="default 10")
    parser.add_argument("--figure", type=picture_file, metavar="PNG", help="draw memory and latency over time")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.bench.soak import bench_soak

    return bench_soak(options.checkpoint, options.task, options.minutes, options.seed)


def draw(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Memory and latency over time."""
    from lewm_training.judge.figures import plot_soak

    if options.figure:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_soak(figures, options.figure)
