"""The closed loop: where it ended, and how it got there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

MARKS = ("o", "^", "s", "D", "v", "P", "*")
"""Of stages, in order."""


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


def plot_closed_loop(reports: list[dict[str, Any]], success_m: float | None, path: Path) -> None:
    """Distance to the goal, plan cost and surprise over time, one line per goal, as a PNG.

    Marks on the distance's lines say when each stage was got to first; without `success_m`, no line says what is near
    enough.
    """
    figure, (distance, cost, surprise) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    stages = dict(zip(reports[0]["stages"], MARKS, strict=False))
    for report in reports:
        label = f"goal {report['index'] + 1}"
        time_s, distance_cm = report["trace"]["time_s"], 100 * np.array(report["trace"]["distance_m"])
        (line,) = distance.plot(time_s, distance_cm, label=label)
        for name, mark in stages.items():
            if time_s and name in report["stage_s"]:
                at_s = report["stage_s"][name]
                place = at_s, np.interp(at_s, time_s, distance_cm)
                distance.plot(*place, mark, color=line.get_color(), markersize=6, markeredgecolor="black")
        cost.plot(report["plan_cost"]["time_s"], report["plan_cost"]["value"])
        surprise.plot(report["surprise"]["time_s"], report["surprise"]["value"])
    if success_m is not None:
        distance.axhline(100 * success_m, color="grey", linestyle="--", label="near enough")
    for name, mark in stages.items():
        distance.plot([], [], mark, color="white", markeredgecolor="black", label=name)
    distance.set(xlabel="time / s", title="Distance to the goal / cm", ylim=(0, None))
    distance.legend(fontsize="small", ncols=2)
    cost.set(xlabel="time / s", title="Plan cost (squared latent distance)", yscale="log")
    surprise.set(xlabel="time / s", title="Surprise / standard deviations")
    figure.savefig(path, dpi=100)
    plt.close(figure)
