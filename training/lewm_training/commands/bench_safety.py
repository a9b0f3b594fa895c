"""`lewm bench safety`: random commands and states against the safety filter."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import whole

HELP = "Send random commands through the safety filter; none may pass a limit."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commands", type=whole(1, 10**9), default=100_000, help="how many (default 100000)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.bench.safety import bench_safety

    return bench_safety(options.commands, options.seed)
