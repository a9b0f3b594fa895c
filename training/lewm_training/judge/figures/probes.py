"""What probes read out of the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

COLOURS = {"embedding": "tab:blue", "patches": "tab:orange"}
MARKERS = {"linear": "o", "mlp": "D"}


def plot_probes(report: dict[str, Any], path: Path) -> None:
    """R2 of every component of every label: a dot per input and probe, hollow ones for the untrained encoder.

    Args:
        report: what `probe_encoder` returns.
        path: PNG to write.
    """
    labels = report["labels"]
    names = [
        f"{label}: {component}" if len(description["components"]) > 1 else label
        for label, description in labels.items()
        for component in description["components"]
    ]
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.27 * len(names)), layout="constrained")
    first, row = {}, 0
    for label, description in labels.items():
        first[label] = row
        row += len(description["components"])
        axes.axhline(row - 0.5, color="lightgrey", linewidth=0.8)
    told = {(r["label"], i) for r in report["probes"] for i, r2 in enumerate(r["r2"]) if r2 is not None}
    for label, description in labels.items():
        for component in range(len(description["components"])):
            if (label, component) not in told:
                axes.text(0.01, first[label] + component, "hardly changes", va="center", fontsize=8)
    for record in report["probes"]:
        untrained = record["input"].startswith("untrained ")
        colour = COLOURS[record["input"].removeprefix("untrained ")]
        for component, r2 in enumerate(record["r2"]):
            if r2 is not None:
                axes.scatter(
                    max(r2, 0.0),
                    first[record["label"]] + component,
                    marker=MARKERS[record["probe"]],
                    edgecolors=colour,
                    facecolors="none" if untrained else colour,
                    alpha=0.5 if untrained else 1.0,
                    s=26,
                    clip_on=False,
                    zorder=2 if untrained else 3,
                )
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel="R2 on held-out episodes (below 0 drawn at 0)")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.grid(axis="x", color="lightgrey", linewidth=0.6)
    handles = [
        Line2D(
            [], [], linestyle="", marker=marker, color=colour, label=f"{source}, {'MLP' if probe == 'mlp' else probe}"
        )
        for source, colour in COLOURS.items()
        for probe, marker in MARKERS.items()
    ]
    handles.append(
        Line2D([], [], linestyle="", marker="o", color="grey", fillstyle="none", label="untrained encoder (hollow)")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False)
    figure.savefig(path, dpi=80)
    plt.close(figure)
