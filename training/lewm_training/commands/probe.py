"""`lewm probe`: what can be read out of the encoder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import (
    add_checkpoint,
    add_device,
    device_of,
    output_folder,
    picture_file,
    positive,
)

HELP = "Read every label of a dataset from states and patch tokens, with linear and MLP probes."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_device(parser)
    parser.add_argument("--dataset", type=Path, required=True, help="HDF5 file with frames and labels")
    parser.add_argument(
        "--frames", type=positive, default=1500, help="held-out frames to test on; 5 times as many fit (default 1500)"
    )
    parser.add_argument("--figure", type=picture_file, default="probe.png", help="PNG to write (default probe.png)")
    parser.add_argument(
        "--pictures", type=output_folder, metavar="FOLDER", help="also draw embeddings and retrieved frames"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.data import EpisodeDataset
    from lewm_training.judge.pictures import draw_run_pictures
    from lewm_training.judge.probe import probe_encoder, split_episodes

    checkpoint = load_checkpoint(options.checkpoint, device_of(options))
    dataset = EpisodeDataset.open(options.dataset)
    split = split_episodes(dataset, checkpoint.provenance, options.frames, options.seed)
    pictures = []
    if options.pictures:
        pictures = draw_run_pictures(checkpoint, dataset, split.test_episodes, options.pictures, options.seed)
    report = probe_encoder(checkpoint.model, dataset, split, options.seed)
    return {
        "checkpoint": checkpoint.identity,
        "dataset": str(options.dataset),
        "seed": options.seed,
        "frames": {"fit": len(split.train), "stop": len(split.validation), "test": len(split.test)},
        "unseen_by_the_model": split.unseen,
        "figure": str(options.figure),
        "pictures": [str(path) for path in pictures],
        **report,
    }


def draw(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """What every probe reads, as dots."""
    from lewm_training.judge.figures import plot_probes

    options.figure.parent.mkdir(parents=True, exist_ok=True)
    plot_probes(figures, options.figure)


def summary(figures: dict[str, Any]) -> str:
    """The probes as a table, a line per label and input."""
    return "\n".join(_lines(figures)) + "\n"


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    frames = figures["frames"]
    seen = (
        "held out from its training" if figures["unseen_by_the_model"] else "not known to be held out from its training"
    )
    yield f"{figures['checkpoint']}: {frames['test']} frames of {figures['dataset']}, {seen}; {frames['fit']} to fit"
    yield ""
    yield f"{'':<30}{'linear probe':<26}MLP probe"
    yield f"{'label':<22}{'guessing':>10}{'R2':>7}{'r':>7}{'error':>9}   {'R2':>7}{'r':>7}{'error':>9}   from"
    for label, description in figures["labels"].items():
        head, guess = label, f"{description['guess_error']:.3g} {description['unit']}"
        found = {(r["input"], r["probe"]): r for r in figures["probes"] if r["label"] == label}
        for source in dict.fromkeys(source for source, _ in found):
            cells = "   ".join(_cells(found[source, probe]) for probe in ("linear", "mlp"))
            yield f"{head:<22}{guess:>10}{cells}   {source}"
            head = guess = ""
    yield ""
    yield f"figure: {figures['figure']}" + "".join(f", {path}" for path in figures["pictures"])


def _cells(record: dict[str, Any]) -> str:
    r2, r = (f"{record[name]:>7.3f}" if record[name] is not None else f"{'-':>7}" for name in ("r2_mean", "r_mean"))
    return f"{r2}{r}{record['error']:>9.3g}"
