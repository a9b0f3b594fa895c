"""From image to command: when what became of every planned frame."""

from __future__ import annotations

import json
import os
from collections import OrderedDict, deque
from pathlib import Path

import numpy as np

from lewm_ros.observation.stamps import NS_PER_S

STAMPED = "stamped"
EVENTS = ("received", "encoded", "planned", "commanded")
KEPT_FRAMES = 100
KEPT_PLANS = 100_000


class LatencyTrace:
    """Times of the events of each planned frame, in seconds since the frame's stamp.

    Events are given in wall time (ns since the epoch) on one machine, in any order. What the stamps' clock says is used
    only for the age of a frame on receipt, so that simulated time does no harm.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[int, dict[str, int]] = OrderedDict()
        self._waiting: list[tuple[int, int]] = []
        self.plans: deque[list[float]] = deque(maxlen=KEPT_PLANS)

    def received(self, stamp_ns: int, age_ns: int, wall_ns: int) -> None:
        """The encoder has received a frame."""
        self.mark(stamp_ns, STAMPED, wall_ns - age_ns)
        self.mark(stamp_ns, "received", wall_ns)

    def mark(self, stamp_ns: int, event: str, wall_ns: int) -> None:
        """Another of the `EVENTS` has happened to a frame."""
        if stamp_ns not in self._frames:
            while len(self._frames) >= KEPT_FRAMES:
                self._frames.popitem(last=False)
            self._frames[stamp_ns] = {}
        self._frames[stamp_ns][event] = wall_ns

    def adopted(self, stamp_ns: int, free_ns: int) -> None:
        """The plan of a frame is in force from the control step that begins at `free_ns` on.

        A plan that never came into force, since another replaced it before, is not traced.
        """
        self._waiting = [*(waiting for waiting in self._waiting if waiting[1] < free_ns), (stamp_ns, free_ns)]

    def commanded(self, step_ns: int, wall_ns: int) -> None:
        """The command of the control step that begins at `step_ns` has been sent."""
        waiting = self._waiting
        self._waiting = [plan for plan in waiting if plan[1] > step_ns]
        for stamp_ns, free_ns in waiting:
            if free_ns <= step_ns:
                self._complete(stamp_ns, wall_ns)

    def _complete(self, stamp_ns: int, wall_ns: int) -> None:
        self.mark(stamp_ns, "commanded", wall_ns)
        times_ns = self._frames[stamp_ns]
        if len(times_ns) == 1 + len(EVENTS):
            self.plans.append([(times_ns[event] - times_ns[STAMPED]) / NS_PER_S for event in EVENTS])

    def summary(self) -> dict[str, dict[str, float]]:
        """p50, p95 and p99 of each event, in seconds since the image; empty without a plan."""
        if not self.plans:
            return {}
        percents = np.percentile(np.array(self.plans), (50, 95, 99), axis=0)  # (3, events)
        return {
            event: dict(zip(("p50", "p95", "p99"), column.round(4).tolist(), strict=True))
            for event, column in zip(EVENTS, percents.T, strict=True)
        }

    def save(self, path: Path) -> None:
        """Write the summary and every plan's times as JSON."""
        report = {
            "seconds_since_image": self.summary(),
            "events": EVENTS,
            "plans": [[round(time_s, 4) for time_s in plan] for plan in self.plans],
        }
        beside = path.with_name(f"{path.name}.writing")
        beside.write_text(json.dumps(report) + "\n", encoding="utf-8")
        os.replace(beside, path)
