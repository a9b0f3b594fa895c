"""`lewm bench memory`: does training need more memory for more data?"""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import existing_folder, number

HELP = "Watch the memory of `lewm train` on datasets of different sizes."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gigabytes",
        type=number(0.001, 1e5),
        nargs="+",
        default=[0.1, 10.0],
        help="sizes of the datasets (default 0.1 10)",
    )
    parser.add_argument("--folder", type=existing_folder, default=".", help="where the sparse files go (default here)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.bench.memory import bench_memory

    return bench_memory(options.folder, options.gigabytes, options.seed)
