"""`lewm bench surprise`: false alarms, and disturbances that are seen."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import add_checkpoint, number, picture_file, positive
from lewm_training.commands.errors import CommandError
from lewm_training.judge.processes import planner_config

HELP = "Disturb the simulated scene while the arm is driven: what surprises the model, how soon, and what else does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--goals", type=positive, default=20, help="reached for undisturbed (default 20)")
    parser.add_argument("--disturbed-goals", type=positive, default=5, help="per kind of disturbance (default 5)")
    parser.add_argument("--threshold", type=number(0.0, 1e6), default=5.0, help="standard deviations (default 5)")
    parser.add_argument("--steps", type=positive, default=1, help="above the threshold in a row (default 1)")
    parser.add_argument("--figure", type=picture_file, metavar="PNG", help="draw surprise over time")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.bench.surprise_detection import FIRST_JUDGED_STEP, STEPS, bench_surprise

    checkpoint = load_checkpoint(options.checkpoint)
    if checkpoint.error is None:
        raise CommandError(f"checkpoint '{checkpoint.name}' does not say how its errors are distributed; train it anew")
    if options.disturbed_goals > options.goals:
        raise CommandError(f"--disturbed-goals {options.disturbed_goals}: must be at most --goals {options.goals}")
    if options.steps > STEPS - FIRST_JUDGED_STEP:
        raise CommandError(f"--steps {options.steps}: a goal has {STEPS - FIRST_JUDGED_STEP} that are judged")
    return bench_surprise(
        checkpoint,
        planner_config(),
        options.goals,
        options.disturbed_goals,
        options.threshold,
        options.steps,
        options.seed,
    )


def draw(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Surprise over time."""
    from lewm_training.judge.figures import plot_surprise

    if options.figure:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_surprise(figures, options.figure)
