"""`lewm experiment`: the same training with one thing changed at a time."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from lewm_ros.config import from_mapping, read_yaml
from lewm_training.commands.arguments import add_device, device_of, output_folder, whole
from lewm_training.commands.outputs import write_text

HELP = "Train, probe and evaluate a matrix of models, one factor varied at a time; goes on where it stopped."
RESUMABLE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="YAML, e.g. config/experiment_cls.yaml")
    add_device(parser)
    parser.add_argument("--processes", type=whole(1, 64), default=1, help="models made side by side (default 1)")
    parser.add_argument("--out", type=output_folder, required=True, help="folder of datasets, models and the report")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.experiment.design import ExperimentConfig
    from lewm_training.experiment.steps import run_cells, run_in_process
    from lewm_training.experiment.table import READ, markdown, rows_of
    from lewm_training.judge.figures import plot_trends

    config = from_mapping(ExperimentConfig, read_yaml(options.config), str(options.config))
    threads = max(1, (os.cpu_count() or 1) // options.processes) if options.processes > 1 else None
    in_process = partial(run_in_process, threads=threads)
    made = run_cells(config, options.out, device_of(options), options.seed, options.processes, in_process)
    rows, report, figure = rows_of(made), options.out / "report.md", options.out / "report.png"
    write_text(report, markdown(rows, made))
    distances = [label for label, kind in READ.items() if kind == "error"]
    plot_trends(rows, [label for label in READ if label not in distances], distances, figure)
    return {"report": str(report), "figure": str(figure), "rows": rows}


def summary(figures: dict[str, Any]) -> str:
    """Where the report is, and a line per cell."""
    lines = [f"{row['factor']} {row['level']}: {row['successes']} of {row['episodes']}" for row in figures["rows"]]
    return "\n".join([*lines, f"report: {figures['report']}, {figures['figure']}"]) + "\n"
