"""`lewm import`: data and models of other projects become this project's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import output_file
from lewm_training.commands.errors import CommandError
from lewm_training.data.formats import FORMATS, load_format

HELP = "Import a dataset, recordings or model weights of another project; an interrupted import goes on."
RESUMABLE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="format", choices=FORMATS, required=True, help="what SOURCE is")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="file or folder to read")
    parser.add_argument("--out", type=output_file, required=True, help="dataset (HDF5) or checkpoint to write")
    parser.add_argument("--config", type=Path, help="YAML that says what the source does not; see docs/data.md")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad episodes out and count them")


def run(options: argparse.Namespace) -> dict[str, Any]:
    if not options.source.exists():
        raise CommandError(f"{options.source}: no such file or folder")
    if options.out.exists():
        raise CommandError(f"{options.out}: exists already; choose another --out or remove it")
    return load_format(options.format).import_data(options.source, options.out, options.config, options.skip_bad)
