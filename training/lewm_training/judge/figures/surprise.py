"""Surprise over time, undisturbed and disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

COLUMNS = 4


def plot_surprise(report: dict[str, Any], path: Path) -> None:
    """The report of `bench_surprise` as a PNG: one panel per kind of disturbance, one line per goal."""
    scores = report["scores"]
    rows = -(-len(scores) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(3.4 * COLUMNS, 2.2 * rows), layout="constrained", sharex=True, sharey=True
    )
    for axis, (kind, runs) in zip(axes.flat, scores.items(), strict=False):
        time_s = (1 + np.arange(len(runs[0]))) * report["block_s"]
        axis.plot(time_s, np.array(runs).T, color="tab:blue", linewidth=0.9, alpha=0.6)
        axis.axvspan(0.0, (report["first_judged_step"] - 0.5) * report["block_s"], color="0.92")  # not judged
        axis.axhline(report["threshold"], color="tab:red", linestyle="--", linewidth=1.0)
        if kind != "undisturbed":
            axis.axvline(report["disturbed_step"] * report["block_s"], color="black", linestyle=":", linewidth=1.2)
        axis.set_title(kind, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(scores) :]:
        axis.axis("off")
    figure.supxlabel("time / s")
    figure.supylabel("surprise / standard deviations")
    figure.savefig(path, dpi=90)
    plt.close(figure)
