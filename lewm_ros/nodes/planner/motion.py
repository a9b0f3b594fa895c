"""The arm's motion, from the frame that closes the loop to the moment at which the arm stands still again."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lewm_ros.nodes.planner.command_output import CommandOutput
from lewm_ros.nodes.planner.control_loop import ControlLoop
from lewm_ros.planning.action_timeline import ActionTimeline

Array = NDArray[np.float64]


class Motion:
    """Sends what is scheduled, step by step, and records what was executed; then brakes to a standstill.

    Args:
        output: takes the commands.
        timeline: what is scheduled, and where executed actions are recorded.
        ramp_s: gives the time in which a new loop's speed goes from 0 to full.
        lookahead_steps: scheduled actions that are sent beyond the next one.
        steady_s: a clock that never jumps.
    """

    def __init__(
        self,
        output: CommandOutput,
        timeline: ActionTimeline,
        ramp_s: Callable[[], float],
        lookahead_steps: int,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output, self._timeline, self._ramp_s, self._lookahead_steps = output, timeline, ramp_s, lookahead_steps
        self._steady_s, self._began_s = steady_s, 0.0
        self._loop: ControlLoop | None = None
        self.newest_action: Array | None = None
        self.forget_figures()

    @property
    def scale(self) -> float:
        """The part of full speed that the ramp allows now."""
        ramp_s = self._ramp_s()
        return min((self._steady_s() - self._began_s) / ramp_s, 1.0) if ramp_s > 0.0 else 1.0

    @property
    def cycles(self) -> int:
        """Control steps since the figures were forgotten, braking not counted."""
        return self._cycles

    @property
    def missed_cycles(self) -> int:
        """Control steps among `cycles` whose command was not sent in time."""
        return self._missed_cycles

    def forget_figures(self) -> None:
        """Count from zero again."""
        self._cycles = self._missed_cycles = 0
        self._output.forget_counts()

    def begin(self, loop: ControlLoop, measured_rad: Array) -> None:
        """Move in a loop's rhythm from the measured positions (J,).

        Raises:
            ValueError: the arm cannot be moved from there.
        """
        self._output.begin(measured_rad)
        self._loop, self._began_s = loop, self._steady_s()

    def step(self, now_ns: int, measured_rad: Array) -> int | None:
        """Send the command that is due; returns the start of its step, None if nothing could be sent.

        The arm has gone on along what was sent ahead in the steps whose time has passed.
        """
        loop = self._loop
        with loop.lock:
            steps = loop.due(now_ns)
            in_time = bool(steps) and now_ns <= self._output.latest_ns(steps[-1])
            missed = steps[:-1] if in_time else steps
            self._cycles += len(steps)
            self._missed_cycles += len(missed)
            for step_ns in missed:
                self._record(step_ns, self._output.skip(step_ns))
            if not in_time:
                return None
            step_ns = steps[-1]
            action, *ahead = self._timeline.read(step_ns, 1 + self._lookahead_steps)
            ahead = np.reshape(ahead, (-1, len(action)))
            self._record(step_ns, self._output.send(step_ns, action, ahead, measured_rad, self.scale))
            self._missed_cycles += not self._output.in_time
        return step_ns if self._output.in_time else None

    def brake(self, now_ns: int, measured_rad: Array | None) -> bool:
        """Send the step of the stop that is due; returns whether the arm has been told to stand still."""
        *missed, newest = self._loop.due(now_ns) or [None]
        for step_ns in missed:
            self._output.skip(step_ns)
        return newest is not None and self._output.brake(newest, measured_rad)

    def clock_jumped(self, now_ns: int) -> None:
        """Keep the pace of a stop under way."""
        if self._loop is not None:
            self._loop.go_on_from(now_ns)
            self._output.clock_jumped()

    def _record(self, step_ns: int, executed: Array) -> None:
        self._timeline.record(step_ns, executed[np.newaxis])
        self.newest_action = executed
