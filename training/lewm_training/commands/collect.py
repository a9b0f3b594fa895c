"""`lewm collect`: record a simulated task."""

from __future__ import annotations

import argparse
import os
from typing import Any

from lewm_training.commands.arguments import output_file, pixels, positive, ray_address, require_task, whole
from lewm_training.commands.errors import CommandError

HELP = "Record episodes of a simulated task into one HDF5 file; an interrupted recording goes on."
RESUMABLE = True
LARGEST_EPISODE_BYTES = 4 * 10**9
"""Of frames, which are in memory until the episode is over."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="reach", help="reach, push or pick_place (default reach)")
    parser.add_argument("--episodes", type=positive, default=900, help="default 900")
    parser.add_argument("--steps", type=whole(1, 10_000), help="control steps per episode (default: the task's own)")
    parser.add_argument("--image-size", type=pixels, default=96, help="pixels, height and width (default 96)")
    parser.add_argument("--processes", type=whole(1, 1024), default=os.cpu_count(), help="default: one per core")
    parser.add_argument(
        "--ray",
        nargs="?",
        type=ray_address,
        const="auto",
        metavar="ADDRESS",
        help="simulate on a Ray cluster instead (default: this machine's)",
    )
    parser.add_argument("--out", type=output_file, required=True, help="HDF5 file to write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.collect.recording import CollectConfig, collect
    from lewm_training.collect.workers import over_processes, over_ray

    require_task(options.task)
    if options.out.exists():
        raise CommandError(f"{options.out}: exists already; choose another --out or remove it")
    if (options.steps or 0) * 3 * options.image_size**2 > LARGEST_EPISODE_BYTES:
        raise CommandError(f"--steps {options.steps}: too many frames of {options.image_size} pixels for one episode")
    chosen = {"steps": options.steps} if options.steps else {}
    config = CollectConfig(options.task, options.episodes, image_size=options.image_size, seed=options.seed, **chosen)
    spread = over_ray(options.ray) if options.ray else over_processes(options.processes)
    collect(config, options.out, spread)
    return {"dataset": str(options.out), "episodes": options.episodes, "bytes": options.out.stat().st_size}
