"""`lewm bench transport`: which camera frames arrive, and how late."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.bench.camera import SETTINGS, STREAMS
from lewm_training.commands.arguments import positive, whole

HELP = "Send frames from one process to another over Fast DDS; count what arrives, and how late."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="default: all")
    parser.add_argument("--streams", nargs="+", choices=list(STREAMS), default=list(STREAMS), help="default: all")
    parser.add_argument("--frames", type=positive, default=180, help="of each trial (default 180)")
    parser.add_argument("--rate-hz", type=whole(1, 1000), default=30, help="frames per second (default 30)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.bench.transport import bench_transport

    return bench_transport(options.settings, options.streams, options.frames, options.rate_hz)
