"""The rhythm of commands: which control steps there are and when the command of each goes out."""

from __future__ import annotations

import threading


class ControlLoop:
    """One stretch of motion, with a phase of its own; control steps follow one another without a gap.

    Args:
        control_ns: length of a control step.
        lead_ns: the command of a step goes out so long before the step begins.
        phase_ns: a time at which a command goes out, as far as the rhythm is concerned.
        now_ns: nothing goes out before.

    Attributes:
        next_ns: start of the first step whose command has not gone out.
        lock: held while a command goes out, so that a plan is adopted before it or after it.
    """

    def __init__(self, control_ns: int, lead_ns: int, phase_ns: int, now_ns: int) -> None:
        self.control_ns, self._lead_ns = control_ns, lead_ns
        self.next_ns = now_ns + (phase_ns - now_ns) % control_ns + lead_ns
        self.cycles = self.missed_cycles = 0
        self.lock = threading.Lock()

    @property
    def send_ns(self) -> int:
        """When the next command goes out."""
        return self.next_ns - self._lead_ns

    def due(self, now_ns: int) -> list[int]:
        """The starts of the steps whose commands are due and were not asked for: usually one, none if called early."""
        steps = []
        while self.send_ns <= now_ns:
            steps.append(self.next_ns)
            self.next_ns += self.control_ns
        return steps

    def first_free_ns(self, time_ns: int) -> int:
        """Start of the earliest step whose command will go out at a time or later."""
        later = max(0, -(-(time_ns - self.send_ns) // self.control_ns))
        return self.next_ns + later * self.control_ns

    def go_on_from(self, now_ns: int) -> None:
        """Keep the pace after the clock has jumped: the next command goes out a control step after now."""
        self.next_ns = now_ns + self.control_ns + self._lead_ns
