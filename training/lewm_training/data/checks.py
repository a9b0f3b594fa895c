"""What a recorded episode must satisfy before a model learns from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError, UserError
from lewm_ros.robot.action_space import ActionSpace
from lewm_training.data.spec import DatasetSpec

Columns = Mapping[str, NDArray[Any]]

FULL_TURN_RAD = 2.0 * math.pi
LIMIT_TOLERANCE = 1e-3
"""By how much, relative, an action may pass its declared limit: rounding."""

CLOCK_TOLERANCE = 0.5
"""By how much of a control step two time stamps may differ from one."""

RESERVED_NAMES = ("pixels", "action", "proprio", "timestamp_s", "ep_len", "ep_offset")
"""Columns that a dataset writes itself; `proprio` may be declared among its vectors."""

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


def check_column_names(key: str, names: Iterable[str], taken: Collection[str] = RESERVED_NAMES) -> None:
    """Raise ConfigError for a name under the key `key` that a column cannot have, or that is taken already."""
    for name in names:
        if name in taken:
            raise ConfigError(f"{key}: '{name}' is a column of the dataset itself; choose another name")
        if not name or "/" in name or name == ".":
            raise ConfigError(f"{key}: '{name}' is no name of a column; choose one without '/'")


def refuse_lfs_pointer(path: Path) -> None:
    """Raise DatasetError if a file is only what Git LFS leaves in the place of one."""
    with path.open("rb") as file:
        if file.read(len(LFS_BEGINNING)) == LFS_BEGINNING:
            raise DatasetError(f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull`")


def check_episode(columns: Columns, spec: DatasetSpec) -> None:
    """Check the columns of one episode against what is declared of them: finite, of one length, in units, on time.

    Args:
        columns: the episode's columns, each (steps, ...); those that are absent are not checked.
        spec: what they are, as far as it is known.

    Raises:
        EpisodeError: names the first row that is wrong.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise EpisodeError(f"columns differ in length ({', '.join(f'{n} {c}' for n, c in lengths.items())})")
    for name, column in columns.items():
        if column.dtype.kind == "f":
            _refuse(~np.isfinite(column), f"{name} is not finite")
    for name, components in spec.vectors.items():
        if name in columns and columns[name].shape[1:] != (len(components),):
            size = columns[name].shape[1:]
            raise EpisodeError(f"{name} has {size} numbers per row, expected {len(components)}")
    _check_angles(columns, spec)
    if spec.action_space is not None:
        if "action" in columns:
            _check_action(columns["action"], spec.action_space)
        if "timestamp_s" in columns:
            check_clock(columns["timestamp_s"], 1.0 / spec.action_space.control_hz)


def _check_angles(columns: Columns, spec: DatasetSpec) -> None:
    """Joints, which are what deltas in rad add up to, must be within a turn unless they have no limit."""
    units = {channel.name: channel.unit for channel in spec.action_space.channels} if spec.action_space else {}
    limited: dict[str, list[int]] = {}
    for name, (column, place) in spec.positions.items():
        if column in columns and units[name] == "rad" and name not in spec.continuous_joints:
            limited.setdefault(column, []).append(place)
    for column, places in limited.items():
        hint = "are these degrees? a continuous joint belongs in continuous_joints"
        _refuse(np.abs(columns[column][:, places]) > FULL_TURN_RAD, f"{column} is beyond 2 pi rad ({hint})")


def _check_action(action: NDArray[Any], space: ActionSpace) -> None:
    if action.ndim != 2 or action.shape[1] != space.dim:
        raise EpisodeError(f"action has {action.shape[1:]} numbers per row, expected {space.dim}")
    slack = LIMIT_TOLERANCE * (space.high - space.low)
    beyond = (action < space.low - slack) | (action > space.high + slack)
    excess = np.maximum(action - space.high, space.low - action).max(axis=0, initial=-np.inf) / slack
    worst = int(np.argmax(excess))
    channel, reached = space.channels[worst], action[:, worst]
    largest = reached[np.argmax(np.abs(reached))] if len(reached) else 0.0
    _refuse(
        beyond,
        f"action '{channel.name}' reaches {largest:.4g}, declared limit {channel.low:.4g} to {channel.high:.4g} "
        "(another unit, or set limit)",
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
