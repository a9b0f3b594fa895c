"""`lewm collect`: record a simulated task."""

from __future__ import annotations

import argparse
import os
from typing import Any

from lewm_training.commands.arguments import add_task, output_file, pixels, positive, ray_address, whole
from lewm_training.commands.errors import CommandError

HELP = "Record episodes of a task into one HDF5 file; an interrupted recording goes on."
RESUMABLE = True
LARGEST_EPISODE_BYTES = 4 * 10**9
"""Of frames, which are in memory until the episode is over."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task(parser)
    parser.add_argument("--episodes", type=positive, default=900, help="default 900")
    parser.add_argument("--steps", type=whole(1, 10_000), help="control steps per episode (default: the task's own)")
    parser.add_argument("--cameras", nargs="+", default=[], metavar="NAME", help="default: the task's own choice")
    parser.add_argument(
        "--action-space", default="", metavar="NAME", help="joint_delta or ee_delta for arms (default: the task's own)"
    )
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
    parser.add_argument(
        "--steady", action="store_true", help="push and pick_place: do not vary light, cameras and the cube's place"
    )
    parser.add_argument(
        "--after",
        default="",
        metavar="CHECKPOINT",
        help="begin every episode where this one's policy has led, unrecorded",
    )
    parser.add_argument("--out", type=output_file, required=True, help="HDF5 file to write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.collect.recording import CollectConfig, collect
    from lewm_training.collect.workers import over_processes, over_ray

    if options.out.exists():
        raise CommandError(f"{options.out}: exists already; choose another --out or remove it")
    frames = (options.steps or 0) * max(1, len(options.cameras))
    if frames * 3 * options.image_size**2 > LARGEST_EPISODE_BYTES:
        raise CommandError(f"--steps {options.steps}: too many frames of {options.image_size} pixels for one episode")
    config = CollectConfig(
        task=options.task,
        episodes=options.episodes,
        steps=options.steps,
        cameras=tuple(options.cameras),
        image_size=options.image_size,
        action_space=options.action_space,
        seed=options.seed,
        steady=options.steady,
        after=options.after,
    )
    spread = over_ray(options.ray) if options.ray else over_processes(options.processes)
    collect(config, options.out, spread)
    return {"dataset": str(options.out), "episodes": options.episodes, "bytes": options.out.stat().st_size}
