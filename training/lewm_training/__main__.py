"""The `lewm` command: every subcommand's figures go to `--json`, every error is one line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lewm_ros.config import UserError
from lewm_training.commands import (
    bench_inference,
    bench_loader,
    bench_memory,
    bench_node,
    bench_planning,
    bench_safety,
    bench_soak,
    bench_surprise,
    bench_training,
    bench_transport,
    collect,
    demo,
    evaluate,
    export,
    import_,
    info,
    probe,
    train,
    train_proposal,
)

COMMANDS = {
    "collect": collect,
    "train": train,
    "train-proposal": train_proposal,
    "eval": evaluate,
    "probe": probe,
    "demo": demo,
    "import": import_,
    "export": export,
    "info": info,
}
BENCHES = {
    "inference": bench_inference,
    "planning": bench_planning,
    "loader": bench_loader,
    "memory": bench_memory,
    "node": bench_node,
    "safety": bench_safety,
    "soak": bench_soak,
    "surprise": bench_surprise,
    "training": bench_training,
    "transport": bench_transport,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        figures = options.run(options)
    except UserError as error:
        sys.stderr.write(f"lewm {options.command}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"lewm {options.command}: interrupted; what was finished is kept, run it again to go on\n")
        return 130
    if not figures:  # one of several processes, of which the first reports
        return 0
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(options.summary(figures))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lewm", description="Latent world models for robot arms, offline.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        _add(commands, name, module)
    text = "Measure speed and memory on this machine."
    benches = commands.add_parser("bench", help=text, description=text)
    subjects = benches.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    for name, module in BENCHES.items():
        _add(subjects, name, module)
    return parser


def _add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, module: ModuleType) -> None:
    parser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    module.add_arguments(parser)
    parser.set_defaults(run=module.run, summary=getattr(module, "summary", _summary))


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
