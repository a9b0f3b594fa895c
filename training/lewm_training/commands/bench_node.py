"""`lewm bench node`: what the encoder node costs beside its network."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.bench.camera import SETTINGS, Stream
from lewm_training.commands.arguments import add_checkpoint, positive, whole

HELP = "Send camera frames to encoder_node; report how long a frame spends around its network."
ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--width", type=whole(1, 8192), default=640, help="of the frames, pixels (default 640)")
    parser.add_argument("--height", type=whole(1, 8192), default=480, help="of the frames, pixels (default 480)")
    parser.add_argument("--encoding", choices=ENCODINGS, default="rgb8", help="of raw frames (default rgb8)")
    parser.add_argument("--compressed", action="store_true", help="JPEGs instead of raw frames")
    parser.add_argument("--setting", choices=SETTINGS, default="profile", help="of Fast DDS (default profile)")
    parser.add_argument("--frames", type=positive, default=400, help="how many (default 400)")
    parser.add_argument("--rate-hz", type=whole(1, 1000), default=20, help="frames per second (default 20)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.bench.node_time import bench_node

    stream = Stream(options.width, options.height, options.encoding, compressed=options.compressed)
    return bench_node(options.checkpoint, stream, options.setting, options.frames, options.rate_hz)
