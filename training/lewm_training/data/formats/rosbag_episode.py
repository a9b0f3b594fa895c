"""Samples of a recording to the rows of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.observation import Observation
from lewm_ros.observation.timeline import Sample
from lewm_ros.robot.continuous import begin_in_first_turn, find_wrap, follow_turns
from lewm_ros.robot.rotations import quaternions_of
from lewm_training.data import EpisodeError
from lewm_training.data.formats.rosbag_config import HAND, STAMPS, Moves, RecordingConfig
from lewm_training.data.formats.rosbag_topics import Sources
from lewm_training.data.spec import PROPRIO, camera_columns

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RecordedStep:
    """What was seen at one time, and what was commanded until then."""

    seen: Observation
    command: Array | None
    gripper: Array | None


class RecordedEpisode:
    """Rows that follow one another at `control_hz`. The sample after a row gives its action.

    Args:
        config: names topics and action space.
        sources: read the samples.
        written: the rows are on disk already and are only counted.
    """

    def __init__(self, config: RecordingConfig, sources: Sources, written: bool) -> None:
        self.samples = 0
        self._config, self._sources, self._written = config, sources, written
        self._refusal: EpisodeError | None = None
        self._begin_ns = 0
        self._steps: list[RecordedStep] = []

    @property
    def rows(self) -> int:
        """Rows that have their action."""
        return max(0, self.samples - 1)

    @property
    def refused(self) -> bool:
        """Whether something in it cannot be used."""
        return self._refusal is not None

    def add(self, sample: Sample) -> None:
        """Take in the next sample. If it cannot be used, the episode is refused as a whole."""
        if not self.samples:
            self._begin_ns = sample.time_ns
        if not self._written and self._refusal is None:
            try:
                self._steps.append(self._read_step(sample))
            except ValueError as error:
                self.refuse(str(error))
        self.samples += 1

    def refuse(self, reason: str) -> None:
        """Give the episode up, at the row that the next sample begins."""
        self._refusal = self._refusal or EpisodeError(reason, self.samples)
        self._steps.clear()

    def read(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Columns and notes.

        Raises:
            EpisodeError: the episode was refused.
        """
        if self._refusal is not None:
            raise self._refusal
        vectors = {name: self._vector(name) for name in self._config.joint_vectors}
        seen = [step.seen for step in self._steps[:-1]]
        columns = {
            column: np.stack([observation.frames[camera] for observation in seen])
            for camera, column in camera_columns(list(self._config.camera_topics)).items()
        }
        columns |= {name: values[:-1].astype(np.float32) for name, values in vectors.items()}
        if (kinematics := self._config.kinematics) is not None:
            poses = kinematics.poses(vectors[PROPRIO][:-1])
            position, quaternion = poses[:, :3, 3], quaternions_of(poses[:, :3, :3])
            columns |= {
                name: value.astype(np.float32) for name, value in zip(HAND, (position, quaternion), strict=True)
            }
        columns["action"] = self._actions(vectors.get(PROPRIO)).astype(np.float32)
        columns[STAMPS] = np.array([observation.stamp_ns for observation in seen], dtype=np.int64)
        return columns, {"begin_ns": self._begin_ns}

    def _read_step(self, sample: Sample) -> RecordedStep:
        config, sources = self._config, self._sources
        values = {label: source.value(sample.held[label], sample.time_ns) for label, source in sources.tracks.items()}
        vectors = {name: values[label] for name, label in sources.vectors.items()}
        frames = sources.cameras.label
        return RecordedStep(
            seen=Observation(values[frames], vectors, sample.held[frames].stamp_ns),
            command=values.get(config.command),
            gripper=values.get(config.gripper),
        )

    def _vector(self, name: str) -> Array:
        """Measured positions (rows + 1, n), of continuous joints the shortest way from row to row.

        Raises:
            EpisodeError: a joint of the arm wraps that is not declared continuous.
        """
        config = self._config
        measured = np.stack([step.seen.vectors[name] for step in self._steps])
        if name != PROPRIO:
            return measured
        row, wraps = find_wrap(measured, config.joint_names, config.continuous_joints)
        if wraps:
            raise EpisodeError(f"{config.joint_states}: {wraps} (declare it in continuous_joints)", row)
        return begin_in_first_turn(measured, config.joint_names, config.continuous_joints)

    def _actions(self, positions_rad: Array | None) -> Array:
        """What was done between successive steps (rows, channels), with measured positions (rows + 1, J)."""
        config, after = self._config, self._steps[1:]
        if config.moves is not Moves.JOINTS:
            per_s = config.control_hz if config.moves is Moves.HAND else 1.0
            moved = np.stack([step.command for step in after]) / per_s
        else:
            if config.command:
                commanded_rad = np.stack([step.command for step in self._steps])
                positions_rad = follow_turns(commanded_rad, config.joint_names, config.continuous_joints)
            moved = np.diff(positions_rad, axis=0)
        return np.hstack([moved, *([np.stack([step.gripper for step in after])] if config.gripper else [])])
