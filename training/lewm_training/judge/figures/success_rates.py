"""How often the paper's tasks were solved, by whom, and by which protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

FLOOR = "random"
"""Who acts at random."""


def plot_success_rates(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel per task: a group of bars per protocol, a bar for everyone who acts, with 95 % intervals.

    Args:
        rows: `task`, `protocol`, `actor`, `rate` and `ci95` of each figure.
        path: PNG, PDF or SVG to write.
    """
    tasks, protocols, actors = (list(dict.fromkeys(row[key] for row in rows)) for key in ("task", "protocol", "actor"))
    actors.sort(key=lambda actor: actor == FLOOR)  # the floor last
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(1.5 + 3.0 * len(tasks), 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    width = 0.8 / len(actors)
    for axis, task in zip(axes[0], tasks, strict=True):
        for place, actor in enumerate(actors):
            shown = [row for row in rows if (row["task"], row["actor"]) == (task, actor)]
            at = [protocols.index(row["protocol"]) + (place - (len(actors) - 1) / 2) * width for row in shown]
            rates = [100.0 * row["rate"] for row in shown]
            ends = np.array([[100.0 * row["ci95"][end] for row in shown] for end in (0, 1)])
            spread = np.abs(ends - rates)
            colour = "lightgrey" if actor == FLOOR else f"C{place}"
            axis.bar(at, rates, width, yerr=spread, capsize=3, color=colour, label=actor)
        axis.set(title=task, ylim=(0, 103), xticks=range(len(protocols)), xticklabels=protocols)
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylabel("solved / %")
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)
