"""`lewm pairs`: draw starts and goals once, and freeze them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import number, output_file, positive
from lewm_training.commands.outputs import write_text

HELP = "Draw starts and goals of one of the paper's tasks from recorded episodes, and freeze them in a file."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", required=True, help="pusht, reacher, cube or tworoom")
    parser.add_argument("--dataset", type=Path, required=True, help="HDF5 file of recorded episodes, with their states")
    parser.add_argument("--count", type=positive, default=100, help="pairs for each protocol; default 100")
    parser.add_argument(
        "--validation-fraction",
        type=number(0.001, 0.999),
        metavar="SHARE",
        help="only from episodes that `lewm train` with this share and the same --seed holds out; left out: from all",
    )
    parser.add_argument(
        "--episode-starts", action="store_true", help="all start where an episode does, and not half-way to its end"
    )
    parser.add_argument("--out", type=output_file, required=True, help="JSON file to write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.environments.paper_tasks.protocols import PROTOCOLS
    from lewm_training.data import EpisodeDataset
    from lewm_training.judge.pairs import draw_pairs

    dataset = EpisodeDataset.open(options.dataset)
    pairs = draw_pairs(
        dataset, options.task, options.count, options.seed, options.validation_fraction, options.episode_starts
    )
    write_text(options.out, pairs.text())
    counts = {name: len(pairs.of(name)) for name in PROTOCOLS}
    return {"pairs": str(options.out), "sha256": pairs.sha256, "dataset": pairs.dataset, **counts}
