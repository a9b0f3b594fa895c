"""Samples of a recording to the rows of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.timeline import Sample
from lewm_ros.robot.continuous import begin_in_first_turn, find_wrap, follow_turns
from lewm_training.data import EpisodeError
from lewm_training.data.formats.rosbag_config import RecordingConfig
from lewm_training.data.formats.rosbag_topics import Topic

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """What was seen at one time, and what was commanded until then."""

    frame: NDArray[np.uint8]
    frame_stamp_ns: int
    positions_rad: Array
    command: Array | None
    gripper: Array | None


class RecordedEpisode:
    """Rows that follow one another at `control_hz`. The sample after a row gives its action.

    Args:
        config: names topics and action space.
        topics: read the samples.
        written: the rows are on disk already and are only counted.
    """

    def __init__(self, config: RecordingConfig, topics: dict[str, Topic], written: bool) -> None:
        self.samples = 0
        self._config, self._topics, self._written = config, topics, written
        self._refusal: EpisodeError | None = None
        self._begin_ns = 0
        self._seen: list[Observation] = []

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
                self._seen.append(self._observe(sample))
            except ValueError as error:
                self.refuse(str(error))
        self.samples += 1

    def refuse(self, reason: str) -> None:
        """Give the episode up, at the row that the next sample begins."""
        self._refusal = self._refusal or EpisodeError(reason, self.samples)
        self._seen.clear()

    def read(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Columns and notes.

        Raises:
            EpisodeError: the episode was refused.
        """
        if self._refusal is not None:
            raise self._refusal
        rows = self._seen[:-1]
        positions_rad = self._positions_rad()
        columns = {
            "pixels": np.stack([row.frame for row in rows]),
            "proprio": positions_rad[:-1].astype(np.float32),
            "action": self._actions(positions_rad).astype(np.float32),
            "frame_stamp_ns": np.array([row.frame_stamp_ns for row in rows], dtype=np.int64),
        }
        return columns, {"begin_ns": self._begin_ns}

    def _observe(self, sample: Sample) -> Observation:
        config = self._config
        values = {name: self._value(name, sample) for name in self._topics}
        return Observation(
            frame=values[config.image],
            frame_stamp_ns=sample.held[config.image].stamp_ns,
            positions_rad=values[config.joint_states],
            command=values.get(config.command),
            gripper=values.get(config.gripper),
        )

    def _value(self, name: str, sample: Sample) -> NDArray[Any]:
        try:
            return self._topics[name].value(sample.held[name], sample.time_ns)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def _positions_rad(self) -> Array:
        """Measured positions (rows + 1, 7), of continuous joints the shortest way from row to row.

        Raises:
            EpisodeError: a joint wraps that is not declared continuous.
        """
        config = self._config
        measured_rad = np.stack([row.positions_rad for row in self._seen])
        row, wraps = find_wrap(measured_rad, config.joint_names, config.continuous_joints)
        if wraps:
            raise EpisodeError(f"{config.joint_states}: {wraps} (declare it in continuous_joints)", row)
        return begin_in_first_turn(measured_rad, config.joint_names, config.continuous_joints)

    def _actions(self, positions_rad: Array) -> Array:
        """What was done between successive observations (rows, 7), with measured positions (rows + 1, 7)."""
        config, after = self._config, self._seen[1:]
        if config.action_space == "ee_delta":
            return np.stack([np.concatenate([row.command / config.control_hz, row.gripper]) for row in after])
        if config.command:
            commanded_rad = np.stack([row.command for row in self._seen])
            return np.diff(follow_turns(commanded_rad, config.joint_names, config.continuous_joints), axis=0)
        return np.diff(positions_rad, axis=0)
