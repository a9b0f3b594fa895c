"""What a model imagines, as the real frames nearest to it, beside what came."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from numpy.typing import NDArray

from lewm_training.data import EpisodeDataset
from lewm_training.judge.retrieval import Retrieval

QUANTILES = {"An easy start": 0.1, "A typical start": 0.5, "A hard start": 0.9}
"""Which starts are shown: by the latent error at the farthest horizon, among the half of the starts that moves most."""


def plot_retrieval(found: Retrieval, dataset: EpisodeDataset, block_s: float, path: Path) -> None:
    """Three starts, easy to hard: true frames, and the frames nearest to the imagined embeddings."""
    moving = np.argsort(found.latent_motion[:, -1])[len(found.start) // 2 :]
    order = moving[np.argsort(found.latent_error[moving, -1])]
    figure = plt.figure(figsize=(1.6 * (1 + len(found.blocks_ahead)) + 0.4, 16.6), layout="constrained")
    figure.suptitle(
        "Does the model know what its actions lead to?\n"
        "It sees the frames up to 'now' and imagines what the recorded actions do, never looking again.\n"
        f"Shown: the real frame, of {len(found.bank)} held-out ones, whose embedding is nearest to the imagined one;\n"
        "below it, how far the arm there is from where it came to be (end effector; mean of the joints).\n"
        "The third line leaves out all frames of the same episode, of which the bank holds many.",
        fontsize=9.5,
    )
    for part, (name, quantile) in zip(figure.subfigures(len(QUANTILES), 1), QUANTILES.items(), strict=True):
        start = order[round(quantile * (len(order) - 1))]
        part.suptitle(f"{name} ({100 * quantile:.0f} % of the starts are easier)", fontsize=10, fontweight="bold")
        _draw_start(part, found, dataset, block_s, int(start))
    figure.savefig(path, dpi=75)
    plt.close(figure)


def plot_retrieval_error(found: Retrieval, dataset: EpisodeDataset, block_s: float, path: Path) -> None:
    """Median distance of retrieved frames to the truth over blocks ahead, for each label that is there."""
    measured = [measure for measure in MEASURES if measure[0] in dataset.columns]
    size = (5.5 * len(measured), 4.6)
    figure, panels = plt.subplots(1, len(measured), figsize=size, layout="constrained", squeeze=False)
    start = np.broadcast_to(found.start[:, None], found.true.shape)
    lines = {
        "the frame at the start: nothing changes": (start, {"color": "grey", "linestyle": "--"}),
        "nearest to the imagined embedding": (found.nearest, {"color": "tab:blue", "marker": "o"}),
        "the same, of other episodes only": (found.nearest_elsewhere, {"color": "tab:orange", "marker": "o"}),
        "of other episodes, nearest to the true embedding": (
            found.best_elsewhere,
            {"color": "tab:orange", "linestyle": ":"},
        ),
    }
    for axes, (column, unit, distance) in zip(panels[0], measured, strict=True):
        values = dataset.columns[column]
        for label, (rows, style) in lines.items():
            if rows is None:
                continue
            medians = np.median(distance(values[rows], values[found.true]), axis=0)
            axes.plot(found.blocks_ahead, medians, label=label, **style)
        axes.set(xlabel=f"blocks ahead, {block_s:.2g} s each", ylabel=unit, ylim=(0, None))
        axes.set_title({"mm": "End effector", "deg": "Mean of the joints"}[unit])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    figure.suptitle(f"How far the retrieved frame is from what came: median of {len(found.start)} starts", fontsize=11)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_start(figure: SubFigure, found: Retrieval, dataset: EpisodeDataset, block_s: float, start: int) -> None:
    true = found.true[start]
    lines = {
        "what came": true,
        "imagined": found.nearest[start],
    }
    if found.nearest_elsewhere is not None:
        lines["imagined,\nother episodes"] = found.nearest_elsewhere[start]
    grid = figure.subplots(len(lines), 1 + len(found.blocks_ahead))
    for axes in grid[:, 0]:
        axes.axis("off")
    _show(grid[0, 0], dataset, found.start[start])
    grid[0, 0].axis("on")
    grid[0, 0].set_title("now", fontsize=9)
    for line, (name, rows) in zip(grid[:, 1:], lines.items(), strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for axes, row, true_row in zip(line, rows, true, strict=True):
            _show(axes, dataset, row)
            if rows is not true:
                axes.set_xlabel(_difference(dataset, row, true_row), fontsize=8.5, labelpad=2)
    for axes, blocks in zip(grid[0, 1:], found.blocks_ahead, strict=True):
        axes.set_title(f"{blocks} block{'s' if blocks > 1 else ''}, {blocks * block_s:.3g} s", fontsize=9)


def _distance_mm(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return 1000.0 * np.linalg.norm(a - b, axis=-1)


def _mean_angle_deg(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.degrees(np.abs(a - b).mean(-1))


MEASURES = (("ee_position", "mm", _distance_mm), ("proprio", "deg", _mean_angle_deg))


def _difference(dataset: EpisodeDataset, row: int, true: int) -> str:
    if row == true:
        return "the very frame"
    measured = (
        f"{distance(dataset.columns[name][row], dataset.columns[name][true]):.{unit == 'deg':d}f} {unit}"
        for name, unit, distance in MEASURES
        if name in dataset.columns
    )
    return ", ".join(measured)


def _show(axes: Axes, dataset: EpisodeDataset, row: int) -> None:
    axes.imshow(dataset.pixels[row], interpolation="bicubic")
    axes.set(xticks=[], yticks=[])
