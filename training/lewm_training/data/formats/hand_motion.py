"""Whether recorded commands of a hand are what its recorded motion shows: their directions, rows, rate and gripper.

A source can be wrong about all of these, or the YAML about the source, and no model would say so: it would learn
something else. So commands are compared with the motion that followed before anything is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.robot.twist import AXES
from lewm_training.data import DatasetError
from lewm_training.data.formats.declaration import ColumnDeclaration, MotionColumns

Array = NDArray[np.float64]

LEAST_ROWS = 30
"""With fewer rows that tell, nothing is said."""

LEAST_COMMAND = 0.02
"""Of the largest command: below that share, spread over an axis, it tells nothing of the axis."""

LEAST_CORRELATION = 0.2
"""Between a commanded shift and the motion in its row: below it, they have nothing to do with each other."""

RESPONSE_TOLERANCE = 4.0 / 3.0
"""Factor by which the response may differ; twice the rate is nearly twice the response."""

LEAST_GAIN = 1.02
"""By so much less must remain unexplained if commands belong to the motion of another row."""

LEAST_OPENING, LEAST_MOVES = 0.02, 10
"""Share of the whole opening by which it changes in a row in which the gripper moves, and how many such rows tell."""


def check_motion(declaration: ColumnDeclaration, episodes: Iterable[Mapping[str, NDArray[Any]]], where: str) -> None:
    """Compare commands with motion, as far as `declaration.motion` asks for it.

    Args:
        declaration: what is said of the source.
        episodes: columns as the import writes them.
        where: the source, for errors.

    Raises:
        DatasetError: they contradict each other.
    """
    motion = declaration.motion
    if motion is None:
        return
    columns = list(episodes)
    space = declaration.space(1.0)
    shifts = [space.names.index(axis) for axis in AXES[:3]]
    commands = [episode["action"][:, shifts].astype(np.float64) for episode in columns]
    speeds = [np.diff(episode[motion.position].astype(np.float64), axis=0) for episode in columns]  # m per row
    for problem in (
        _direction_problem(commands, speeds, space.high[shifts]),
        _row_problem(commands, speeds, declaration.observed),
        _response_problem(commands, speeds, motion),
        _gripper_problem(columns, motion, space.names),
    ):
        if problem:
            raise DatasetError(f"{where}: {problem}")


def _direction_problem(commands: list[Array], speeds: list[Array], most: Array) -> str:
    told = np.concatenate([c[: len(v)] for c, v in zip(commands, speeds, strict=True)])
    moved = np.concatenate(speeds)
    for axis, name in enumerate(AXES[:3]):
        if len(told) < LEAST_ROWS or told[:, axis].std() < LEAST_COMMAND * most[axis] or not moved[:, axis].any():
            continue
        correlation = float(np.corrcoef(told[:, axis], moved[:, axis])[0, 1])
        if correlation < LEAST_CORRELATION:
            against = "goes against" if correlation < -LEAST_CORRELATION else "has nothing to do with"
            return (
                f"the action's '{name}' {against} the hand's motion (correlation {correlation:.2f}); "
                "see action_indices, action_scale and motion.position"
            )
    return ""


def _row_problem(commands: list[Array], speeds: list[Array], observed: str) -> str:
    """Commands belong to the row whose motion they explain, beside the motion before."""
    left = {shift: _follow(commands, speeds, shift)[1] for shift in (-1, 0, 1)}
    best = min(left, key=lambda shift: left[shift])
    if best == 0 or left[0] < LEAST_GAIN * left[best]:
        return ""
    other = "after" if observed == "before" else "before"
    hint = f"observed: {other}" if (best == 1) == (observed == "before") else "action and state are of other rows"
    return f"the hand moves as the action of the {'next' if best == 1 else 'last'} row asks for; {hint} would be right"


def _response_problem(commands: list[Array], speeds: list[Array], motion: MotionColumns) -> str:
    found = _follow(commands, speeds, 0)[0]
    if motion.response is None or not np.isfinite(found):
        return ""
    if 1.0 / RESPONSE_TOLERANCE < found / motion.response < RESPONSE_TOLERANCE:
        return ""
    return (
        f"the hand moves {found:.2g} of a commanded shift per row, motion.response says {motion.response:.2g}: "
        "rows are at another rate than control_hz, or action_scale is wrong"
    )


def _follow(commands: list[Array], speeds: list[Array], shift: int) -> tuple[float, float]:
    """The response, and the share of motion that stays unexplained by v[t] = a v[t-1] + b command[t + shift].

    A hand follows a command with inertia. A command that lasts moves it by b / (1 - a) of the shift per row.
    """
    before, now, told = [], [], []
    for command, speed in zip(commands, speeds, strict=True):
        rows = np.arange(1, len(speed) - 1)  # those that have a command for every shift
        before.append(speed[rows - 1].ravel())
        now.append(speed[rows].ravel())
        told.append(command[rows + shift].ravel())
    x, y = np.stack([np.concatenate(before), np.concatenate(told)], axis=1), np.concatenate(now)
    if len(y) < 3 * LEAST_ROWS or not x.std(0).all():
        return float("nan"), 1.0
    (inertia, push), *_ = np.linalg.lstsq(x, y, rcond=None)
    unexplained = float(np.square(y - x @ [inertia, push]).sum() / np.square(y).sum())
    return float(push / (1.0 - inertia)), unexplained


def _gripper_problem(columns: list[Mapping[str, NDArray[Any]]], motion: MotionColumns, names: tuple[str, ...]) -> str:
    if not motion.opening or "gripper" not in names:
        return ""
    told = np.concatenate([episode["action"][:-1, names.index("gripper")] for episode in columns])
    opened = np.concatenate([np.diff(episode[motion.opening][:, 0].astype(np.float64)) for episode in columns])
    whole = np.ptp(np.concatenate([episode[motion.opening][:, 0] for episode in columns]))
    moves = np.abs(opened) > LEAST_OPENING * whole
    if moves.sum() < LEAST_MOVES or np.ptp(told[moves]) == 0.0:
        return ""
    middle = (told.min() + told.max()) / 2.0
    closing = float(np.mean((told[moves] > middle) == (opened[moves] < 0.0)))
    if closing >= 0.5:
        return ""
    return (
        f"the gripper closes where the action's 'gripper' opens it, in {1 - closing:.0%} of rows in which it moves; "
        "-1 must open and +1 close, see action_scale"
    )
