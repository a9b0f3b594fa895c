"""`lewm bench planning`: how fast plans are made."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import (
    add_checkpoint,
    add_device,
    add_task,
    device_of,
    one_or_more_of,
    output_folder,
    positive,
    whole,
)
from lewm_training.commands.errors import CommandError
from lewm_training.judge.processes import planner_config

HELP = "Time plans against stable-worldmodel's, against patch tokens, against a deadline, and by size."

PARTS = ("work", "quality", "deadline", "tokens", "scaling")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_task(parser)
    parser.add_argument(
        "--parts", type=one_or_more_of(PARTS), default=PARTS, help=f"of {','.join(PARTS)} (default: all)"
    )
    parser.add_argument("--problems", type=positive, default=50, help="of the part 'quality' (default 50)")
    parser.add_argument("--plans", type=whole(10, 1_000_000), default=500, help="of the part 'deadline' (default 500)")
    parser.add_argument("--repeats", type=positive, default=1, help="timed plans of the part 'work' (default 1)")
    parser.add_argument("--without-peer", action="store_true", help="where stable-worldmodel is not installed")
    parser.add_argument("--planner", type=Path, help="YAML of the search of 'deadline' (default: the shipped one)")
    parser.add_argument(
        "--figures", type=output_folder, metavar="FOLDER", help="draw a bar chart and plots into this folder"
    )
    add_device(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.bench.deadline import bench_deadline
    from lewm_training.bench.same_quality import bench_same_quality
    from lewm_training.bench.same_work import bench_same_work
    from lewm_training.bench.scaling import bench_scaling
    from lewm_training.bench.tokens import bench_tokens
    from lewm_training.judge.machine import describe

    parts = options.parts
    if options.without_peer and set(parts) == {"quality"}:
        raise CommandError("--parts quality: compares with the peer; leave --without-peer out")
    device = torch.device(device_of(options))
    checkpoint = load_checkpoint(options.checkpoint, device)
    figures: dict[str, Any] = describe(device) | {"checkpoint": checkpoint.identity, "seed": options.seed}
    if "work" in parts:
        work = bench_same_work(device, options.repeats, options.seed, not options.without_peer)
        figures["same_work"] = work
    if "quality" in parts and not options.without_peer:
        figures["same_quality"] = bench_same_quality(checkpoint, options.task, options.problems, options.seed)
    if "deadline" in parts:
        config = planner_config(options.planner)
        figures["deadline_ms"] = bench_deadline(checkpoint, config, options.task, options.plans, options.seed)
    if "tokens" in parts:
        figures["cls_against_patch_tokens"] = bench_tokens(device, options.seed)
    if "scaling" in parts:
        figures["scaling"] = bench_scaling(device, options.seed)
    return figures


def draw(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Times as bars, and against the size of the search."""
    from lewm_training.judge.figures.planning import plot_planners, plot_scaling

    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        if "same_work" in figures:
            plot_planners(figures["same_work"]["planners"], options.figures / "planners.png")
        if "scaling" in figures:
            plot_scaling(figures["scaling"], options.figures / "scaling.png")
