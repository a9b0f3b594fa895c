"""What probes read out of the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

FLOORS = ("embedding", "all patches")
"""Sources of the untrained encoder that are drawn beside those of the trained one."""


def plot_probes(report: dict[str, Any], path: Path) -> None:
    """A table in colours: a row per label, a column per source, as an MLP (all patches: an attentive probe) reads it.

    The colour and the first line of a cell are r, of yes or no the AUROC, with the 95 % interval below; the last line
    is the median error, of yes or no the balanced accuracy. On the right the floors: an untrained encoder, guessing.

    Args:
        report: what `probe_encoder` returns.
        path: PNG to write.
    """
    labels = report["labels"]
    found = {(r["label"], r["encoder"], r["source"]): r for r in report["probes"] if r["probe"] in ("mlp", "attentive")}
    trained = list(dict.fromkeys(source for _, encoder, source in found if encoder == "trained"))
    columns = [("trained", source) for source in trained]
    columns += [("untrained", source) for source in FLOORS if source in trained]
    figure, axes = plt.subplots(
        figsize=(2.6 + 1.25 * (len(columns) + 1), 1.4 + 0.62 * len(labels)), layout="constrained"
    )
    colours = plt.get_cmap("RdYlGn")
    for row, (label, described) in enumerate(labels.items()):
        for column, (encoder, source) in enumerate(columns):
            record = found[label, encoder, source]
            quality = record["auroc"] if described["yes_or_no"] else record["r"]
            shade = colours(_goodness(quality, described["yes_or_no"])) if quality else "lightgrey"
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=shade, alpha=0.6, edgecolor="white"))
            axes.text(column + 0.5, row + 0.5, _cell(record, described), ha="center", va="center", fontsize=7.5)
        guess = "AUROC .50\n50 %" if described["yes_or_no"] else f"{described['guessing']:.3g} {described['unit']}"
        axes.text(len(columns) + 0.5, row + 0.5, guess, ha="center", va="center", fontsize=7.5)
    axes.axvline(len(trained), color="black", linewidth=1.5)
    heads = [source if encoder == "trained" else f"untrained\n{source}" for encoder, source in columns] + ["guessing"]
    axes.set_xticks(np.arange(len(heads)) + 0.5, [head.replace(" before", "\nbefore") for head in heads], fontsize=8)
    axes.set_yticks(np.arange(len(labels)) + 0.5, list(labels), fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set(xlim=(0, len(heads)), ylim=(len(labels), 0))
    for side in axes.spines.values():
        side.set_visible(False)
    figure.suptitle("Read from held-out episodes: r or AUROC, [95 % interval by episode], median error", fontsize=10)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _goodness(figure: dict[str, Any], yes_or_no: bool) -> float:
    """0 (guessing) to 1 of a figure; an AUROC of .5 says as little as an r of 0."""
    return max(0.0, 2.0 * figure["value"] - 1.0 if yes_or_no else figure["value"])


def _cell(record: dict[str, Any], described: dict[str, Any]) -> str:
    if described["yes_or_no"]:
        quality, last = record["auroc"], f"{100 * record['balanced_accuracy']['value']:.1f} %"
    else:
        quality, last = record["r"], f"{record['error']['value']:.3g} {described['unit']}"
    if quality is None:
        return f"hardly changes\n{last}"
    low, high = quality["interval"]
    return f"{quality['value']:.3f}\n[{low:.3f}, {high:.3f}]\n{last}"
