"""What a recorded episode must satisfy before a model learns from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError, UserError
from lewm_ros.robot.action_space import ACTION_DIM, ARM_KINDS

Columns = Mapping[str, NDArray[Any]]

FULL_TURN_RAD = 2.0 * math.pi
LIMIT_TOLERANCE = 1e-3
"""By how much, relative, an action may pass its declared limit: rounding."""

CLOCK_TOLERANCE = 0.5
"""By how much of a control step two time stamps may differ from one."""

RESERVED_NAMES = ("pixels", "action", "proprio", "timestamp_s", "ep_len", "ep_offset")
"""Columns that every dataset writes itself."""

LFS_BEGINNING = b"version https://git-lfs.github.com/spec/v1"


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


class SkippableError(DatasetError):
    """A bad episode of a dataset that can be used without it."""


def check_label_names(names: Iterable[str]) -> None:
    """Raise ConfigError for a name that a label's column cannot have."""
    for name in names:
        if name in RESERVED_NAMES:
            raise ConfigError(f"labels: '{name}' is a column of the dataset itself; choose another name")
        if not name or "/" in name or name == ".":
            raise ConfigError(f"labels: '{name}' is no name of a column; choose one without '/'")


def refuse_lfs_pointer(path: Path) -> None:
    """Raise DatasetError if a file is only what Git LFS leaves in the place of one."""
    with path.open("rb") as file:
        if file.read(len(LFS_BEGINNING)) == LFS_BEGINNING:
            raise DatasetError(f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull`")


def check_episode(columns: Columns, meta: Mapping[str, Any]) -> None:
    """Check the columns of one episode against what `meta` declares: finite, of one length, in its units, on time.

    Args:
        columns: the episode's columns, each (steps, ...); those that are absent are not checked.
        meta: `action_space`, `limit`, `control_hz`, `joint_names` and `continuous_joints` as far as they are known.

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
        _check_positions(columns["proprio"], meta)
    if "action" in columns and "limit" in meta:
        _check_action(columns["action"], meta)
    if "timestamp_s" in columns and "control_hz" in meta:
        check_clock(columns["timestamp_s"], 1.0 / meta["control_hz"])


def _check_positions(positions_rad: NDArray[Any], meta: Mapping[str, Any]) -> None:
    names, continuous = meta.get("joint_names", ()), meta.get("continuous_joints", ())
    beyond = np.abs(positions_rad) > FULL_TURN_RAD
    if beyond.ndim == 2 and beyond.shape[1] == len(names):
        beyond[:, [name in continuous for name in names]] = False
    _refuse(beyond, "proprio is beyond 2 pi rad (are these degrees? a continuous joint belongs in continuous_joints)")


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
    """Raise EpisodeError where two time stamps (steps,) or (steps, 1) in a row are not about one period apart."""
    if stamps_s.size != len(stamps_s):
        raise EpisodeError(f"a row has {stamps_s.size // len(stamps_s)} time stamps")
    steps_s = np.diff(stamps_s.reshape(-1))
    jumps = np.abs(steps_s - period_s) > CLOCK_TOLERANCE * period_s
    if jumps.any():
        row = int(np.argmax(jumps))
        raise EpisodeError(f"the clock moves by {steps_s[row]:.4g} s instead of {period_s:.4g} s", row + 1)


def _refuse(wrong: NDArray[np.bool_], reason: str) -> None:
    rows = wrong.reshape(len(wrong), -1).any(axis=1)
    if rows.any():
        raise EpisodeError(reason, int(np.argmax(rows)))
