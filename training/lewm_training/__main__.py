"""The `lewm` command: every subcommand's figures go to `--json`, every error is one line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from lewm_ros import __version__
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
    compare,
    demo,
    evaluate,
    experiment,
    export,
    futures,
    import_,
    info,
    pairs,
    probe,
    reconstructions,
    subgoals,
    train,
    train_decoder,
    train_policy,
    train_proposal,
)
from lewm_training.commands.arguments import output_file, seed
from lewm_training.commands.errors import CommandError, explain
from lewm_training.commands.outputs import write_text
from lewm_training.data import SkippableError

COMMANDS = {
    "collect": collect,
    "train": train,
    "train-policy": train_policy,
    "train-proposal": train_proposal,
    "train-decoder": train_decoder,
    "pairs": pairs,
    "eval": evaluate,
    "compare": compare,
    "experiment": experiment,
    "probe": probe,
    "reconstructions": reconstructions,
    "futures": futures,
    "subgoals": subgoals,
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
    """Run one subcommand; returns the exit status: 0, 2 for what is not the program's fault, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    try:
        _spare_inputs(options)
        figures = options.run(options)
        if figures:  # of several processes, the first one reports
            _report(options, figures)
    except KeyboardInterrupt:
        kept = "; what was finished is kept, run it again to go on" if options.resumable else ""
        sys.stderr.write(f"{options.prog}: interrupted{kept}\n")
        return 130
    except Exception as error:
        reason = explain(error)
        if not reason:
            raise
        skippable = isinstance(error, SkippableError) and "skip_bad" in options
        hint = "; --skip-bad leaves such episodes out" if skippable else ""
        sys.stderr.write(f"{options.prog}: {reason}{hint}\n")
        return 2
    finally:
        _close_stdout()
    return 0


def _spare_inputs(options: argparse.Namespace) -> None:
    """Raise CommandError if the figures would be written over what is read."""
    for name, given in vars(options).items():
        for path in given if isinstance(given, list) else [given]:
            if name != "json" and isinstance(path, Path) and path.is_file() and _same(path, options.json):
                raise CommandError(f"--json {options.json}: would overwrite the {name}; choose another file")


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and path.samefile(other)


def _report(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Print the figures first: whatever fails then, they have been seen; and write them even if that fails."""
    try:
        sys.stdout.write(options.summary(figures))
        sys.stdout.flush()
    except OSError as error:
        raise CommandError(f"standard output: {error.strerror}") from None
    finally:
        if options.json:
            write_text(options.json, json.dumps(figures, indent=2) + "\n")
        if options.draw:
            options.draw(options, figures)


def _close_stdout() -> None:
    """Drop what cannot be printed; Python would try again at its end, and complain at length."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lewm", description="Latent world models for robot arms, offline.")
    parser.add_argument("--version", action="version", version=f"lewm {__version__}")
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
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--seed", type=seed, default=0, help="seed of everything random (default 0)")
    module.add_arguments(parser)
    parser.set_defaults(
        prog=parser.prog,
        run=module.run,
        summary=getattr(module, "summary", _summary),
        draw=getattr(module, "draw", None),
        resumable=getattr(module, "RESUMABLE", False),
    )


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
