"""The `lewm` command: collect, train, train-proposal, eval, probe, bench, demo, info."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lewm_ros.config import ConfigError, ProposalTrainConfig, TrainConfig, from_mapping, read_yaml
from lewm_ros.model.checkpoint import CheckpointError
from lewm_training.dataset import DatasetError
from lewm_training.processes import ProcessError, planner_config

Handler = Callable[[argparse.Namespace], "dict[str, Any]"]


class CommandError(ValueError):
    """A command that cannot be carried out; the message is one line for the user."""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        figures = options.handler(options)
    except (CheckpointError, CommandError, ConfigError, DatasetError, ProcessError) as error:
        sys.stderr.write(f"lewm {options.command}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"lewm {options.command}: interrupted; what was finished is kept, run it again to go on\n")
        return 130
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(_summary(figures))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lewm", description="Latent world models for robot arms, offline.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, handler: Handler, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
        command.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
        command.set_defaults(handler=handler)
        return command

    collect = add("collect", _collect, "Record episodes of a simulated task into one HDF5 file.")
    collect.add_argument("--task", default="reach", help="reach, push or pick_place (default reach)")
    collect.add_argument("--episodes", type=_positive, default=900, help="default 900")
    collect.add_argument("--steps", type=_positive, help="control steps per episode (default: the task's own)")
    collect.add_argument("--image-size", type=_positive, default=96, help="pixels, height and width (default 96)")
    collect.add_argument("--processes", type=_positive, default=os.cpu_count(), help="default: one per core")
    collect.add_argument("--out", type=Path, required=True, help="HDF5 file to write")

    train = add("train", _train, "Train a world model on a dataset; goes on where an interrupted run stopped.")
    train.add_argument("--dataset", type=Path, required=True, help="HDF5 file of `lewm collect`")
    train.add_argument("--config", type=Path, required=True, help="YAML, e.g. config/train_nano.yaml")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. sigreg.weight=0")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    train.add_argument("--out", type=Path, required=True, help="run folder")

    propose = add("train-proposal", _train_proposal, "Teach a checkpoint where the planner's search should begin.")
    propose.add_argument("--checkpoint", required=True, help="path of a trained checkpoint")
    propose.add_argument("--dataset", type=Path, required=True, help="HDF5 file that it was trained on")
    propose.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. steps=2000")
    propose.add_argument("--out", type=Path, required=True, help="checkpoint to write")

    evaluate = add("eval", _eval, "Measure the closed loop and the random policy on held-out goals.")
    evaluate.add_argument("--checkpoint", default="default", help="'default' or a path (default: default)")
    evaluate.add_argument("--task", default="reach", help="default reach")
    evaluate.add_argument("--episodes", type=_positive, default=50, help="default 50")
    evaluate.add_argument("--transport", choices=("direct", "ros"), default="direct", help="default direct")
    evaluate.add_argument("--planner", type=Path, help="YAML of the planner's search (default: the shipped one)")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")

    probe = add("probe", _probe, "Read joints and end-effector position linearly from embeddings.")
    probe.add_argument("--checkpoint", default="default", help="'default' or a path (default: default)")
    probe.add_argument("--dataset", type=Path, required=True, help="HDF5 file with frames and labels")
    probe.add_argument("--frames", type=_positive, default=2000, help="held-out frames (default 2000)")

    bench = add("bench", _bench, "Time encoding and planning on this machine.")
    bench.add_argument("--checkpoint", default="default", help="'default' or a path (default: default)")
    bench.add_argument("--planner", type=Path, help="YAML of the planner's search (default: the shipped one)")
    bench.add_argument("--repeats", type=_positive, default=50, help="timed calls of each (default 50)")
    bench.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")

    demo = add("demo", _demo, "Drive the simulated arm to five goal images over ROS 2; leaves pictures and a video.")
    demo.add_argument("--checkpoint", default="default", help="'default' or a path (default: default)")
    demo.add_argument("--goals", type=_positive, default=5, help="default 5")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for pictures (default demo)")

    info = add("info", _info, "Show what a checkpoint is and how it came to be.")
    info.add_argument("checkpoint", nargs="?", default="default", help="'default' or a path (default: default)")
    return parser


def _collect(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.sim import TASKS
    from lewm_training.collect import CollectConfig, collect

    if options.task not in TASKS:
        raise CommandError(f"task '{options.task}' is unknown; known: {', '.join(TASKS)}")
    if options.out.exists():
        raise CommandError(f"{options.out}: exists already; choose another --out or remove it")
    chosen = {"steps": options.steps} if options.steps else {}
    config = CollectConfig(options.task, options.episodes, image_size=options.image_size, seed=options.seed, **chosen)
    collect(config, options.out, options.processes)
    return {"dataset": str(options.out), "episodes": options.episodes, "bytes": options.out.stat().st_size}


def _train(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.dataset import EpisodeDataset
    from lewm_training.train import Trainer

    config = from_mapping(TrainConfig, _with_overrides(read_yaml(options.config), options.set), str(options.config))
    trainer = Trainer(config, EpisodeDataset.open(options.dataset), options.out, options.seed, _device(options.device))
    checkpoint = trainer.run()
    return {"run": str(options.out), "checkpoint": str(options.out / "model.json"), **checkpoint.provenance["metrics"]}


def _train_proposal(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from lewm_training.dataset import EpisodeDataset
    from lewm_training.proposal import train_proposal

    config = from_mapping(ProposalTrainConfig, _with_overrides({}, options.set), "--set")
    checkpoint, metrics = train_proposal(
        load_checkpoint(options.checkpoint), EpisodeDataset.open(options.dataset), config, options.seed
    )
    return {"checkpoint": str(save_checkpoint(checkpoint, options.out))} | metrics


def _eval(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.sim import TASKS

    if options.task not in TASKS:
        raise CommandError(f"task '{options.task}' is unknown; known: {', '.join(TASKS)}")
    if options.transport == "ros":
        from lewm_training.evaluate_ros import evaluate_ros

        return evaluate_ros(
            options.checkpoint, options.task, options.episodes, options.seed, options.planner, _device(options.device)
        )
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.evaluate import evaluate_direct

    config = planner_config(options.planner)
    checkpoint = load_checkpoint(options.checkpoint, _device(options.device))
    return evaluate_direct(checkpoint, options.task, options.episodes, options.seed, config)


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.dataset import EpisodeDataset
    from lewm_training.probe import probe_joints_and_position

    checkpoint, dataset = load_checkpoint(options.checkpoint), EpisodeDataset.open(options.dataset)
    rng = np.random.default_rng(options.seed)
    train, held_out = (dataset.window_starts(episodes, 1) for episodes in dataset.split(0.2, options.seed))
    train = np.sort(rng.choice(train, min(4 * options.frames, len(train)), replace=False))
    held_out = np.sort(rng.choice(held_out, min(options.frames, len(held_out)), replace=False))
    return {"checkpoint": checkpoint.identity} | probe_joints_and_position(checkpoint.model, dataset, train, held_out)


def _bench(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.bench import bench_inference

    checkpoint = load_checkpoint(options.checkpoint, _device(options.device))
    return bench_inference(checkpoint, planner_config(options.planner), options.repeats, options.seed)


def _demo(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.demo import run_demo

    return run_demo(options.checkpoint, options.goals, options.seed, options.out)


def _info(options: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from lewm_ros.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(options.checkpoint)
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    return {
        "checkpoint": checkpoint.identity,
        "parameters": parameters,
        "model": asdict(checkpoint.model.config),
        "action_space": asdict(checkpoint.action_space),
        "provenance": checkpoint.provenance,
    }


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CommandError("--device cuda: no CUDA device is available here; use cpu")
    return name


def _with_overrides(mapping: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    for override in overrides:
        path, separator, value = override.partition("=")
        if not separator:
            raise CommandError(f"--set {override}: expected KEY=VALUE, e.g. sigreg.weight=0")
        *sections, key = path.split(".")
        section = mapping
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = yaml.safe_load(value)
    return mapping


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _summary(figures: dict[str, Any]) -> str:
    """The figures as aligned lines, long lists left to the JSON file."""
    width = max(len(name) for name in figures)
    lines = []
    for name, value in figures.items():
        text = f"{value:.4g}" if isinstance(value, float) else json.dumps(value, default=str)
        lines.append(f"{name:<{width}}  {text if len(text) <= 160 else text[:157] + '...'}\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
