"""The demo: goals over ROS, then pictures, a plot and a video of what happened."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.environments.panda.tasks import TASKS, make_task
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_training.judge.figures import plot_closed_loop, plot_goal
from lewm_training.judge.film import film
from lewm_training.judge.goals import drive_goals, simulator_parameters
from lewm_training.judge.processes import planner_config
from lewm_training.judge.video import write_video


def run_demo(checkpoint: str, task: str, goals: int, seed: int, out: Path) -> dict[str, Any]:
    """Start the nodes, drive the arm to `goals` goal images of a task, and leave pictures, a plot and a video in `out`.

    One line per goal goes to standard output as soon as the goal's time is over.
    """
    # Before anything is started: whether task and checkpoint fit, and which cameras they have.
    cameras = simulator_parameters(load_checkpoint(checkpoint), task)["cameras"]
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    reports = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for report in drive_goals(checkpoint, task, goals, seed, planner_config(), record=folder):
            reports.append(report)
            sys.stdout.write(goal_line(report, goals))
            sys.stdout.flush()
        recordings = [np.load(path) for path in sorted(folder.glob("*.npz"))]
        for number, (report, recording) in enumerate(zip(reports, recordings, strict=True), start=1):
            views = (np.concatenate(recording[name]) for name in ("start", "goal", "final"))
            plot_goal(report, *views, out / f"goal_{number}.png")
        plot_closed_loop(reports, make_task(task).success_m if task in TASKS else None, out / "run.png")
        write_video(film(task, cameras, reports, recordings), _rate_hz(recordings), out / "run.mp4")
    return {
        "task": task,
        "goals": goals,
        "reached": sum(report["success"] for report in reports),
        "stages": {name: sum(name in report["stage_s"] for report in reports) for name in reports[0]["stages"]},
        "final_distance_m": [round(report["final_distance_m"], 4) for report in reports],
        "plan_rate_hz": round(float(np.mean([report["plan_rate_hz"] for report in reports])), 2),
        "wall_s": round(time.monotonic() - started, 1),
        "pictures": str(out),
    }


def goal_line(report: dict[str, Any], goals: int) -> str:
    """What is said of a goal when its time is over."""
    verdict = "reached" if report["success"] else "missed "
    # A task of one stage says as much by its verdict.
    stage = [name for name in report["stages"] if name in report["stage_s"]] if len(report["stages"]) > 1 else []
    furthest = f"  got to {stage[-1]}" if stage else ""
    latency_s = report["plan_latency_p50_s"]
    plans = f"plans {report['plan_rate_hz']:.1f} Hz  latency {1000 * latency_s:.0f} ms" if latency_s else "no plan"
    return (
        f"goal {report['index'] + 1}/{goals}  {verdict}  "
        f"distance {100 * report['start_distance_m']:5.1f} -> {100 * report['final_distance_m']:4.1f} cm  "
        f"{plans}  commands {report['command_rate_hz']:.1f} Hz{furthest}\n"
    )


def _rate_hz(recordings: list[Any]) -> float:
    """How many frames per second there are in most of the recordings."""
    gaps_s = np.concatenate([np.diff(recording["time_s"]) for recording in recordings])
    return 1.0 / float(np.median(gaps_s)) if len(gaps_s) else 1.0
