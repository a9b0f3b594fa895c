"""`lewm probe`: what can be read out of the encoder."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from lewm_training.commands.arguments import (
    add_checkpoint,
    add_datasets,
    add_device,
    device_of,
    output_folder,
    picture_file,
    positive,
)

HELP = "Read every label of a dataset from states and patch tokens, with linear, MLP and attentive probes."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_device(parser)
    add_datasets(parser, "with frames and labels")
    parser.add_argument(
        "--frames", type=positive, default=1500, help="held-out frames to test on; 5 times as many fit (default 1500)"
    )
    parser.add_argument("--figure", type=picture_file, default="probe.png", help="PNG to write (default probe.png)")
    parser.add_argument(
        "--pictures", type=output_folder, metavar="FOLDER", help="also draw embeddings and retrieved frames"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.data import open_datasets
    from lewm_training.judge.pictures import draw_run_pictures
    from lewm_training.judge.probe import probe_encoder, split_episodes

    checkpoint = load_checkpoint(options.checkpoint, device_of(options))
    dataset = open_datasets(options.dataset)
    split = split_episodes(dataset, checkpoint.provenance, options.frames, options.seed)
    pictures = []
    if options.pictures:
        pictures = draw_run_pictures(checkpoint, dataset, split.test_episodes, options.pictures, options.seed)
    report = probe_encoder(checkpoint.model, dataset, split, options.seed)
    return {
        "checkpoint": checkpoint.identity,
        "dataset": dataset.path,
        "seed": options.seed,
        "frames": {"fit": len(split.train), "stop": len(split.validation), "test": len(split.test)},
        "episodes": {
            "fit": split.train_episodes.tolist(),
            "stop": split.validation_episodes.tolist(),
            "test": split.test_episodes.tolist(),
        },
        "unseen_by_the_model": split.unseen,
        "figure": str(options.figure),
        "pictures": [str(path) for path in pictures],
        **report,
    }


def draw(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """What every probe reads, as a table in colours."""
    from lewm_training.judge.figures import plot_probes

    options.figure.parent.mkdir(parents=True, exist_ok=True)
    plot_probes(figures, options.figure)


def summary(figures: dict[str, Any]) -> str:
    """The probes as a table, a line per label and source."""
    return "\n".join(_lines(figures)) + "\n"


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    frames, seen = figures["frames"], "" if figures["unseen_by_the_model"] else "not known to be "
    yield (
        f"{figures['checkpoint']}: {frames['test']} frames of {len(figures['episodes']['test'])} episodes of "
        f"{figures['dataset']}, {seen}held out from its training; {frames['fit']} to fit, {frames['stop']} to stop"
    )
    yield "[95 % interval by episode]; untrained: a network probe of an encoder with random weights"
    yield ""
    yield (
        f"{'label':<32}{'guessing':>10}  {'from':<24}{'linear r':>9}{'error':>7}"
        f"  {'network R2':<20}{'r':<20}{'error':<22}{'untrained r':>11}{'error':>7}"
    )
    questions, numbers = [], []
    for name, label in figures["labels"].items():
        (questions if label["yes_or_no"] else numbers).append(name)
    for name in numbers:
        yield from _rows(figures, name, _number_row)
    if questions:
        yield ""
        yield (
            f"{'yes or no':<44}{'from':<24}{'logistic: AUROC':>16}{'balanced':>9}"
            f"  {'network: AUROC':<20}{'balanced accuracy':<22}{'untrained AUROC':>15}{'balanced':>9}"
        )
    for name in questions:
        yield from _rows(figures, name, _question_row)
    if figures["missing"]:
        yield ""
        yield "not probed: " + "; ".join(f"{name} ({reason})" for name, reason in figures["missing"].items())
    yield ""
    yield f"figure: {figures['figure']}" + "".join(f", {path}" for path in figures["pictures"])


Records = dict[str, dict[str, Any]]
"""Of one label and source: its records, by probe; that of the untrained encoder's network is `untrained`."""


def _rows(figures: dict[str, Any], label: str, row: Callable[[Records], str]) -> Iterator[str]:
    described = figures["labels"][label]
    head, guess = label, "" if described["yes_or_no"] else f"{described['guessing']:.3g} {described['unit']}"
    sources: dict[str, Records] = {}
    for record in (record for record in figures["probes"] if record["label"] == label):
        probe = "linear" if record["probe"] == "linear" else "network"
        if record["encoder"] == "trained":
            sources.setdefault(record["source"], {})[probe] = record
        elif probe == "network":
            sources[record["source"]]["untrained"] = record
    for source, found in sources.items():
        yield f"{head:<32}{guess:>10}  {source:<24}{row(found)}"
        head = guess = ""


def _number_row(found: Records) -> str:
    linear, network, floor = found.get("linear"), found["network"], found["untrained"]
    cells = [f"{_cell(linear, 'r'):>9}{_cell(linear, 'error'):>7}  "]
    cells += [f"{_cell(network, 'r2', True):<20}{_cell(network, 'r', True):<20}{_cell(network, 'error', True):<22}"]
    return "".join([*cells, f"{_cell(floor, 'r'):>11}{_cell(floor, 'error'):>7}"])


def _question_row(found: Records) -> str:
    linear, network, floor = found.get("linear"), found["network"], found["untrained"]
    accuracy = "balanced_accuracy"
    cells = [f"{_cell(linear, 'auroc'):>16}{_cell(linear, accuracy):>9}  "]
    cells += [f"{_cell(network, 'auroc', True):<20}{_cell(network, accuracy, True):<22}"]
    return "".join([*cells, f"{_cell(floor, 'auroc'):>15}{_cell(floor, accuracy):>9}"])


def _cell(record: dict[str, Any] | None, name: str, interval: bool = False) -> str:
    figure = record[name] if record else None
    if figure is None:
        return "-"

    def shown(value: float) -> str:
        return f"{value:.3g}" if name == "error" else f"{value:.3f}"

    low, high = figure["interval"]
    return shown(figure["value"]) + (f" [{shown(low)}, {shown(high)}]" if interval else "")
