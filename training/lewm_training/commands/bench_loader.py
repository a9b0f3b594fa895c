"""`lewm bench loader`: can the disk feed the model?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import existing_folder, number, positive, whole
from lewm_training.commands.errors import CommandError

HELP = "Time reading random training windows, from the disk and from the page cache."
LARGEST_IMAGE = 448
"""An episode of larger noise would not fit into what all of it is cut from."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=Path, help="HDF5 file to read (default: noise, written for the purpose)")
    parser.add_argument(
        "--gigabytes", type=number(0.001, 1e5), default=4.0, help="of noise (default 4; honest: more than memory)"
    )
    parser.add_argument("--image-size", type=whole(16, LARGEST_IMAGE), default=64, help="of noise, pixels (default 64)")
    parser.add_argument("--folder", type=existing_folder, default=".", help="where the noise goes (default here)")
    parser.add_argument("--batch-size", type=positive, default=128, help="windows per call (default 128)")
    parser.add_argument("--frames", type=positive, default=4, help="per window (default 4)")
    parser.add_argument("--action-block", type=positive, default=5, help="control steps between frames (default 5)")
    parser.add_argument("--seconds", type=number(0.1, 3600.0), default=15.0, help="for each measurement (default 15)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    import contextlib
    import shutil

    from lewm_training.bench.loader import bench_loader
    from lewm_training.bench.synthetic import GB, synthetic_dataset

    free = shutil.disk_usage(options.folder).free / GB
    if not options.dataset and options.gigabytes > free:
        raise CommandError(f"--gigabytes {options.gigabytes:g}: {options.folder} has room for {free:.1f}")
    noise = synthetic_dataset(options.folder, options.gigabytes, options.image_size, options.seed, sparse=False)
    with contextlib.nullcontext(options.dataset) if options.dataset else noise as path:
        return bench_loader(
            path, options.frames, options.action_block, options.batch_size, options.seconds, options.seed
        )
