"""What no message reports by itself: clocks that jump, cameras that freeze, joints that cannot be where they say."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.continuous import find_wrap
from lewm_ros.robot.limits import JointLimits

Vector = NDArray[np.float32]
Array = NDArray[np.float64]


class ClockWatch:
    """Compares the clock of the stamps with a steady one.

    A clock may go slower than the steady one, stand still and catch up again, as simulated time does. It may not go
    back, nor be further ahead of the steady clock than it was before.

    Args:
        max_jump_s: larger differences are jumps.
        hold_s: how long a jump is spoken of.
    """

    WINDOW_S = 5.0

    def __init__(self, max_jump_s: float = 0.5, hold_s: float = 1.0) -> None:
        self._max_jump_s, self._hold_s = max_jump_s, hold_s
        self._last_s: float | None = None
        self._leads: deque[tuple[float, float]] = deque()
        self._until_s, self._problem = 0.0, ""

    def check(self, now_s: float, steady_s: float) -> str:
        """Call it often with both clocks; returns the problem, empty if there is none."""
        lead_s = now_s - steady_s
        while self._leads and self._leads[0][0] < steady_s - self.WINDOW_S:
            self._leads.popleft()
        jump_s = 0.0
        if self._last_s is not None and now_s < self._last_s - self._max_jump_s / 10.0:
            jump_s = now_s - self._last_s
        elif self._leads and lead_s > max(lead for _, lead in self._leads) + self._max_jump_s:
            jump_s = lead_s - max(lead for _, lead in self._leads)
        if jump_s:
            self._problem = f"the clock jumped {'back' if jump_s < 0.0 else 'forward'} by {abs(jump_s):.1f} s"
            self._until_s = steady_s + self._hold_s
            self._leads.clear()
        self._last_s = now_s
        self._leads.append((steady_s, lead_s))
        return self._problem if steady_s < self._until_s else ""


class FrozenWatch:
    """Notices a camera that repeats one frame under new stamps while the arm moves.

    An arm at rest may well look the same twice, in a simulator to the last bit.

    Args:
        frames: so many equal embeddings in a row ...
        motion_rad: ... while any joint has gone this far.
        camera: what it is called.
    """

    def __init__(self, frames: int, motion_rad: float = 0.05, camera: str = "the camera") -> None:
        self._frames, self._motion_rad, self._camera = frames, motion_rad, camera
        self._embedding: Vector | None = None
        self._since_ns, self._repeats = 0, 0
        self._start_rad: Array | None = None
        self.problem = ""

    def saw(self, stamp_ns: int, embedding: Vector, joints_ns: int | None, positions_rad: Array | None) -> None:
        """Take in a frame's stamp and tokens (n, D), and the newest joint positions (J,) with theirs; None: unknown.

        Positions from before the first of the equal frames do not count: the arm may have come to rest since then.
        """
        if self._embedding is None or not np.array_equal(embedding, self._embedding):
            self._embedding, self._since_ns, self._repeats = embedding, stamp_ns, 0
            self._start_rad, self.problem = None, ""
            return
        self._repeats += 1
        if not self._frames or positions_rad is None or joints_ns is None or joints_ns < self._since_ns:
            return
        if self._start_rad is None:
            self._start_rad = positions_rad
        moved_rad = float(np.abs(positions_rad - self._start_rad).max())
        if self._repeats >= self._frames and moved_rad > self._motion_rad:
            moved = f"a joint moved more than {self._motion_rad:g} rad"
            self.problem = f"{self._camera} has frozen: equal frames while {moved}"


class JointGuard:
    """Refuses joint positions that cannot be true or from which the arm may not be moved.

    Args:
        limits: of the joints; None as long as they are not known.
        factor, slack_rad: between two messages a joint may go `factor` times as far as its largest velocity allows,
            plus the slack.
        hold_s: how long positions are refused after a jump, so that nobody misses it.
    """

    def __init__(
        self, limits: JointLimits | None, factor: float = 3.0, slack_rad: float = 0.1, hold_s: float = 0.5
    ) -> None:
        self.limits = limits
        self._factor, self._slack_rad, self._hold_s = factor, slack_rad, hold_s
        self._last: tuple[int, Array] | None = None
        self._jump: tuple[int, str] | None = None

    def check(self, stamp_ns: int, positions_rad: Array) -> Array:
        """The positions (J,), measured at a stamp.

        Raises:
            ValueError: no limits yet, a joint is outside its limits, or it cannot have got there.
        """
        if self.limits is None:
            raise ValueError("no joint limits yet: nothing usable received on robot_description")
        self._look_for_jump(stamp_ns, positions_rad)
        jump = self._jump[1] if self._jump and 0 <= stamp_ns - self._jump[0] < self._hold_s * NS_PER_S else ""
        names, low, high = self.limits.joint_names, self.limits.lower_rad, self.limits.upper_rad
        outside = np.maximum(np.array(low) - positions_rad, positions_rad - np.array(high))
        if outside.max() > 0.0:
            joint = int(np.argmax(outside))
            where = f"joint '{names[joint]}' is outside its limits {low[joint]:g} to {high[joint]:g} rad"
            raise ValueError(f"{where}; {jump or 'move the arm back by other means'}")
        if jump:
            raise ValueError(jump)
        return positions_rad

    def _look_for_jump(self, stamp_ns: int, positions_rad: Array) -> None:
        """Notice positions that cannot have been reached from those before."""
        last, self._last = self._last, (stamp_ns, positions_rad)
        if last is None:
            return
        elapsed_s = abs(stamp_ns - last[0]) / NS_PER_S
        excess = np.abs(positions_rad - last[1]) - self._factor * elapsed_s * np.array(self.limits.velocity_rad_s)
        if excess.max() > self._slack_rad:
            names = self.limits.joint_names
            _, wraps = find_wrap(np.stack([last[1], positions_rad]), names)
            leap = f"joint '{names[int(np.argmax(excess))]}' jumped further than it can move"
            hint = "limit it to less than a turn" if wraps else "are there several publishers?"
            self._jump = stamp_ns, f"{wraps or leap}; {hint}"


class FollowWatch:
    """Notices an arm that stands still although it is told to move: motors off, brakes closed, a protective stop.

    An arm that comes late, or stays a little short of where it is told to be, still moves.

    Args:
        joint_names: of the joints.
        error_rad: a joint that is less far from its command need not move ...
        stillness_rad: ... and one that has gone further than this does move.
        hold_s: so long a joint has to be away from its command without moving.
    """

    def __init__(
        self,
        joint_names: Sequence[str],
        error_rad: float = 0.08,
        stillness_rad: float = 0.005,
        hold_s: float = 1.0,
    ) -> None:
        self._joint_names, self._error_rad = joint_names, error_rad
        self._stillness_rad, self._hold_s = stillness_rad, hold_s
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._start_rad: Array | None = None
        self.problem = ""

    def saw(self, steady_s: float, commanded_rad: Array, measured_rad: Array) -> None:
        """Take in commanded and measured positions (J,) at a time of a steady clock."""
        if self._start_rad is None:
            self._start_rad, self._since_s = measured_rad.copy(), np.full(len(measured_rad), steady_s)
        moved = np.abs(measured_rad - self._start_rad) > self._stillness_rad
        fine = moved | (np.abs(commanded_rad - measured_rad) < self._error_rad)
        self._start_rad[fine], self._since_s[fine] = measured_rad[fine], steady_s
        still_s = steady_s - self._since_s
        if still_s.max() >= self._hold_s:
            name = self._joint_names[int(np.argmax(still_s))]
            self.problem = (
                f"the arm does not follow: joint '{name}' stands still while commanded to move; "
                "are motors on and brakes open?"
            )


class GripperWatch:
    """Notices a gripper whose position stays the same although it is told to open or to close.

    A gripper that is told the same for long has arrived, or holds something; only when it is then told the opposite it
    has to move. What lies in between, and a command that does not last, says nothing.

    Args:
        name: of its joint.
        stillness: a position that has changed by more has moved, m or rad, as the joint is measured.
        hold_s: so long a command has to last, before and after the change.
    """

    CLEAR = 0.5
    """From -1 (open) to +1 (closed): commands beyond that are clearly one or the other."""

    def __init__(self, name: str, stillness: float = 0.001, hold_s: float = 1.0) -> None:
        self._name, self._stillness, self._hold_s = name, stillness, hold_s
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._told, self._since_s = 0.0, 0.0
        self._start: float | None = None
        self.problem = ""

    def saw(self, steady_s: float, commanded: float, position: float) -> None:
        """Take in the command in force and the measured position at a time of a steady clock."""
        told = float(np.sign(commanded)) if abs(commanded) > self.CLEAR else 0.0
        if told != self._told:
            turned = told == -self._told and steady_s - self._since_s >= self._hold_s
            self._told, self._since_s = told, steady_s
            self._start = position if turned else None
        elif self._start is not None and abs(position - self._start) > self._stillness:
            self._start = None
        elif self._start is not None and steady_s - self._since_s >= self._hold_s:
            self.problem = (
                f"the gripper does not follow: joint '{self._name}' stays where it is while told to "
                f"{'close' if told > 0.0 else 'open'}; is its power on, and are its joint states alive?"
            )
