"""Judges what leaves a node by what joint_trajectory_controller does of it: every ms, not only at the points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.command_messages import JointPath, JointTrajectoryMessage
from lewm_ros.observation.selection import Rejected
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.limit_use import LimitUse
from lewm_ros.robot.limits import JointLimits

Array = NDArray[np.float64]

CYCLE_NS = 1_000_000
MOVING_RAD_S = 1e-9
SHOWN_FAULTS = 20


class TrajectoryJudge:
    """Plays a controller of 1 kHz that takes messages as they arrive, and measures what it commands.

    Positions, velocities, accelerations and jerks are those of the polynomials; besides, positions must not change from
    cycle to cycle by more than a velocity within its limit allows, and so on up to the jerk. So a jump from one
    trajectory to the next is beyond a limit, too.

    Args:
        limits: of the J joints, in the order of all arrays here.
        start_rad: where the controller holds the arm (J,) before the first message; None: where that leads first.

    Attributes:
        use: of the limits.
        faults: the first messages that were rejected, or led beyond a limit, in words.
        rejected: how many messages the controller would not have followed.
        longest_silence_s: without a message while the arm moved.
    """

    def __init__(self, limits: JointLimits, start_rad: Array | None = None) -> None:
        self._names, self.use = limits.joint_names, LimitUse(limits)
        self.faults: list[str] = []
        self.messages = self.rejected = 0
        self.longest_silence_s = 0.0
        self._path: JointPath | None = None
        self._arrived_ns = self._judged_ns = 0
        self._last: Array | None = None  # position, velocity, acceleration and jerk (4, J) in the cycle judged last
        self.hold(start_rad)

    def hold(self, positions_rad: Array | None) -> None:
        """Begin anew, as a controller that is activated: it holds the arm at positions (J,), if they are known."""
        self.finish()
        self._path = None
        still = np.zeros(len(self._names))
        self._held = None if positions_rad is None else np.array([positions_rad, still, still])
        self._last = None if positions_rad is None else np.array([positions_rad, still, still, still])

    def saw(self, message: JointTrajectoryMessage, arrival_ns: int) -> None:
        """Take in a message that arrived at a time of the controller's clock, not before the one before it."""
        cycle_ns = -(-arrival_ns // CYCLE_NS) * CYCLE_NS  # the first cycle that can follow it
        self._follow(cycle_ns)
        self.messages += 1
        try:
            path = JointPath(message, self._names, cycle_ns, self.state(cycle_ns))
        except Rejected as error:
            self.rejected += 1
            self._blame(str(error))
            return
        self._path, self._arrived_ns, self._judged_ns = path, cycle_ns, cycle_ns

    def finish(self) -> None:
        """Follow the newest message to its end."""
        if self._path is not None:
            self._follow(self._path.end_ns + CYCLE_NS)

    def state(self, time_ns: int) -> Array | None:
        """Commanded positions, velocities and accelerations (3, J) at a time, if they are known."""
        return self._held if self._path is None else self._path.state(time_ns)

    def stands(self, time_ns: int) -> bool:
        """Whether the arm is commanded to stand still from a time on, if nothing else comes."""
        if self._path is None:
            return True
        ahead = self._path.motion(np.arange(time_ns, max(self._path.end_ns, time_ns + 1), CYCLE_NS))
        return bool(np.abs(ahead[1]).max() <= MOVING_RAD_S)

    def report(self) -> dict[str, float]:
        """All figures, by names of their own."""
        return {
            "messages": self.messages,
            "messages_rejected": self.rejected,
            "longest_silence_in_motion_s": self.longest_silence_s,
            **self.use.report(),
        }

    def _follow(self, until_ns: int) -> None:
        """Judge what is commanded in the cycles before a time."""
        if self._path is None:
            return
        cycles_ns = np.arange(self._judged_ns, min(until_ns, self._path.end_ns + 2 * CYCLE_NS), CYCLE_NS)
        if not len(cycles_ns):
            return
        motion = self._path.motion(cycles_ns)
        moving = np.flatnonzero((np.abs(motion[1]) > MOVING_RAD_S).any(1))
        if len(moving):
            silence_s = (int(cycles_ns[moving[-1]]) - self._arrived_ns) / NS_PER_S
            self.longest_silence_s = max(self.longest_silence_s, silence_s)
        before = motion[:, 0] if self._last is None else self._last
        changes = np.diff(motion[:3], axis=1, prepend=before[:3, np.newaxis]) * (NS_PER_S / CYCLE_NS)
        worst = np.where(np.abs(changes) > np.abs(motion[1:]), changes, motion[1:])
        for limit, where in self.use.add(np.concatenate([motion[:1], worst])).items():
            since_s = (int(cycles_ns[where[0]]) - self._arrived_ns) / NS_PER_S
            self._blame(f"beyond {limit} in {len(where)} cycles from {since_s:.3f} s after message {self.messages}")
        self._last, self._judged_ns = motion[:, -1], int(cycles_ns[-1]) + CYCLE_NS

    def _blame(self, fault: str) -> None:
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(fault)


def judge_trajectories(
    limits: JointLimits, messages: Sequence[tuple[JointTrajectoryMessage, int]], start_rad: Array | None = None
) -> TrajectoryJudge:
    """The judge of messages with their times of arrival (ns), followed to the end."""
    judge = TrajectoryJudge(limits, start_rad)
    for message, arrival_ns in messages:
        judge.saw(message, arrival_ns)
    judge.finish()
    return judge
