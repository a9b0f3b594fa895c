"""What becomes of success and of what the state knows when one thing is varied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes


def plot_trends(rows: Sequence[dict[str, Any]], shares: Sequence[str], distances: Sequence[str], path: Path) -> None:
    """A column per factor: success, and below it what is read from the state, by level, with 95 % intervals.

    Args:
        rows: of an experiment; the first is the base, which every factor begins with.
        shares: names of the figures between 0 and 1 (r, AUROC).
        distances: names of those in mm.
        path: PNG to write.
    """
    base, factors = rows[0], list(dict.fromkeys(row["factor"] for row in rows[1:]))
    figure, grid = plt.subplots(
        3, len(factors), figsize=(2.0 + 3.2 * len(factors), 9.0), sharey="row", squeeze=False, layout="constrained"
    )
    for column, factor in enumerate(factors):
        shown = [base, *(row for row in rows if row["factor"] == factor)]
        names = ["base", *(row["level"] for row in shown[1:])]
        above, middle, below = grid[:, column]
        rates = [row["successes"] / row["episodes"] for row in shown]
        spread = [[abs(row["ci95"][end] - rate) for row, rate in zip(shown, rates, strict=True)] for end in (0, 1)]
        above.errorbar(names, rates, spread, fmt="o", capsize=4, color="tab:blue")
        above.set(title=factor, ylim=(-0.03, 1.03))
        for axes, readings in ((middle, shares), (below, distances)):
            for reading in readings:
                _draw(axes, names, [row[reading] for row in shown], reading)
        middle.set(ylim=(-0.03, 1.03))
        below.set(ylim=(0.0, None))
        for axes in (above, middle, below):
            axes.grid(alpha=0.3)
            axes.tick_params(axis="x", rotation=20)
    grid[0, 0].set_ylabel("solved")
    grid[1, 0].set_ylabel("r, AUROC")
    grid[2, 0].set_ylabel("median error, mm")
    for axes in grid[1:, -1]:
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw(axes: Axes, names: Sequence[str], figures: Sequence[dict[str, Any] | None], label: str) -> None:
    """One figure by level; a gap where a dataset did not carry the label."""
    nothing = {"value": float("nan"), "interval": (float("nan"), float("nan"))}
    known = [figure or nothing for figure in figures]
    values = [figure["value"] for figure in known]
    spread = [[abs(figure["interval"][end] - figure["value"]) for figure in known] for end in (0, 1)]
    axes.errorbar(names, values, spread, fmt="o-", capsize=3, label=label)
