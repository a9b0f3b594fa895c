"""The demo: goals over ROS, then pictures, a plot and a video of what happened."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lewm_ros.sim import make_task
from lewm_training.judge.figures import plot_closed_loop, plot_goal
from lewm_training.judge.processes import drive_goals, planner_config

VIDEO_SCALE = 4
"""Camera pixels are shown this many times as large."""


def run_demo(checkpoint: str, goals: int, seed: int, out: Path) -> dict[str, Any]:
    """Start the nodes, drive the arm to `goals` goal images, and leave pictures, a plot and a video in `out`.

    One line per goal goes to standard output as soon as the goal's time is over.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    reports = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for report in drive_goals(checkpoint, "reach", goals, seed, planner_config(), record=folder):
            reports.append(report)
            sys.stdout.write(_line(report, goals))
            sys.stdout.flush()
        recordings = [np.load(path) for path in sorted(folder.glob("*.npz"))]
        for number, (report, recording) in enumerate(zip(reports, recordings, strict=True), start=1):
            plot_goal(report, recording["start"], recording["goal"], recording["final"], out / f"goal_{number}.png")
        plot_closed_loop(reports, make_task("reach").success_m, out / "run.png")
        _write_video(reports, recordings, out / "run.mp4")
    return {
        "goals": goals,
        "reached": sum(report["success"] for report in reports),
        "final_distance_m": [round(report["final_distance_m"], 4) for report in reports],
        "plan_rate_hz": round(float(np.mean([report["plan_rate_hz"] for report in reports])), 2),
        "wall_s": round(time.monotonic() - started, 1),
        "pictures": str(out),
    }


def _line(report: dict[str, Any], goals: int) -> str:
    verdict = "reached" if report["success"] else "missed "
    return (
        f"goal {report['index'] + 1}/{goals}  {verdict}  "
        f"distance {100 * report['start_distance_m']:5.1f} -> {100 * report['final_distance_m']:4.1f} cm  "
        f"plans {report['plan_rate_hz']:.1f} Hz  latency {1000 * report['plan_latency_p50_s']:.0f} ms  "
        f"commands {report['command_rate_hz']:.1f} Hz\n"
    )


def _write_video(reports: list[dict[str, Any]], recordings: list[Any], path: Path) -> None:
    """The live camera beside the goal image, frame by frame, as MP4."""
    side = recordings[0]["goal"].shape[0] * VIDEO_SCALE
    rate_hz = 1.0 / float(np.median(np.diff(recordings[0]["time_s"])))
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate_hz, (2 * side, side))
    for report, recording in zip(reports, recordings, strict=True):
        goal = _enlarge(recording["goal"], side, f"goal {report['index'] + 1}")
        for frame in recording["frames"]:
            video.write(np.concatenate([_enlarge(frame, side, "camera"), goal], axis=1))
    video.release()


def _enlarge(frame: NDArray[np.uint8], side: int, label: str) -> NDArray[np.uint8]:
    """An RGB frame as a labelled BGR picture of the given side."""
    picture = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), (side, side), interpolation=cv2.INTER_CUBIC)
    return cv2.putText(picture, label, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (40, 40, 40), 2, cv2.LINE_AA)
