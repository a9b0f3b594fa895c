"""What the YAML of an import declares about a source, and how its episodes become this project's columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError, load
from lewm_ros.model.pixels import fit_frame
from lewm_ros.robot.action_space import ACTION_DIM, ARM_KINDS, KINDS
from lewm_ros.robot.continuous import begin_in_first_turn, find_wrap, follow_turns
from lewm_training.data import DatasetError, EpisodeError
from lewm_training.data.checks import FULL_TURN_RAD, check_label_names

ANGLES = ("radians", "degrees")
ACTIONS = ("delta", "target", "measured")


@dataclass(frozen=True)
class Declaration:
    """What a source does not say about itself.

    Args:
        action_space: joint_delta, ee_delta or other.
        limit: largest action per control step, in rad (joint_delta) or m, rad and gripper (ee_delta); a larger one is
            an error.
        angles: unit of the source's joint positions, and of its actions in joint_delta: radians or degrees.
        actions: what the source's actions are: `delta`, changes per control step, as here; `target`, the joint
            positions that were commanded; `measured`, to be taken from the measured joint positions.
        pixels: the camera's column.
        action: the action's column.
        state: the column of joint positions; empty: there are none.
        labels: columns to take along unchanged, as NEW NAME: SOURCE'S NAME.
        state_indices: which of the state's numbers are the joints; empty: all.
        action_indices: which of the action's numbers count; empty: all.
        action_scale: factors on the action's numbers, for sources that store them scaled; empty: 1.
        joint_names: the joints in the order of the state.
        continuous_joints: those of them that turn without end; the others have two ends.
        control_hz: rows per second; a source that says it itself must agree.
        image_size: frames are cropped to their central square and resized to this; None: they stay as they are.
        minimum_steps: shorter episodes are bad; 16 is a window of four frames, five control steps apart.
    """

    action_space: str
    limit: tuple[float, ...]
    angles: str
    pixels: str
    actions: str = "delta"
    action: str = "action"
    state: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    state_indices: tuple[int, ...] = ()
    action_indices: tuple[int, ...] = ()
    action_scale: tuple[float, ...] = ()
    joint_names: tuple[str, ...] = ()
    continuous_joints: tuple[str, ...] = ()
    control_hz: float | None = None
    image_size: int | None = None
    minimum_steps: int = 16

    def __post_init__(self) -> None:
        for key, known in (("action_space", KINDS), ("angles", ANGLES), ("actions", ACTIONS)):
            if getattr(self, key) not in known:
                raise ConfigError(f"{key}: must be one of {', '.join(known)}, got '{getattr(self, key)}'")
        if self.action_space in ARM_KINDS and len(self.limit) != ACTION_DIM:
            raise ConfigError(f"limit: must have {ACTION_DIM} numbers, got {len(self.limit)}")
        if not self.limit or min(self.limit) <= 0.0:
            raise ConfigError("limit: must be numbers above 0")
        if self.action_space == "joint_delta" and (not self.state or len(self.joint_names) != ACTION_DIM):
            raise ConfigError(
                f"state, joint_names: joint_delta needs the column of {ACTION_DIM} joints and their names"
            )
        if self.actions != "delta" and self.action_space != "joint_delta":
            raise ConfigError(f"actions: '{self.actions}' is of joint positions; {self.action_space} takes 'delta'")
        if self.action_scale and len(self.action_scale) != len(self.limit):
            raise ConfigError(f"action_scale: must have {len(self.limit)} numbers, as limit has")
        check_label_names(self.labels)
        unknown = [name for name in self.continuous_joints if name not in self.joint_names]
        if unknown:
            raise ConfigError(f"continuous_joints: '{unknown[0]}' is none of joint_names")
        for key in ("state_indices", "action_indices"):
            if min(getattr(self, key), default=0) < 0:
                raise ConfigError(f"{key}: must be numbers from 0 on")
        for key, least in (("control_hz", 0.0), ("image_size", 0), ("minimum_steps", 0)):
            if getattr(self, key) is not None and getattr(self, key) <= least:
                raise ConfigError(f"{key}: must be above 0")

    @property
    def source_columns(self) -> dict[str, str]:
        """The columns other than pixels that are read, as new name: source's name."""
        named = {"action": self.action if self.actions != "measured" else "", "proprio": self.state, **self.labels}
        return {name: column for name, column in named.items() if column}

    def meta(self, control_hz: float) -> dict[str, Any]:
        """What the dataset's `meta` says for all its episodes."""
        return {
            "action_space": self.action_space,
            "limit": self.limit,
            "joint_names": self.joint_names,
            "continuous_joints": self.continuous_joints,
            "control_hz": control_hz,
        }

    @np.errstate(invalid="ignore", over="ignore")  # what is not finite is refused afterwards, with its row
    def columns(self, source: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """An episode's columns from those of the source, under their new names, frames apart.

        Raises:
            EpisodeError: the state or the action lacks one of the numbers asked for, or a joint wraps that is not
                declared continuous.
        """
        columns = {name: values for name, values in source.items() if name not in ("action", "proprio")}
        state = None
        if "proprio" in source:
            state = self._state(source["proprio"])
            columns["proprio"] = state.astype(np.float32)
        columns["action"] = self._action(source, state).astype(np.float32)
        if self.actions == "measured":
            columns = {name: values[: len(columns["action"])] for name, values in columns.items()}
        return columns

    def frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A frame (height, width, 3) of the source as it is stored."""
        return fit_frame(frame, self.image_size) if self.image_size else frame

    def _state(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """The state (steps, numbers); joints are in rad, and continuous ones go the shortest way from row to row."""
        state = self._radians(_choose(stored, self.state_indices, "state"))
        if not self.joint_names:
            return state
        if state.shape[1] != len(self.joint_names):
            raise EpisodeError(f"state has {state.shape[1]} numbers and joint_names {len(self.joint_names)}")
        row, wraps = find_wrap(state, self.joint_names, self.continuous_joints)
        if wraps:
            raise EpisodeError(f"{wraps} (declare it in continuous_joints)", row)
        return begin_in_first_turn(state, self.joint_names, self.continuous_joints)

    def _action(self, source: dict[str, NDArray[Any]], state: NDArray[np.float64] | None) -> NDArray[np.float64]:
        if self.actions == "measured":
            return np.diff(state, axis=0)
        action = _choose(source["action"], self.action_indices, "action")
        if self.action_scale:
            action = action * np.asarray(self.action_scale)
        if self.action_space == "joint_delta":
            action = self._radians(action)
        if self.actions == "target":
            positions = np.concatenate([state[:1], action])
            return np.diff(follow_turns(positions, self.joint_names, self.continuous_joints), axis=0)
        return action

    def _radians(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.deg2rad(angles) if self.angles == "degrees" else angles


def read_declaration(path: Path | None, example: str) -> Declaration:
    """Read the YAML of an import.

    Raises:
        ConfigError: there is none, or it does not fit.
    """
    if path is None:
        raise ConfigError(f"--config FILE is needed: it says what the actions are; {example} is an example")
    return load(Declaration, path)


def refuse_radians(declaration: Declaration, states: Iterable[NDArray[Any]], where: str) -> None:
    """Refuse joints that are declared to be degrees and look like radians, in all of the `states` (steps, ...).

    Raises:
        DatasetError: they never leave 2 pi.
    """
    if declaration.angles == "radians":
        return
    chosen = (_choose(state, declaration.state_indices, "state") for state in states)
    largest = max((float(np.nanmax(np.abs(state), initial=0.0)) for state in chosen), default=None)
    if largest is not None and largest <= FULL_TURN_RAD:
        raise DatasetError(f"{where}: '{declaration.state}' is declared in degrees, but stays within {largest:.3g}")


def _choose(values: NDArray[Any], indices: tuple[int, ...], name: str) -> NDArray[np.float64]:
    values = values.reshape(len(values), -1).astype(np.float64)
    if indices and max(indices) >= values.shape[1]:
        raise EpisodeError(f"{name} has {values.shape[1]} numbers, number {max(indices)} is asked for")
    return values[:, list(indices)] if indices else values
