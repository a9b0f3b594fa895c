"""What is seen of one goal: distances, plans, commands and frames over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import NS_PER_S

Frames = NDArray[np.uint8]
"""One of every camera (cameras, height, width, 3)."""

TRACE_PERIOD_NS = 50_000_000
FRAME_PERIOD_NS = 100_000_000


@dataclass
class EpisodeResult:
    """Everything observed from `start_ns` on, in simulated time.

    `distance_m` is the newest distance, `closest_m` the smallest one, the start's included; `solved` says whether the
    newest one counts as solved, `cost` what the way has cost so far. `stages` says which the newest state has got to,
    `stage_ns` when each was got to first.
    """

    index: int
    start_ns: int
    start_distance_m: float
    goal: Frames
    solved: bool = False
    cost: float = 0.0
    trace_ns: list[int] = field(default_factory=list)
    trace_m: list[float] = field(default_factory=list)
    costs: list[tuple[int, float]] = field(default_factory=list)
    surprises: list[tuple[int, float]] = field(default_factory=list)
    command_ns: list[int] = field(default_factory=list)
    frame_ns: list[int] = field(default_factory=list)
    frames: list[Frames] = field(default_factory=list)
    stages: dict[str, bool] = field(default_factory=dict)
    stage_ns: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.distance_m = self.closest_m = self.start_distance_m

    def add_distance(self, time_ns: int, distance_m: float) -> None:
        self.distance_m, self.closest_m = distance_m, min(self.closest_m, distance_m)
        if not self.trace_ns or time_ns >= self.trace_ns[-1] + TRACE_PERIOD_NS:
            self.trace_ns.append(time_ns)
            self.trace_m.append(distance_m)

    def saw_stages(self, time_ns: int, stages: dict[str, bool]) -> None:
        """Take in what the present state has got to."""
        self.stages = stages
        for name in (name for name, reached in stages.items() if reached):
            self.stage_ns.setdefault(name, time_ns)

    def wants_frames(self, time_ns: int) -> bool:
        """Whether frames are due for the film."""
        return not self.frame_ns or time_ns >= self.frame_ns[-1] + FRAME_PERIOD_NS

    def add_frames(self, time_ns: int, frames: Frames) -> None:
        self.frame_ns.append(time_ns)
        self.frames.append(frames)

    def summary(self, real_time_factor: float, planner: dict[str, str]) -> dict[str, Any]:
        """One line of the results. Times and rates are in simulated time.

        Args:
            real_time_factor: simulated time per wall time.
            planner: the values of the planner's diagnostics after the last step.
        """
        return {
            "index": self.index,
            "start_distance_m": self.start_distance_m,
            "final_distance_m": round(self.distance_m, 4),
            "closest_distance_m": round(self.closest_m, 4),
            "success": self.solved,
            "cost": self.cost,
            "stages": self.stages,
            "stage_s": dict(zip(self.stage_ns, self._seconds(list(self.stage_ns.values())), strict=True)),
            "plan_rate_hz": rate_hz([time_ns for time_ns, _ in self.costs]),
            "command_rate_hz": rate_hz(self.command_ns),
            "real_time_factor": round(real_time_factor, 3),
            "cycles": int(planner["cycles"]),
            "missed_cycles": int(planner["missed_cycles"]),
            "committed_steps": _number(planner["committed_steps"]),
            "plan_latency_p50_s": _number(planner["plan_latency_p50_s"]),
            "plan_latency_p95_s": _number(planner["plan_latency_p95_s"]),
            "trace": {"time_s": self._seconds(self.trace_ns), "distance_m": [round(d, 4) for d in self.trace_m]},
            "plan_cost": self._series(self.costs),
            "surprise": self._series(self.surprises),
        }

    def save_film(self, folder: Path) -> Path:
        """Write the frames (N, cameras, height, width, 3) with goal, start and final to FOLDER/goal_INDEX.npz."""
        path = folder / f"goal_{self.index:03d}.npz"
        beside = path.with_suffix(".writing.npz")
        np.savez_compressed(
            beside,
            goal=self.goal,
            start=self.frames[0],
            final=self.frames[-1],
            frames=np.stack(self.frames),
            time_s=self._seconds(self.frame_ns),
        )
        os.replace(beside, path)
        return path

    def _series(self, samples: Sequence[tuple[int, float]]) -> dict[str, list[float]]:
        return {"time_s": self._seconds([t for t, _ in samples]), "value": [round(value, 5) for _, value in samples]}

    def _seconds(self, times_ns: Sequence[int]) -> list[float]:
        return [round((time_ns - self.start_ns) / NS_PER_S, 3) for time_ns in times_ns]


def rate_hz(times_ns: Sequence[int]) -> float:
    """Events per second between the first and the last one; 0 for fewer than two."""
    if len(times_ns) < 2 or times_ns[-1] == times_ns[0]:
        return 0.0
    return round((len(times_ns) - 1) * NS_PER_S / (times_ns[-1] - times_ns[0]), 2)


def _number(text: str) -> float | None:
    return None if text == "none" else float(text)
