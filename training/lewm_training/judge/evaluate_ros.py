"""The closed loop over ROS topics, reported like the direct one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.sim import SimArm, draw_problems, make_task
from lewm_training.judge.evaluate import Episode, run_random_policy, summarise
from lewm_training.judge.processes import drive_goals, planner_config


def evaluate_ros(
    checkpoint: str, task_name: str, episodes: int, seed: int, planner: Path | None, device: str
) -> dict[str, Any]:
    """Drive the nodes through goals over DDS, in real time; see `evaluate_direct` for the arguments and the report."""
    task, loaded = make_task(task_name), load_checkpoint(checkpoint)
    space = loaded.action_space
    lines = []
    goals = drive_goals(checkpoint, task_name, episodes, seed, planner_config(planner), device)
    for line in (bar := tqdm(goals, total=episodes, desc=f"evaluate {task_name} over ROS", unit="goal")):
        lines.append(line)
        bar.set_postfix(reached=sum(entry["success"] for entry in lines))
    reached = [
        Episode(entry["start_distance_m"], entry["final_distance_m"], [entry["plan_latency_p50_s"]]) for entry in lines
    ]
    arm = SimArm(space.control_hz, cube=task.needs_cube)
    problems = draw_problems(task, arm, seed)
    random = run_random_policy(task, arm, [next(problems) for _ in lines], seed)
    cycles = sum(entry["cycles"] for entry in lines)
    missed = sum(entry["missed_cycles"] for entry in lines)
    return summarise(task, reached, random) | {
        "plan_latency_s": {
            "p50": float(np.median([entry["plan_latency_p50_s"] for entry in lines])),
            "p95": float(np.max([entry["plan_latency_p95_s"] for entry in lines])),
        },
        "plan_rate_hz": float(np.mean([entry["plan_rate_hz"] for entry in lines])),
        "control_hz": float(np.mean([entry["command_rate_hz"] for entry in lines])),
        "missed_cycles": missed,
        "cycles": cycles,
        "missed_fraction": missed / cycles,
        "real_time_factor": float(np.mean([entry["real_time_factor"] for entry in lines])),
        "checkpoint": loaded.identity,
        "seed": seed,
        "transport": "ros",
    }
