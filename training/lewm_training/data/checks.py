"""What a recorded episode must satisfy before a model learns from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import UserError
from lewm_ros.robot.action_space import ACTION_DIM, ARM_KINDS

Columns = Mapping[str, NDArray[Any]]

FULL_TURN_RAD = 2.0 * math.pi
LIMIT_TOLERANCE = 1e-3
"""By how much, relative, an action may pass its declared limit: rounding."""

CLOCK_TOLERANCE = 0.5
"""By how much of a control step two time stamps may differ from one."""


class DatasetError(UserError, ValueError):
    """A dataset that cannot be used; the message is one line for the user."""


class EpisodeError(DatasetError):
    """An episode that cannot be used, from `row` on if there is one; `reason` says why."""

    def __init__(self, reason: str, row: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.row = reason, row

    def named(self, episode: int | str) -> str:
        """The reason, with the episode and the row where it shows."""
        row = "" if self.row is None else f", row {self.row}"
        return f"{self.reason} in episode {episode}{row}"


def check_episode(columns: Columns, meta: Mapping[str, Any]) -> None:
    """Check the columns of one episode against what `meta` declares: finite, of one length, in its units, on time.

    Args:
        columns: the episode's columns, each (steps, ...); those that are absent are not checked.
        meta: `action_space`, `limit`, `control_hz` as far as they are known.

    Raises:
        EpisodeError: names the first row that is wrong.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise EpisodeError(f"columns differ in length ({', '.join(f'{n} {c}' for n, c in lengths.items())})")
    for name, column in columns.items():
        if column.dtype.kind == "f":
            _refuse(~np.isfinite(column), f"{name} is not finite")
    if "proprio" in columns and meta.get("action_space") in ARM_KINDS:
        beyond = np.abs(columns["proprio"]) > FULL_TURN_RAD
        _refuse(beyond, "proprio is beyond 2 pi rad (are these degrees?)")
    if "action" in columns and "limit" in meta:
        _check_action(columns["action"], meta)
    if "timestamp_s" in columns and "control_hz" in meta:
        check_clock(columns["timestamp_s"], 1.0 / meta["control_hz"])


def _check_action(action: NDArray[Any], meta: Mapping[str, Any]) -> None:
    limit = np.asarray(meta["limit"], dtype=np.float64)
    size = ACTION_DIM if meta.get("action_space") in ARM_KINDS else len(limit)
    if action.ndim != 2 or action.shape[1] != size or len(limit) != size:
        raise EpisodeError(f"action has {action.shape[1:]} numbers per row and limit {len(limit)}, expected {size}")
    beyond = np.abs(action) > limit * (1.0 + LIMIT_TOLERANCE)
    largest = np.abs(action).max(axis=0, initial=0.0)
    worst = int(np.argmax(largest / limit))
    _refuse(
        beyond,
        f"action {worst} reaches {largest[worst]:.4g}, declared limit {limit[worst]:.4g} (another unit, or set limit)",
    )


def check_clock(stamps_s: NDArray[np.float64], period_s: float) -> None:
    """Raise EpisodeError where two time stamps (steps,) in a row are not about one period apart."""
    steps_s = np.diff(stamps_s)
    jumps = np.abs(steps_s - period_s) > CLOCK_TOLERANCE * period_s
    if jumps.any():
        row = int(np.argmax(jumps))
        raise EpisodeError(f"the clock moves by {steps_s[row]:.4g} s instead of {period_s:.4g} s", row + 1)


def _refuse(wrong: NDArray[np.bool_], reason: str) -> None:
    rows = wrong.reshape(len(wrong), -1).any(axis=1)
    if rows.any():
        raise EpisodeError(reason, int(np.argmax(rows)))
