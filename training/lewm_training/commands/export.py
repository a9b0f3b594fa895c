"""`lewm export`: this project's data and models in the formats of others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import output_file
from lewm_training.commands.errors import CommandError
from lewm_training.data.formats import FORMATS, load_format

HELP = "Export a dataset or a checkpoint for another project."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", dest="format", choices=FORMATS, required=True, help="what to write")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="dataset (HDF5) or checkpoint to read")
    parser.add_argument("--out", type=output_file, required=True, help="file or folder to write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.out.exists():
        raise CommandError(f"{options.out}: exists already; choose another --out or remove it")
    module = load_format(options.format)
    if not hasattr(module, "export_data"):
        raise CommandError(f"--to {options.format}: can only be imported")
    return module.export_data(options.source, options.out)
