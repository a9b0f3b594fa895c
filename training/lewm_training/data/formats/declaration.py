"""What the YAML of an import declares about a source, and how its episodes become this project's columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError, load
from lewm_ros.observation.input_spec import UNNAMED, fit_frame
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.arm_actions import declared_space
from lewm_ros.robot.continuous import begin_in_first_turn, find_wrap, follow_turns
from lewm_ros.robot.rotations import quaternions
from lewm_ros.robot.twist import AXES
from lewm_training.data import DatasetError, EpisodeError
from lewm_training.data.checks import FULL_TURN_RAD, RESERVED_NAMES, check_column_names
from lewm_training.data.spec import PROPRIO, DatasetSpec, camera_columns

ANGLES = ("radians", "degrees")
ACTIONS = ("delta", "target", "measured")
OBSERVED = ("before", "after")
FLIPS = ("", "vertical", "horizontal")
AS_QUATERNION = {"": None, "rotation_vector": 3, "quaternion_xyzw": 4}
"""How a source stores a rotation, and in how many numbers."""


@dataclass(frozen=True)
class VectorColumn:
    """A vector of the dataset, taken from a column of the source.

    Args:
        column: the source's.
        names: of the vector's numbers; empty: they have none, and no model takes the vector in.
        indices: which of the column's numbers they are; empty: all.
        rotation: what the column stores, if that is to become a quaternion w, x, y, z: `rotation_vector` (rad) or
            `quaternion_xyzw`; empty: the numbers stay as they are.
    """

    column: str
    names: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()
    rotation: str = ""

    def __post_init__(self) -> None:
        if not self.column:
            raise ConfigError("column: must not be empty")
        if min(self.indices, default=0) < 0:
            raise ConfigError("indices: must be numbers from 0 on")
        if len(set(self.names)) != len(self.names):
            raise ConfigError(f"names: each only once, got {', '.join(self.names)}")
        if self.names and self.indices and len(self.names) != len(self.indices):
            raise ConfigError(f"names: {len(self.names)} for {len(self.indices)} indices")
        if self.rotation not in AS_QUATERNION:
            known = ", ".join(filter(None, AS_QUATERNION))
            raise ConfigError(f"rotation: must be one of {known}, got '{self.rotation}'")

    def as_declared(self, values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        """The vector (steps, n) from the numbers that were chosen of its column; `name` is for errors.

        Raises:
            EpisodeError: they are not as many as a rotation has.
        """
        if self.rotation and values.shape[1] != AS_QUATERNION[self.rotation]:
            wanted = AS_QUATERNION[self.rotation]
            raise EpisodeError(f"{name} has {values.shape[1]} numbers, a {self.rotation} has {wanted}")
        if self.rotation == "rotation_vector":
            return quaternions(values)
        return values[:, [3, 0, 1, 2]] if self.rotation == "quaternion_xyzw" else values


@dataclass(frozen=True)
class MotionColumns:
    """What an import compares a recorded twist and gripper with, see `hand_motion`.

    Args:
        position: the vector of the hand's position, m, in axes that the twist has too.
        opening: the vector of a finger's or the gripper's opening, in any unit; larger is more open.
        response: how far the hand moves per row, as a share of a commanded shift that lasts.
    """

    position: str
    opening: str = ""
    response: float | None = None


@dataclass(frozen=True)
class ColumnDeclaration:
    """What a source does not say about itself.

    Args:
        action_space: joint_delta, ee_delta or other; the name of a space of one's own if there are `channels`.
        limit: largest action per control step: rad of each joint (joint_delta), m and rad of the twist (ee_delta), and,
            as one number more, of a gripper. A larger action is an error.
        channels: of a space of one's own, in place of `limit`.
        angles: unit of the source's joint positions, and of its actions on joints: radians or degrees.
        actions: what the source's actions are on the channels that are changes: `delta`, changes per control step, as
            here; `target`, the positions that were commanded; `measured`, to be taken from the measured positions.
        cameras: column of every camera, as NAME: COLUMN.
        pixels: the column of the only camera, in place of `cameras`.
        action: the action's column.
        vectors: what else is measured, as NAME: column, names, indices. `proprio` is the joint positions.
        state: the column of the joint positions, in place of `vectors: {proprio: ...}`; empty: there are none.
        labels: columns to take along unchanged, as NEW NAME: SOURCE'S NAME.
        state_indices: which of the state's numbers are the joints; empty: all.
        action_indices: which of the action's numbers count; empty: all.
        action_scale: factors on the action's numbers, for sources that store them scaled; empty: 1.
        action_offset: what is then added to them, such as -1 after a factor 2 for a gripper from 0 to 1; empty: 0.
        joint_names: the joints in the order of the state.
        continuous_joints: those of them that turn without end; the others have two ends.
        control_hz: rows per second; a source that says it itself must agree.
        stated_hz: what a source says in place of `control_hz` though that is right; None: it says what is right.
        observed: whether a row's frames and vectors are from `before` its action, as here, or from `after` it.
        flip: how frames are stored, `vertical` (upside down) or `horizontal` (mirrored); empty: as they were seen.
        motion: what actions are compared with before anything is imported; None: with nothing.
        image_size: frames are cropped to their central square and resized to this; None: they stay as they are.
        minimum_steps: shorter episodes are bad; 16 is a window of four frames, five control steps apart.
    """

    action_space: str
    angles: str
    limit: tuple[float, ...] = ()
    channels: tuple[Channel, ...] = ()
    actions: str = "delta"
    cameras: dict[str, str] = field(default_factory=dict)
    pixels: str = ""
    action: str = "action"
    vectors: dict[str, VectorColumn] = field(default_factory=dict)
    state: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    state_indices: tuple[int, ...] = ()
    action_indices: tuple[int, ...] = ()
    action_scale: tuple[float, ...] = ()
    action_offset: tuple[float, ...] = ()
    joint_names: tuple[str, ...] = ()
    continuous_joints: tuple[str, ...] = ()
    control_hz: float | None = None
    stated_hz: float | None = None
    observed: str = "before"
    flip: str = ""
    motion: MotionColumns | None = None
    image_size: int | None = None
    minimum_steps: int = 16

    def __post_init__(self) -> None:
        for key, known in (("angles", ANGLES), ("actions", ACTIONS), ("observed", OBSERVED), ("flip", FLIPS)):
            if getattr(self, key) not in known:
                shown = ", ".join(filter(None, known))
                raise ConfigError(f"{key}: must be one of {shown}, got '{getattr(self, key)}'")
        if bool(self.cameras) == bool(self.pixels):
            raise ConfigError("cameras: must name the columns of the cameras, or `pixels` that of the only one")
        if self.state and PROPRIO in self.vectors:
            raise ConfigError(f"vectors: '{PROPRIO}' stands there, and as `state` too; leave one out")
        self._check_names()
        self._check_actions()
        unknown = [name for name in self.continuous_joints if name not in self._joint_names]
        if unknown:
            raise ConfigError(f"continuous_joints: '{unknown[0]}' is none of the joints")
        for key in ("state_indices", "action_indices"):
            if min(getattr(self, key), default=0) < 0:
                raise ConfigError(f"{key}: must be numbers from 0 on")
        if self.stated_hz is not None and self.control_hz is None:
            raise ConfigError("stated_hz: needs `control_hz`, what is right in its place")
        if self.observed == "after" and self.actions != "delta":
            raise ConfigError(f"observed: 'after' is of actions that are 'delta', not '{self.actions}'")
        self._check_motion()
        for key in ("control_hz", "stated_hz", "image_size", "minimum_steps"):
            if getattr(self, key) is not None and getattr(self, key) <= 0:
                raise ConfigError(f"{key}: must be above 0")

    def _check_names(self) -> None:
        check_column_names("cameras", self.cameras, ())
        columns = camera_columns(list(self.camera_sources)).values()
        check_column_names("vectors", self.vectors, {*RESERVED_NAMES, *columns} - {PROPRIO})
        check_column_names("labels", self.labels, {*RESERVED_NAMES, *columns, *self.vectors})

    def _check_actions(self) -> None:
        space = self.space(1.0)
        deltas = [space.channels[place].name for place in space.places("delta")]
        if self.actions != "delta":
            lost = [name for name in deltas if name not in self._joint_names]
            if lost or not deltas:
                raise ConfigError(f"actions: '{self.actions}' is of joint positions; {self.action_space} takes 'delta'")
        if self.actions == "measured" and len(deltas) < space.dim:
            other = next(name for name in space.names if name not in deltas)
            raise ConfigError(f"actions: 'measured' does not say what '{other}' was; take 'target' or 'delta'")
        for key in ("action_scale", "action_offset"):
            if getattr(self, key) and len(getattr(self, key)) != space.dim:
                raise ConfigError(f"{key}: must have {space.dim} numbers, one per channel")

    def _check_motion(self) -> None:
        if self.motion is None:
            return
        for key in ("position", "opening"):
            name = getattr(self.motion, key)
            if name not in self.measured and (name or key == "position"):
                raise ConfigError(f"motion.{key}: '{name}' is none of the vectors")
        lacking = [name for name in AXES if name not in self.space(1.0).names]
        if lacking:
            raise ConfigError(f"motion: is of a twist; {self.action_space} has no channel '{lacking[0]}'")

    @property
    def camera_sources(self) -> dict[str, str]:
        """The source's column of every camera, by name."""
        return self.cameras or {UNNAMED: self.pixels}

    @property
    def measured(self) -> dict[str, VectorColumn]:
        """All vectors, by name."""
        state = {PROPRIO: VectorColumn(self.state, self.joint_names, self.state_indices)} if self.state else {}
        return state | self.vectors

    @property
    def source_columns(self) -> dict[str, str]:
        """The columns other than frames that are read, as new name: source's name."""
        vectors = {name: vector.column for name, vector in self.measured.items()}
        named = {"action": self.action if self.actions != "measured" else "", **vectors, **self.labels}
        return {name: column for name, column in named.items() if column}

    def space(self, control_hz: float) -> ActionSpace:
        """The action space of the dataset.

        Raises:
            ConfigError: limit, channels and joints do not fit each other.
        """
        return declared_space(self.action_space, self.limit, self.channels, control_hz, self._joint_names)

    def spec(self, control_hz: float) -> DatasetSpec:
        """What the dataset holds."""
        vectors = {name: vector.names for name, vector in self.measured.items() if vector.names}
        cameras = camera_columns(list(self.camera_sources))
        return DatasetSpec(cameras, vectors, self.space(control_hz), self.continuous_joints)

    @np.errstate(invalid="ignore", over="ignore")  # what is not finite is refused afterwards, with its row
    def columns(self, source: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """An episode's columns from those of the source, under their new names, frames apart.

        Raises:
            EpisodeError: a vector or the action lacks one of the numbers asked for, or a joint wraps that is not
                declared continuous.
        """
        columns = {name: values for name, values in source.items() if name != "action"}
        joints = None
        for name, vector in self.measured.items():
            values = _choose(source[name], vector.indices, "state" if self.state and name == PROPRIO else name)
            if vector.names and values.shape[1] != len(vector.names):
                raise EpisodeError(f"{name} has {values.shape[1]} numbers and {len(vector.names)} names")
            if name == PROPRIO:
                values = joints = self._joints(values)
            columns[name] = vector.as_declared(values, name).astype(np.float32)
        columns["action"] = self._action(source, joints).astype(np.float32)
        if self.observed == "after":
            columns["action"] = columns["action"][1:]
        return {name: values[: len(columns["action"])] for name, values in columns.items()}

    def frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the camera saw, of a frame (height, width, 3) as the source stores it."""
        if self.flip:
            frame = np.ascontiguousarray(frame[::-1] if self.flip == "vertical" else frame[:, ::-1])
        return fit_frame(frame, self.image_size) if self.image_size else frame

    @property
    def _joint_names(self) -> tuple[str, ...]:
        return self.measured[PROPRIO].names if PROPRIO in self.measured else ()

    def _joints(self, stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint positions (steps, J) in rad; continuous ones go the shortest way from row to row."""
        joints_rad = self._radians(stored)
        if not self._joint_names:
            return joints_rad
        row, wraps = find_wrap(joints_rad, self._joint_names, self.continuous_joints)
        if wraps:
            raise EpisodeError(f"{wraps} (declare it in continuous_joints)", row)
        return begin_in_first_turn(joints_rad, self._joint_names, self.continuous_joints)

    def _action(self, source: Mapping[str, NDArray[Any]], joints: NDArray[np.float64] | None) -> NDArray[np.float64]:
        space = self.space(1.0)
        deltas = space.places("delta")
        names = [space.channels[place].name for place in deltas]
        if self.actions == "measured":
            return np.diff(self._positions(joints, names), axis=0)
        action = _choose(source["action"], self.action_indices, "action")
        if action.shape[1] != space.dim:
            raise EpisodeError(f"action has {action.shape[1]} numbers per row, expected {space.dim}")
        action = action * np.asarray(self.action_scale or 1.0) + np.asarray(self.action_offset or 0.0)
        of_joints = [place for place in deltas if space.channels[place].name in self._joint_names]
        action[:, of_joints] = self._radians(action[:, of_joints])
        if self.actions == "target":
            positions = np.concatenate([self._positions(joints, names)[:1], action[:, deltas]])
            action[:, deltas] = np.diff(follow_turns(positions, names, self.continuous_joints), axis=0)
        return action

    def _positions(self, joints: NDArray[np.float64] | None, names: list[str]) -> NDArray[np.float64]:
        """Measured positions (steps, len(names)) of some joints."""
        assert joints is not None
        return joints[:, [self._joint_names.index(name) for name in names]]

    def _radians(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.deg2rad(angles) if self.angles == "degrees" else angles


def read_declaration(path: Path | None, example: str) -> ColumnDeclaration:
    """Read the YAML of an import.

    Raises:
        ConfigError: there is none, or it does not fit.
    """
    if path is None:
        raise ConfigError(f"--config FILE is needed: it says what the actions are; {example} is an example")
    return load(ColumnDeclaration, path)


def refuse_radians(declaration: ColumnDeclaration, states: Iterable[NDArray[Any]], where: str) -> None:
    """Refuse joints that are declared to be degrees and look like radians, in all of the `states` (steps, ...).

    Raises:
        DatasetError: they never leave 2 pi.
    """
    if declaration.angles == "radians":
        return
    joints = declaration.measured[PROPRIO]
    chosen = (_choose(state, joints.indices, PROPRIO) for state in states)
    largest = max((float(np.nanmax(np.abs(state), initial=0.0)) for state in chosen), default=None)
    if largest is not None and largest <= FULL_TURN_RAD:
        raise DatasetError(f"{where}: '{joints.column}' is declared in degrees, but stays within {largest:.3g}")


def _choose(values: NDArray[Any], indices: tuple[int, ...], name: str) -> NDArray[np.float64]:
    values = values.reshape(len(values), -1).astype(np.float64)
    if indices and max(indices) >= values.shape[1]:
        raise EpisodeError(f"{name} has {values.shape[1]} numbers, number {max(indices)} is asked for")
    return values[:, list(indices)] if indices else values
