"""`lewm bench inference`: how fast the nodes can be on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import add_checkpoint, add_device, device_of, positive
from lewm_training.judge.processes import planner_config

HELP = "Time encoding and planning of a checkpoint, as the nodes use it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--planner", type=Path, help="YAML of the planner's search (default: the shipped one)")
    parser.add_argument("--repeats", type=positive, default=50, help="timed calls of each (default 50)")
    add_device(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.bench.inference import bench_inference

    checkpoint = load_checkpoint(options.checkpoint, device_of(options))
    return bench_inference(checkpoint, planner_config(options.planner), options.repeats, options.seed)
