"""What a model imagines, as the real frames nearest to it, beside what came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from numpy.typing import NDArray

from lewm_ros.observation.input_spec import fit_frame
from lewm_training.data import EpisodeDataset
from lewm_training.data.spec import PROPRIO
from lewm_training.judge.retrieval import Retrieval

QUANTILES = {"An easy start": 0.1, "A typical start": 0.5, "A hard start": 0.9}
"""Which starts are shown: by the latent error at the farthest horizon, among the half of the starts that moves most."""


def plot_retrieval(found: Retrieval, dataset: EpisodeDataset, block_s: float, path: Path) -> None:
    """Three starts, easy to hard: true frames, and the frames nearest to the imagined embeddings."""
    moving = np.argsort(found.latent_motion[:, -1])[len(found.start) // 2 :]
    order = moving[np.argsort(found.latent_error[moving, -1])]
    width = 1.6 * (1 + len(found.blocks_ahead)) * len(dataset.frames) + 0.4
    figure = plt.figure(figsize=(width, 16.6), layout="constrained")
    shown = "; ".join(measure.title.lower() for measure in measures_of(dataset))
    below = f"below it, how far that is from what came to be ({shown}).\n" if shown else ""
    figure.suptitle(
        "Does the model know what its actions lead to?\n"
        "It sees the frames up to 'now' and imagines what the recorded actions do, never looking again.\n"
        f"Shown: the real frame, of {len(found.bank)} held-out ones, whose state is nearest to the imagined one;\n"
        f"{below}"
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
    measured = measures_of(dataset)
    size = (5.5 * len(measured), 4.6)
    figure, panels = plt.subplots(1, len(measured), figsize=size, layout="constrained", squeeze=False)
    start = np.broadcast_to(found.start[:, None], found.true.shape)
    lines = {
        "the frame at the start: nothing changes": (start, {"color": "grey", "linestyle": "--"}),
        "nearest to the imagined state": (found.nearest, {"color": "tab:blue", "marker": "o"}),
        "the same, of other episodes only": (found.nearest_elsewhere, {"color": "tab:orange", "marker": "o"}),
        "of other episodes, nearest to the true state": (
            found.best_elsewhere,
            {"color": "tab:orange", "linestyle": ":"},
        ),
    }
    for axes, measure in zip(panels[0], measured, strict=True):
        values = dataset.columns[measure.column]
        for label, (rows, style) in lines.items():
            if rows is None:
                continue
            medians = np.median(measure.distance(values[rows], values[found.true]), axis=0)
            axes.plot(found.blocks_ahead, medians, label=label, **style)
        axes.set(xlabel=f"blocks ahead, {block_s:.2g} s each", ylabel=measure.unit, ylim=(0, None))
        axes.set_title(measure.title)
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


def _mean_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.abs(a - b).mean(-1)


class Measure(NamedTuple):
    """How far two frames are apart, by what a column (N, n) says of them; figures have so many digits."""

    column: str
    title: str
    unit: str
    digits: int
    distance: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


def measures_of(dataset: EpisodeDataset) -> list[Measure]:
    """What the dataset knows of where things are: the end effector, and the joints or what there is in their place."""
    found = []
    if "ee_position" in dataset.columns:
        found.append(Measure("ee_position", "End effector", "mm", 0, _distance_mm))
    if dataset.spec.joints:
        found.append(Measure(PROPRIO, "Mean of the joints", "deg", 1, _mean_angle_deg))
    elif PROPRIO in dataset.columns and dataset.columns[PROPRIO].ndim == 2:
        found.append(Measure(PROPRIO, f"Mean of {PROPRIO}", "", 2, _mean_difference))
    return found


def _difference(dataset: EpisodeDataset, row: int, true: int) -> str:
    if row == true:
        return "the very frame"
    return ", ".join(
        f"{measure.distance(*dataset.columns[measure.column][[row, true]]):.{measure.digits}f} {measure.unit}"
        for measure in measures_of(dataset)
    )


def _show(axes: Axes, dataset: EpisodeDataset, row: int) -> None:
    """The frame, or the central squares of all cameras side by side."""
    views = [frames[row] for frames in dataset.frames.values()]
    if len(views) > 1:
        views = [fit_frame(view, len(views[0])) for view in views]
    axes.imshow(np.concatenate(views, axis=1), interpolation="bicubic")
    axes.set(xticks=[], yticks=[])
