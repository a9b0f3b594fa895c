"""Prediction errors, and when they are a problem."""

from __future__ import annotations

from typing import NamedTuple


class PredictionError(NamedTuple):
    """How wrong the prediction of one model step was. Both are squared distances, mean over dimensions.

    Attributes:
        error: of what was seen from what was predicted.
        change: of what was predicted from what had been seen before.
    """

    error: float
    change: float


class SurpriseWatch:
    """Judges surprises: prediction errors, in standard deviations above what is usual.

    Args:
        threshold: in standard deviations.
        steps: so many surprises above the threshold in a row are a problem.
    """

    HELD_STEPS = 8
    """A problem is spoken of for so many further steps, so that nobody misses it: a moved camera surprises only once,
    since the next prediction begins at a frame that has moved as well."""

    def __init__(self, threshold: float, steps: int) -> None:
        self._threshold, self._steps = threshold, steps
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._above = self._held = 0

    def saw(self, surprise: float) -> None:
        """Take in a surprise; the loop's first ones, while speed is ramped up, are better left out."""
        self._above = self._above + 1 if surprise > self._threshold else 0
        self._held = self.HELD_STEPS if self._above >= self._steps else max(self._held - 1, 0)

    @property
    def problem(self) -> str:
        """What is surprising; empty if nothing is."""
        if not self._held:
            return ""
        steps = f" in {self._steps} steps in a row" if self._steps > 1 else ""
        return f"surprise above {self._threshold:g}{steps}: the world is not as predicted"
