"""What several subcommands take: types of argparse, which say what is wrong with a value, and options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lewm_ros.config import parse_yaml
from lewm_training.commands.errors import CommandError
from lewm_training.commands.outputs import file_problem, folder_problem

PICTURES = (".png", ".pdf", ".svg")
DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
RAY_ADDRESS = re.compile(r"auto|(ray://)?[^\s/:]+:\d{1,5}")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A type: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, got '{text}'") from None
        return _within(value, low, high, text)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A type: a number from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, got '{text}'") from None
        return _within(value, low, high, text)

    return parse


positive = whole(1, 1_000_000)
seed = whole(0, 2**31 - 1)
pixels = whole(16, 2048)


def output_file(text: str) -> Path:
    """A type: a file that can be written; its folder is made when it is."""
    return _usable(text, file_problem)


def output_folder(text: str) -> Path:
    """A type: a folder that can be written to; it is made when it is."""
    return _usable(text, folder_problem)


def existing_folder(text: str) -> Path:
    """A type: a folder that is there and can be written to."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"'{text}': no such folder")
    return output_folder(text)


def picture_file(text: str) -> Path:
    """A type: a picture that can be written."""
    if Path(text).suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"'{text}' must end in one of {', '.join(PICTURES)}")
    return output_file(text)


def device(text: str) -> str:
    """A type: where networks run; `device_of` tells whether that is here."""
    if not DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda or cuda:NUMBER, got '{text}'")
    return text


def ray_address(text: str) -> str:
    """A type: where a Ray cluster is."""
    if not RAY_ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"must be auto, HOST:PORT or ray://HOST:PORT, got '{text}'")
    return text


def one_or_more_of(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A type: some of the known words, separated by commas."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"'{word}' is unknown; known: {', '.join(known)}")
        return words

    return parse


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", default="default", help="default, pick_place, push or a path (default: default)"
    )


def add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="reach", help="name, or a YAML file that describes one (default reach)")


def add_datasets(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--dataset",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help=f"HDF5 file {what}; several of the same actions, cameras and vectors count as one",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu or cuda (default auto)")


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"override, e.g. {example}")


def device_of(options: argparse.Namespace) -> str:
    """The device that `--device` names.

    Raises:
        CommandError: it is a CUDA device that is not here.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.device == "auto":
        return "cuda" if count else "cpu"
    kind, _, index = options.device.partition(":")
    if kind == "cuda" and not count:
        raise CommandError(f"--device {options.device}: no CUDA device is available here; use cpu")
    if kind == "cuda" and int(index or 0) >= count:
        raise CommandError(f"--device {options.device}: CUDA devices here are numbered from 0 to {count - 1}")
    return options.device


def with_overrides(mapping: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """`mapping` with the values of `--set SECTION.KEY=VALUE` in their places.

    Raises:
        CommandError: an override is not of that form, or names a key inside something that has none.
        ConfigError: its value is not YAML.
    """
    for override in overrides:
        path, separator, value = override.partition("=")
        *sections, key = path.split(".")
        if not (separator and key and all(sections)):
            raise CommandError(f"--set {override}: expected KEY=VALUE, e.g. sigreg.weight=0")
        section = mapping
        for name in sections:
            section = section.setdefault(name, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise CommandError(f"--set {override}: {'.'.join(sections) or 'the configuration'} has no keys")
        section[key] = parse_yaml(value, f"--set {override}")
    return mapping


def _within(value: Any, low: float, high: float, text: str) -> Any:
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"must be from {low} to {high}, got {text}")
    return value


def _usable(text: str, problem_of: Callable[[Path], str]) -> Path:
    path = Path(text)
    if problem := problem_of(path) if text else "is empty":
        raise argparse.ArgumentTypeError(f"'{text}' {problem}")
    return path
