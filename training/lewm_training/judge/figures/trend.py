"""What becomes of success and of what the state knows when one thing is varied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt


def plot_trends(rows: Sequence[dict[str, Any]], readings: Sequence[str], path: Path) -> None:
    """A column per factor: above success with its 95 % interval, below what is read from the state, both by level.

    Args:
        rows: of an experiment; the first is the base, which every factor begins with.
        readings: names of the figures between 0 and 1 (r, AUROC) that are drawn below.
        path: PNG to write.
    """
    base, factors = rows[0], list(dict.fromkeys(row["factor"] for row in rows[1:]))
    figure, grid = plt.subplots(
        2, len(factors), figsize=(1.5 + 3.2 * len(factors), 6.0), sharey="row", squeeze=False, layout="constrained"
    )
    for column, factor in enumerate(factors):
        shown = [base, *(row for row in rows if row["factor"] == factor)]
        names = ["base", *(row["level"] for row in shown[1:])]
        above, below = grid[:, column]
        rates = [row["successes"] / row["episodes"] for row in shown]
        spread = [[abs(row["ci95"][end] - rate) for row, rate in zip(shown, rates, strict=True)] for end in (0, 1)]
        above.errorbar(names, rates, spread, fmt="o", capsize=4, color="tab:blue")
        above.set(title=factor, ylim=(-0.03, 1.03))
        for reading in readings:
            values = [row[reading]["value"] if row[reading] else float("nan") for row in shown]
            below.plot(names, values, "o-", label=reading)
        below.set(ylim=(-0.03, 1.03))
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.tick_params(axis="x", rotation=20)
    grid[0, 0].set_ylabel("solved")
    grid[1, 0].set_ylabel("r, AUROC")
    grid[1, -1].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)
