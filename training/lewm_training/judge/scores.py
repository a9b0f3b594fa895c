"""How well predictions agree with the truth, with intervals by episode.

Every score takes weights (R, M) of the M frames, and gives R figures at once: the first of `episode_weights` counts
every frame once, the others are resamples of whole episodes, since the frames of one are alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 500
PERCENTILES = (2.5, 97.5)


def episode_weights(episodes: NDArray[np.int64], seed: int) -> Array:
    """How often each frame counts (1 + RESAMPLES, M), of frames of these episodes (M,): once, then as resampled."""
    numbers, place = np.unique(episodes, return_inverse=True)
    shares = np.full(len(numbers), 1.0 / len(numbers))
    drawn = np.random.default_rng(seed).multinomial(len(numbers), shares, RESAMPLES)
    return np.concatenate([np.ones((1, len(numbers))), drawn])[:, place]


def once(frames: int) -> Array:
    """Weights (1, M) that count every frame once."""
    return np.ones((1, frames))


def with_interval(values: Array) -> dict[str, Any]:
    """The first of R figures, and the 95 % interval of the others: percentiles of the bootstrap (Efron, 1979)."""
    low, high = np.nanpercentile(values[1:], PERCENTILES)
    return {"value": round(float(values[0]), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def r_squared(predicted: Array, true: Array, weights: Array) -> Array:
    """Share of the variance of each component of `true` (M, L) that is predicted (R, L)."""
    centred = true - true.mean(0)
    spread = weights @ centred**2 - (weights @ centred) ** 2 / weights.sum(1, keepdims=True)
    return 1.0 - (weights @ (true - predicted) ** 2) / (spread + 1e-12)


def pearson_r(predicted: Array, true: Array, weights: Array) -> Array:
    """Correlation (R, L) of each component of (M, L) and (M, L); 0 where one of the two never changes."""
    a, b, count = predicted - predicted.mean(0), true - true.mean(0), weights.sum(1, keepdims=True)
    mean_a, mean_b = weights @ a / count, weights @ b / count
    together = weights @ (a * b) / count - mean_a * mean_b
    alone = (weights @ a**2 / count - mean_a**2) * (weights @ b**2 / count - mean_b**2)
    return together / (np.sqrt(np.maximum(alone, 0.0)) + 1e-12)


def median(errors: Array, weights: Array) -> Array:
    """Median (R,) of errors (M,) or (M, L)."""
    each = errors.size // len(errors)
    order = errors.ravel().argsort()
    ordered, frames = errors.ravel()[order], order // each
    sums = (np.cumsum(row[frames]) for row in weights)
    return np.array([ordered[np.searchsorted(total, total[-1] / 2)] for total in sums])


def balanced_accuracy(probability: Array, true: Array, weights: Array) -> Array:
    """Share (R,) of right answers (M,) to a yes-or-no question, yes and no counted alike: .5 is guessing."""
    right = (probability >= 0.5) == (true >= 0.5)
    answers = [true >= 0.5, true < 0.5]
    with np.errstate(invalid="ignore"):  # a resample without a yes or a no has no figure
        return np.mean([weights @ (right & answer) / (weights @ answer) for answer in answers], axis=0)


def auroc(score: Array, true: Array, weights: Array) -> Array:
    """Chance (R,) that a yes has a higher score (M,) than a no, ties by half: .5 is guessing (Mann and Whitney)."""
    order = score.argsort()
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    yes, no = (np.add.reduceat((weights * answer)[:, order], starts, axis=1) for answer in (true >= 0.5, true < 0.5))
    below = np.cumsum(no, axis=1) - no
    with np.errstate(invalid="ignore"):
        return (yes * (below + no / 2)).sum(1) / (yes.sum(1) * no.sum(1))
