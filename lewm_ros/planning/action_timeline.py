"""What the robot has done, is doing and will do next: actions along one line of time."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.action_space import ActionSpace

Array = NDArray[np.float64]
Times = NDArray[np.int64]


class ActionTimeline:
    """One action per control step: those that were executed, then those that are scheduled, then rest.

    Frames need not be in phase with commands: over any stretch of time, deltas add up to what was done in it,
    velocities are averaged, and an absolute channel has the value in force at the middle. One thread may read while
    another writes.

    Args:
        space: of the actions.
    """

    def __init__(self, space: ActionSpace) -> None:
        self.space = space
        self.control_ns = round(NS_PER_S / space.control_hz)
        self._lock = threading.Lock()
        self._averaged = space.places("delta", "velocity")
        self.begin()

    def begin(self, newest: Array | None = None) -> None:
        """Forget everything: the robot rests.

        Args:
            newest: the action (dim,) executed last, in which channels that rest where they are stand; None: not known.
        """
        with self._lock:
            self._newest = newest
            self._steps: tuple[Times, Times, Array] = _none(self.space.dim)

    def read(self, start_ns: int, steps: int) -> Array:
        """The actions (steps, dim) of so many control steps from `start_ns` on.

        Where nothing is known, they are those of rest; channels that rest as they are, and were nothing yet, are NaN.
        """
        starts, ends, actions = self._steps
        edges = start_ns + self.control_ns * np.arange(steps + 1)
        if not len(starts):
            return np.tile(self.space.rest(self._newest), (steps, 1))
        rested = np.array([self.space.rest(action) for action in actions])
        middles = (edges[:-1] + edges[1:]) // 2
        covering = np.searchsorted(starts, middles, side="right") - 1  # the newest step begun by then; -1: none
        read = rested[covering]
        read[covering < 0] = self.space.rest(self._newest)
        inside = (covering >= 0) & (middles < ends[covering])
        read[inside] = actions[covering[inside]]
        shares = (np.minimum(ends, edges[1:, None]) - np.maximum(starts, edges[:-1, None])).clip(0) / self.control_ns
        resting = np.outer(1.0 - shares.sum(1), self.space.rest(self._newest)[self._averaged])
        read[:, self._averaged] = shares @ actions[:, self._averaged] + resting
        return read

    def record(self, start_ns: int, actions: Array) -> None:
        """These (n, dim) were executed from `start_ns` on; what is scheduled after them stays."""
        self._write(start_ns, actions, start_ns, keep_later=True)

    def schedule(self, start_ns: int, actions: Array, from_ns: int | None = None) -> None:
        """These (n, dim), which begin at `start_ns`, take the place of all that was to be done from `from_ns` on.

        That is not before `start_ns`, which it is by default; of a step that has begun by then, the rest is taken over.
        """
        self._write(start_ns, actions, start_ns if from_ns is None else from_ns, keep_later=False)

    def forget_before(self, time_ns: int) -> None:
        """Drop the steps that ended before a time, but for the newest one."""
        with self._lock:
            starts, ends, actions = self._steps
            first = min(int(np.searchsorted(ends, time_ns)), max(len(starts) - 1, 0))
            self._steps = starts[first:], ends[first:], actions[first:]

    def _write(self, start_ns: int, actions: Array, from_ns: int, keep_later: bool) -> None:
        begins = start_ns + self.control_ns * np.arange(len(actions))
        end_ns = start_ns + self.control_ns * len(actions)
        with self._lock:
            before = _cut(self._steps, None, from_ns)
            after = _cut(self._steps, end_ns, None) if keep_later else _none(self.space.dim)
            written = _cut((begins, begins + self.control_ns, np.asarray(actions, np.float64)), from_ns, None)
            self._steps = tuple(map(np.concatenate, zip(before, written, after, strict=True)))


def _none(dim: int) -> tuple[Times, Times, Array]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dim))


def _cut(steps: tuple[Times, Times, Array], from_ns: int | None, to_ns: int | None) -> tuple[Times, Times, Array]:
    """What of the steps lies in a stretch of time; steps over its edge are cut, their rates stay."""
    starts, ends, actions = steps
    starts = starts if from_ns is None else np.maximum(starts, from_ns)
    ends = ends if to_ns is None else np.minimum(ends, to_ns)
    left = starts < ends
    return starts[left], ends[left], actions[left]
