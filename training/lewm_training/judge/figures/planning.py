"""How long plans take, by planner and by size of the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt


def plot_planners(planners: dict[str, dict[str, Any]], path: Path) -> None:
    """Seconds per plan as bars, one per planner, as a PNG."""
    names = sorted(planners, key=lambda name: planners[name]["plan_s"])
    seconds = [planners[name]["plan_s"] for name in names]
    figure, axis = plt.subplots(figsize=(7.0, 0.5 + 0.45 * len(names)), layout="constrained")
    colours = ["tab:gray" if name.startswith("stable") else "tab:blue" for name in names]
    axis.bar_label(axis.barh(names, seconds, color=colours), fmt="%.2f s", padding=3)
    axis.margins(x=0.15)
    axis.invert_yaxis()
    axis.set(xlabel="seconds per plan, 300 samples x 30 iterations x 5 blocks")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_scaling(scaling: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Seconds (above) and peak memory (below) of a plan against each size of the search, as a PNG."""
    figure, axes = plt.subplots(2, len(scaling), figsize=(3 * len(scaling), 5), layout="constrained", sharex="col")
    for (above, below), (name, rows) in zip(axes.T, scaling.items(), strict=True):
        values = [row["value"] for row in rows]
        above.plot(values, [row["plan_s"] for row in rows], "o-")
        below.plot(values, [row["peak_mb"] for row in rows], "o-", color="tab:orange")
        below.set(xlabel=name)
        for axis in (above, below):
            axis.set_ylim(bottom=0.0)
            axis.grid(alpha=0.3)
    axes[0, 0].set(ylabel="seconds per plan")
    axes[1, 0].set(ylabel="peak memory, MB")
    figure.savefig(path, dpi=100)
    plt.close(figure)
