"""`lewm eval`: measure the closed loop."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lewm_ros.config import from_mapping, to_mapping
from lewm_training.commands.arguments import (
    add_checkpoint,
    add_device,
    add_overrides,
    add_task,
    device_of,
    positive,
    with_overrides,
)
from lewm_training.commands.errors import CommandError
from lewm_training.judge.processes import planner_config

if TYPE_CHECKING:
    from lewm_ros.planning import PlannerConfig

HELP = "Measure the closed loop and the random policy on held-out goals."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_task(parser)
    parser.add_argument("--episodes", type=positive, default=50, help="default 50")
    parser.add_argument("--transport", choices=("direct", "ros"), default="direct", help="default direct")
    parser.add_argument("--planner", type=Path, help="YAML of the planner's search (default: the shipped one)")
    add_overrides(parser, "actor=search")
    parser.add_argument(
        "--replan-steps", type=positive, default=1, help="direct: control steps between plans; default 1"
    )
    parser.add_argument(
        "--delay-steps",
        type=int,
        default=2,
        help="direct: control steps from a frame until its plan is in force; default 2",
    )
    parser.add_argument(
        "--subgoals",
        type=Path,
        metavar="DATASET",
        help="direct: HDF5 file of demonstrations, in which goals on the way are found",
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="direct, one of the paper's tasks: starts and goals of `lewm pairs`, in place of --episodes; with --json, "
        "an interrupted evaluation goes on",
    )
    parser.add_argument(
        "--protocol",
        choices=("paper", "moderate", "strict", "all"),
        default="all",
        help="with --pairs: those that are judged by it; default all",
    )
    parser.add_argument(
        "--dataset", type=Path, metavar="DATASET", help="with --pairs: refuse them if they were not drawn from it"
    )
    parser.add_argument(
        "--interfere",
        default="",
        metavar="NAME",
        help="direct, push and pick_place: cube_moved, cube_taken, lights_halved or camera_shifted",
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="do not tell what the random policy, doing nothing and the expert make of the same goals",
    )
    add_device(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.planning import PlannerConfig

    config = from_mapping(PlannerConfig, with_overrides(to_mapping(planner_config(options.planner)), options.set))
    if options.pairs:
        return _on_pairs(options, config)
    if options.transport == "ros":
        from lewm_training.judge.evaluate_ros import evaluate_ros

        return evaluate_ros(
            options.checkpoint,
            options.task,
            options.episodes,
            options.seed,
            config,
            device_of(options),
            compared=not options.alone,
        )
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.data import EpisodeDataset
    from lewm_training.judge.evaluate import Timing, evaluate_direct

    checkpoint = load_checkpoint(options.checkpoint, device_of(options))
    timing = Timing(options.replan_steps, options.delay_steps)
    demonstrations = EpisodeDataset.open(options.subgoals) if options.subgoals else None
    return evaluate_direct(
        checkpoint,
        options.task,
        options.episodes,
        options.seed,
        config,
        timing,
        options.interfere,
        demonstrations,
        compared=not options.alone,
    )


def _on_pairs(options: argparse.Namespace, config: PlannerConfig) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.data import EpisodeDataset
    from lewm_training.judge.benchmark import chosen, evaluate_pairs
    from lewm_training.judge.evaluate import Timing
    from lewm_training.judge.pairs import FrozenPairs

    if options.transport == "ros" or options.subgoals or options.interfere:
        raise CommandError("--pairs: not together with --transport ros, --subgoals or --interfere")
    pairs, checkpoint = FrozenPairs.load(options.pairs), load_checkpoint(options.checkpoint, device_of(options))
    if pairs.task != options.task:
        raise CommandError(f"{options.pairs}: holds pairs of task '{pairs.task}', not '{options.task}'")
    if options.dataset:
        pairs.require_dataset(EpisodeDataset.open(options.dataset), options.pairs)
    pairs.require_held_out(checkpoint, options.pairs)
    journal = options.json.with_name(f"{options.json.name}.unfinished") if options.json else None
    options.resumable = journal is not None
    return evaluate_pairs(
        checkpoint,
        pairs,
        chosen(options.protocol),
        options.seed,
        config,
        Timing(options.replan_steps, options.delay_steps),
        compared=not options.alone,
        journal=journal,
    )
