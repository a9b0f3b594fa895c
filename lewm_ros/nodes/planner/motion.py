"""The arm's motion, from the frame that closes the loop to the moment at which the arm stands still again."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lewm_ros.nodes.planner.command_output import CommandOutput
from lewm_ros.nodes.planner.control_loop import ControlLoop

Array = NDArray[np.float64]

MAX_BRAKING_S = 3.0


class Motion:
    """Runs one control loop at a time; when it ends, the arm brakes to a standstill and nothing more is sent.

    Args:
        output: takes the commands.
        ramp_s: gives the time in which a new loop's speed goes from 0 to full.
        lookahead_steps: scheduled actions that are sent beyond the next one.
        steady_s: a clock that never jumps.
    """

    def __init__(
        self,
        output: CommandOutput,
        ramp_s: Callable[[], float],
        lookahead_steps: int,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.loop: ControlLoop | None = None
        self.braking = False
        self._output, self._ramp_s, self._lookahead_steps, self._steady_s = output, ramp_s, lookahead_steps, steady_s
        self._began_s = 0.0
        self.forget_figures()

    @property
    def scale(self) -> float:
        """The part of full speed that the ramp allows now."""
        ramp_s = self._ramp_s()
        return min((self._steady_s() - self._began_s) / ramp_s, 1.0) if ramp_s > 0.0 else 1.0

    @property
    def cycles(self) -> int:
        """Control steps since the figures were forgotten."""
        return self._cycles + (self.loop.cycles if self.loop else 0)

    @property
    def missed_cycles(self) -> int:
        """Control steps among `cycles` in whose time nothing was sent."""
        return self._missed_cycles + (self.loop.missed_cycles if self.loop else 0)

    def forget_figures(self) -> None:
        """Count from zero again."""
        self._cycles = self._missed_cycles = 0
        self._output.forget_counts()

    def begin(self, loop: ControlLoop, measured_rad: Array) -> None:
        """Follow a loop's schedule from the measured positions (J,).

        Raises:
            ValueError: the arm cannot be moved from there.
        """
        self._output.begin(measured_rad)
        self.loop, self._began_s = loop, self._steady_s()
        self._control_ns = loop.control_ns
        self._step_ns = self._carried_out_ns(loop)

    def step(self, now_ns: int, measured_rad: Array) -> bool:
        """Send what is due; returns whether anything was."""
        due = self.loop.due(now_ns)
        if len(due):
            while self._step_ns + self._control_ns < (step_ns := self._carried_out_ns(self.loop)):
                self._step_ns += self._control_ns
                self._output.skip(self._step_ns)
            self._step_ns = step_ns
            self._output.send(step_ns, due[-1], self.loop.ahead(self._lookahead_steps), measured_rad, self.scale)
        return bool(len(due))

    def _carried_out_ns(self, loop: ControlLoop) -> int:
        """When the newest executed step is carried out; one that is sent ahead can no longer shape this step."""
        lead_steps = 1 + self._output.lead_steps if self._output.lead_steps else 0
        return loop.next_step_ns() + (lead_steps - 1) * self._control_ns

    def end(self) -> None:
        """Leave the loop and begin to brake; call `brake` every control step from here on."""
        if self.loop is not None:
            self._cycles, self._missed_cycles = self.cycles, self.missed_cycles
            self.loop, self.braking, self._braking_since_s = None, True, self._steady_s()

    def brake(self, measured_rad: Array | None) -> None:
        """Send the next step of the stop, if one is under way."""
        if self.braking:
            self._step_ns += self._control_ns
            late = self._steady_s() - self._braking_since_s > MAX_BRAKING_S
            self.braking = not (self._output.brake(self._step_ns, measured_rad) or late)
