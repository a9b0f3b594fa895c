"""The closed loop: where it ended, and how it got there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray


def plot_goal(
    report: dict[str, Any],
    start: NDArray[np.uint8],
    goal: NDArray[np.uint8],
    final: NDArray[np.uint8],
    path: Path,
) -> None:
    """Start, goal and final view of one episode side by side, as a PNG."""
    height_in = 0.4 + 3.0 * start.shape[0] / start.shape[1]
    figure, axes = plt.subplots(1, 3, figsize=(9, height_in), layout="constrained")
    titles = (
        f"start, {100 * report['start_distance_m']:.1f} cm away",
        "goal",
        f"final, {100 * report['final_distance_m']:.1f} cm away",
    )
    for axis, frame, title in zip(axes, (start, goal, final), titles, strict=True):
        axis.imshow(frame, interpolation="bicubic")
        axis.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_closed_loop(reports: list[dict[str, Any]], success_m: float, path: Path) -> None:
    """Distance to the goal, plan cost and surprise over time, one line per goal, as a PNG."""
    figure, (distance, cost, surprise) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    for report in reports:
        label = f"goal {report['index'] + 1}"
        distance.plot(report["trace"]["time_s"], 100 * np.array(report["trace"]["distance_m"]), label=label)
        cost.plot(report["plan_cost"]["time_s"], report["plan_cost"]["value"])
        surprise.plot(report["surprise"]["time_s"], report["surprise"]["value"])
    distance.axhline(100 * success_m, color="grey", linestyle="--", label="reached")
    distance.set(xlabel="time / s", title="Distance to the goal / cm", ylim=(0, None))
    distance.legend()
    cost.set(xlabel="time / s", title="Plan cost (squared latent distance)", yscale="log")
    surprise.set(xlabel="time / s", title="Surprise / standard deviations of the prediction error")
    figure.savefig(path, dpi=100)
    plt.close(figure)
