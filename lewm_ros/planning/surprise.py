"""When a prediction error is a surprise, and when a surprise is a problem."""

from __future__ import annotations


class SurpriseWatch:
    """Judges prediction errors by how they were distributed on validation data.

    Args:
        mean, std: of the one-step prediction error on validation data; 0 and 1 leave it as it is.
        threshold: in standard deviations above the mean.
        steps: so many surprises above the threshold in a row are a problem.
    """

    HELD_STEPS = 8
    """A problem is spoken of for so many further steps, so that nobody misses it: a moved camera surprises only once,
    since the next prediction begins at a frame that has moved as well."""

    def __init__(self, mean: float, std: float, threshold: float, steps: int) -> None:
        self._mean, self._std, self._threshold, self._steps = mean, std, threshold, steps
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._above = self._held = 0

    def normalise(self, error: float) -> float:
        """Standard deviations above the mean."""
        return (error - self._mean) / self._std

    def saw(self, score: float) -> None:
        """Take in a normalised error; the loop's first ones, while speed is ramped up, are better left out."""
        self._above = self._above + 1 if score > self._threshold else 0
        self._held = self.HELD_STEPS if self._above >= self._steps else max(self._held - 1, 0)

    @property
    def problem(self) -> str:
        """What is surprising; empty if nothing is."""
        if not self._held:
            return ""
        steps = f" in {self._steps} steps in a row" if self._steps > 1 else ""
        return f"surprise above {self._threshold:g}{steps}: the world is not as predicted"
