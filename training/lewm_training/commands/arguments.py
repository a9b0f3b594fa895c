"""What several subcommands take, and the error that ends one of them."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from lewm_ros.config import UserError


class CommandError(UserError):
    """A command that cannot be carried out; the message is one line for the user."""


def positive(text: str) -> int:
    """A whole number from 1 on, as a type of argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="default", help="'default' or a path (default: default)")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"override, e.g. {example}")


def device_of(options: argparse.Namespace) -> str:
    """The device that `--device` names.

    Raises:
        CommandError: CUDA is asked for where there is none.
    """
    import torch

    if options.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise CommandError("--device cuda: no CUDA device is available here; use cpu")
    return options.device


def with_overrides(mapping: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """`mapping` with the values of `--set SECTION.KEY=VALUE` in their places.

    Raises:
        CommandError: an override is not of that form.
    """
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


def require_task(name: str) -> None:
    """Raise CommandError unless the simulator has a task of this name."""
    from lewm_ros.sim import TASKS

    if name not in TASKS:
        raise CommandError(f"task '{name}' is unknown; known: {', '.join(TASKS)}")
