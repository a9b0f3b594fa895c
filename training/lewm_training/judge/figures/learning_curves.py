"""Learning curves of a training run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

HORIZONS = (1, 2, 5, 10)
"""Blocks ahead, of the rollouts in the log."""

PROBE = re.compile("probe/(.+)_r2")
"""What a probe reads, in the log."""


def plot_learning_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Losses, what the probes read, and the collapse monitors over epochs; what the log lacks is left out."""
    figure, (losses, rollouts, probes, spread) = plt.subplots(1, 4, figsize=(19, 4), layout="constrained")
    _plot(losses, history, "train/prediction", label="prediction, training")
    _plot(losses, history, "validation/prediction", label="prediction, held out")
    _plot(losses, history, "validation/nothing_changes", label="nothing changes", linestyle="--", color="grey")
    losses.set(xlabel="epoch", title="Prediction error", yscale="log")
    for blocks in HORIZONS:
        _plot(rollouts, history, f"rollout/error_{blocks}", baseline=f"rollout/nothing_changes_{blocks}", label=blocks)
    rollouts.axhline(1.0, color="grey", linestyle="--")
    rollouts.set(xlabel="epoch", title="Error n blocks ahead / error of 'nothing changes'", ylim=(0, None))
    for name in sorted({name for entry in history for name in entry if PROBE.fullmatch(name)}):
        label = PROBE.fullmatch(name).group(1)
        numbers = max(len(entry.get(name, ())) for entry in history)
        for number in range(numbers):
            style = {"linestyle": ":"} if label == "position" else {}
            _plot(probes, history, name, number, label=f"{label} {number + 1}" if numbers > 1 else label, **style)
    probes.set(xlabel="epoch", ylim=(0, 1), title="R2 of a linear probe on the embedding")
    _plot(spread, history, "validation/effective_rank", label="effective rank")
    spread.set(xlabel="epoch", title="Spread of the embedding")
    regulariser = spread.twinx()
    _plot(regulariser, history, "validation/sigreg", label="SIGReg (right)", color="tab:orange")
    for axes in (losses, rollouts, probes):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(ncols=2, fontsize="small")
    lines = [*spread.get_lines(), *regulariser.get_lines()]
    spread.legend(lines, [line.get_label() for line in lines], fontsize="small")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _plot(
    axes: Axes, history: list[dict[str, Any]], name: str, item: int = 0, baseline: str | None = None, **style: Any
) -> None:
    """One line: a figure of the log, or an item of a list in it, over the epochs that have it; relative to another."""
    having = [entry for entry in history if name in entry]
    if having:
        values = np.array([np.atleast_1d(entry[name])[item] / entry.get(baseline, 1.0) for entry in having])
        axes.plot([entry["epoch"] for entry in having], values, **style)
