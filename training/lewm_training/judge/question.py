"""What is asked of every frame: a label, and how answers to it are judged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_training.judge.labels import Array, Label
from lewm_training.judge.regression import Parts, Target, linear_probe, logistic_probe
from lewm_training.judge.scores import (
    auroc,
    balanced_accuracy,
    episode_weights,
    median,
    pearson_r,
    r_squared,
    with_interval,
)

LEAST_SPREAD = 0.1
"""A component that spreads less than this share over the test frames, of what it does over those that probes are
fitted on, as good as never changes there: R2 and r would say nothing."""


class Question:
    """A label, the frames of each part that have it, and how answers to it are judged.

    Args:
        label: of all frames: to fit on, to stop on, and to test on, in this order.
        bounds: the first of the frames to stop on, and of those to test on.
        episodes: that of every frame.
        seed: of the intervals.
    """

    def __init__(self, label: Label, bounds: NDArray[np.int64], episodes: NDArray[np.int64], seed: int) -> None:
        self.label = label
        known = np.isfinite(label.values).all(axis=1)
        self.values = Parts(*np.split(np.where(known[:, None], label.values, np.nan), bounds))
        self.known = Parts(*np.split(known, bounds))
        self.true = self.values.test[self.known.test]
        fit = self.values.fit[self.known.fit]
        self.mean = fit.mean(0)
        self.weights = episode_weights(np.split(episodes, bounds)[2][self.known.test], seed)
        self.varies = self.true.std(0) > LEAST_SPREAD * fit.std(0)

    @property
    def target(self) -> Target:
        """What a network is to read."""
        return Target(self.values.fit, self.values.stop, self.label.yes_or_no)

    def describe(self) -> dict[str, Any]:
        """What the label is, and the error of always guessing the mean; of yes or no None."""
        guess = np.broadcast_to(self.mean, self.true.shape)
        errors = self.label.errors
        return {
            "unit": self.label.unit,
            "components": list(self.label.components),
            "yes_or_no": self.label.yes_or_no,
            "frames": [int(part.sum()) for part in self.known],
            "guessing": None if errors is None else float(np.median(errors(guess, self.true))),
        }

    def read(self, x: Parts) -> Array:
        """What a linear (of yes or no, logistic) probe reads of all frames to test on."""
        fit = self.known.fit
        regress = logistic_probe if self.label.yes_or_no else linear_probe
        return regress(x.fit[fit], self.values.fit[fit], x.test)

    def score(self, said: Array) -> dict[str, Any]:
        """Figures of answers (M, L) to the frames to test on, each with a 95 % interval by episode.

        Of yes or no `auroc` and `balanced_accuracy`; otherwise `r2` and `r`, means over the components that change
        over these frames, with each component's own, and `error`, the median in the label's unit.
        """
        said, true = said[self.known.test], self.true
        if self.label.errors is None:
            scores = {"auroc": auroc, "balanced_accuracy": balanced_accuracy}
            return {n: with_interval(score(said[:, 0], true[:, 0], self.weights)) for n, score in scores.items()}
        figures: dict[str, Any] = {"error": with_interval(median(self.label.errors(said, true), self.weights))}
        for name, score in {"r2": r_squared, "r": pearson_r}.items():
            values = score(said, true, self.weights)
            figures[name] = with_interval(values[:, self.varies].mean(1)) if self.varies.any() else None
            each = zip(values[0], self.varies, strict=True)
            figures[f"{name}_of_components"] = [round(float(v), 4) if told else None for v, told in each]
        return figures


def why_not(label: Label, bounds: NDArray[np.int64]) -> str:
    """Why a label cannot be asked for with these frames to fit, to stop and to test on; empty if it can be."""
    known = np.isfinite(label.values).all(axis=1)
    for purpose, here, values in zip(
        ("fit", "stop", "test on"), np.split(known, bounds), np.split(label.values, bounds), strict=True
    ):
        if not here.any():
            return f"no frame to {purpose} has it"
        if label.yes_or_no and purpose != "stop" and not np.ptp(values[here]):
            return f"always the same over the frames to {purpose}"
    return ""
