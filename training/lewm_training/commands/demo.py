"""`lewm demo`: see the loop work."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import add_checkpoint, add_task, output_folder, positive

HELP = "Drive the simulated arm to goal images over ROS 2; leaves pictures and a video."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_task(parser)
    parser.add_argument("--goals", type=positive, default=5, help="default 5")
    parser.add_argument("--out", type=output_folder, default="demo", help="folder for pictures (default demo)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.judge.demo import run_demo

    return run_demo(options.checkpoint, options.task, options.goals, options.seed, options.out)
