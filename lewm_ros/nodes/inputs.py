"""What a node knows of one of its input topics."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from lewm_ros.nodes.conversions import NS_PER_S

T = TypeVar("T")

RATE_WINDOW = 50


class Input(Generic[T]):
    """The newest message of a topic: its value, or the reason why it cannot be used.

    Args:
        name: of the topic.
        max_age_s: a value whose stamp differs more than this from the clock is not used; None keeps it for ever.
    """

    def __init__(self, name: str, max_age_s: float | None = None) -> None:
        self.name, self.max_age_s = name, max_age_s
        self.value: T | None = None
        self.error = ""
        self.stamp_ns: int | None = None
        self._arrivals_s: deque[float] = deque(maxlen=RATE_WINDOW)

    def arrived(self, stamp_ns: int) -> None:
        """Note that a message with this stamp came in."""
        self.stamp_ns = stamp_ns
        self._arrivals_s.append(time.monotonic())

    def read(self, parse: Callable[[], T]) -> T | None:
        """Take in what `parse` returns; if it raises ValueError, keep the reason instead and return None."""
        try:
            self.value, self.error = parse(), ""
        except ValueError as error:
            self.value, self.error = None, str(error)
        return self.value

    def age_s(self, now_ns: int) -> float | None:
        """Time since the newest stamp; negative if it lies in the future, None before the first message."""
        return None if self.stamp_ns is None else (now_ns - self.stamp_ns) / NS_PER_S

    def rate_hz(self) -> float:
        """Messages per second over the newest `RATE_WINDOW`; 0 once none has come for two seconds."""
        if len(self._arrivals_s) < 2 or time.monotonic() - self._arrivals_s[-1] > 2.0:
            return 0.0
        return (len(self._arrivals_s) - 1) / max(self._arrivals_s[-1] - self._arrivals_s[0], 1e-9)

    def problem(self, now_ns: int) -> str:
        """Why the input cannot be used now; empty if it can."""
        age_s = self.age_s(now_ns)
        if age_s is None:
            return f"nothing received on {self.name}"
        if self.error:
            return f"{self.name}: {self.error}"
        if self.max_age_s is None or abs(age_s) <= self.max_age_s:
            return ""
        if age_s < 0:
            return f"{self.name}: stamped {-age_s:.2f} s in the future; check use_sim_time and the clocks"
        return f"{self.name}: newest stamp is {age_s:.2f} s old (at most {self.max_age_s:g} s)"

    def report(self, now_ns: int) -> dict[str, object]:
        """Rate and age for the diagnostics."""
        age_s = self.age_s(now_ns)
        return {
            f"{self.name}_rate_hz": f"{self.rate_hz():.1f}",
            f"{self.name}_age_s": "never" if age_s is None else f"{age_s:.3f}",
        }
