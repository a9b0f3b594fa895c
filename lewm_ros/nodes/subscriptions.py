"""What a node knows of one of its input topics, by the sender's stamps and by a steady clock of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lewm_ros.observation.selection import OtherJoints, require_any_joint
from lewm_ros.observation.stamps import NS_PER_S

T = TypeVar("T")

RATE_WINDOW = 50
SENDER_WINDOW = 20
SENDER_BREAKS = 3
"""So many steps back of the sender's counter among `SENDER_WINDOW` messages: two senders. One is a restart."""
MAX_FUTURE_S = 0.2
UNNUMBERED = 2**64 - 1
"""RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED: what a middleware says that does not number messages."""


class Input(Generic[T]):
    """The newest message of a topic: its value, or the reason why it cannot be used.

    Args:
        name: of the topic.
        max_age_s: gives the age, by its stamp and since its arrival, up to which a value is used; None: for ever.
        hint: what to look at when nothing comes.
        steady_s: a clock that never jumps.
    """

    def __init__(
        self,
        name: str,
        max_age_s: Callable[[], float] | None = None,
        hint: str = "",
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hint = f" ({hint})" if hint else ""
        self.name, self._max_age_s, self._steady_s = name, max_age_s, steady_s
        self.value: T | None = None
        self.error = ""
        self.missing = f"nothing received on {name}{self._hint}"
        self.stamp_ns: int | None = None
        self.skipped, self._first_skipped = 0, ""
        self._arrivals_s: deque[float] = deque(maxlen=RATE_WINDOW)
        self._sequence: int | None = None
        self._breaks: deque[bool] = deque(maxlen=SENDER_WINDOW)

    def concerns(self, received: Sequence[str], names: Sequence[str]) -> bool:
        """Whether a message of the joints `received` speaks of any of `names`; one that does not is only counted."""
        try:
            require_any_joint(received, names)
        except OtherJoints as other:
            self.skipped += 1
            self._first_skipped = self._first_skipped or f"; skipped are messages like the first: {other}"
            return False
        return True

    def arrived(self, stamp_ns: int, sequence: int | None = None) -> None:
        """Note that a message came in, with its stamp and its number among those of its sender."""
        self.stamp_ns = stamp_ns
        self._arrivals_s.append(self._steady_s())
        if sequence not in (None, UNNUMBERED):
            self._breaks.append(self._sequence is not None and sequence <= self._sequence)
            self._sequence = sequence

    @property
    def mixed(self) -> bool:
        """Whether several publishers send at the same time."""
        return sum(self._breaks) >= SENDER_BREAKS

    def read(self, parse: Callable[[], T]) -> T | None:
        """Take in what `parse` returns; if it raises ValueError, keep the reason instead and return None."""
        try:
            self.value, self.error = parse(), ""
        except ValueError as error:
            self.refuse(str(error))
        return self.value

    def refuse(self, reason: str) -> None:
        """Be without a value, since the newest message cannot be used."""
        self.value, self.error = None, reason

    def forget(self, reason: str) -> None:
        """Be without a value, for this reason, until the next message."""
        self.value, self.error, self.stamp_ns, self.missing = None, "", None, reason

    def age_s(self, now_ns: int) -> float | None:
        """Time since the newest stamp; negative if it lies in the future, None before the first message."""
        return None if self.stamp_ns is None else (now_ns - self.stamp_ns) / NS_PER_S

    def rate_hz(self) -> float:
        """Messages per second over the newest `RATE_WINDOW`; 0 once none has come for two seconds."""
        if len(self._arrivals_s) < 2 or self._steady_s() - self._arrivals_s[-1] > 2.0:
            return 0.0
        return (len(self._arrivals_s) - 1) / max(self._arrivals_s[-1] - self._arrivals_s[0], 1e-9)

    def problem(self, now_ns: int) -> str:
        """Why the input cannot be used now; empty if it can. The words stay the same while the reason does."""
        age_s = self.age_s(now_ns)
        if age_s is None:
            return self.missing + self._first_skipped
        if self.mixed:
            return f"{self.name}: messages of several publishers mix; leave only one (ros2 topic info --verbose)"
        if self._max_age_s is None:
            return f"{self.name}: {self.error}" if self.error else ""
        max_age_s = self._max_age_s()
        if self._steady_s() - self._arrivals_s[-1] > max_age_s:
            return f"{self.name}: nothing new for {max_age_s:g} s{self._hint}"
        if self.error:
            return f"{self.name}: {self.error}"
        if age_s < -MAX_FUTURE_S:
            return f"{self.name}: stamped more than {MAX_FUTURE_S:g} s in the future; check use_sim_time and the clocks"
        if age_s > max_age_s:
            return f"{self.name}: stamps are more than {max_age_s:g} s old; check use_sim_time and the clocks"
        return ""

    def report(self, now_ns: int) -> dict[str, object]:
        """Rate and age for the diagnostics."""
        age_s = self.age_s(now_ns)
        figures: dict[str, object] = {
            f"{self.name}_rate_hz": f"{self.rate_hz():.1f}",
            f"{self.name}_age_s": "never" if age_s is None else f"{age_s:.3f}",
        }
        return figures | ({f"{self.name}_skipped": self.skipped} if self.skipped else {})
