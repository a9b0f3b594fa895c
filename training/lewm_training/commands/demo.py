"""`lewm demo`: see the loop work."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import add_task, output_folder, positive

HELP = "Drive the simulated arm to goal images over ROS 2; leaves pictures and a video."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="", help="a shipped one or a path (default: the task's own)")
    add_task(parser)
    parser.add_argument("--goals", type=positive, default=5, help="default 5")
    parser.add_argument("--out", type=output_folder, default="demo", help="folder for pictures (default demo)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import SHIPPED
    from lewm_training.judge.demo import run_demo

    checkpoint = options.checkpoint or (options.task if options.task in SHIPPED else "default")
    return run_demo(checkpoint, options.task, options.goals, options.seed, options.out)
