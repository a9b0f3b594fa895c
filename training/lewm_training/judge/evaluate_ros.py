"""The closed loop over ROS topics, reported like the direct one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.sim import SimArm, Task, draw_problems, make_task
from lewm_training.judge.evaluate import Episode, run_random_policy, summarise
from lewm_training.judge.goals import drive_goals
from lewm_training.judge.processes import planner_config

Goal = dict[str, Any]


def evaluate_ros(
    checkpoint: str, task_name: str, episodes: int, seed: int, planner: Path | None, device: str
) -> dict[str, Any]:
    """Drive the nodes through goals over DDS, in real time; see `evaluate_direct` for the arguments and the report."""
    task, loaded = make_task(task_name), load_checkpoint(checkpoint)
    reached = []
    goals = drive_goals(checkpoint, task_name, episodes, seed, planner_config(planner), device)
    for goal in (bar := tqdm(goals, total=episodes, desc=f"evaluate {task_name} over ROS", unit="goal")):
        reached.append(goal)
        bar.set_postfix(reached=sum(goal["success"] for goal in reached))
    arm = SimArm(loaded.action_space.control_hz, cube=task.needs_cube)
    problems = draw_problems(task, arm, seed)
    random = run_random_policy(task, arm, [next(problems) for _ in reached], seed)
    return summarise_goals(task, reached, random) | {
        "checkpoint": loaded.identity,
        "seed": seed,
        "transport": "ros",
    }


def summarise_goals(task: Task, goals: list[Goal], random: list[Episode]) -> dict[str, Any]:
    """The report of goals driven over ROS.

    Args:
        task: what was tried.
        goals: as `drive_goals` gives them. One for which no plan was made has no latency; it was not reached.
        random: the random policy's.
    """
    reached = [Episode(goal["start_distance_m"], goal["final_distance_m"]) for goal in goals]
    cycles, missed = (sum(goal[name] for goal in goals) for name in ("cycles", "missed_cycles"))
    return summarise(task, reached, random) | {
        "goals_without_plan": sum(goal["plan_latency_p50_s"] is None for goal in goals),
        "plan_latency_s": {
            "p50": _over(goals, "plan_latency_p50_s", np.median),
            "p95": _over(goals, "plan_latency_p95_s", np.max),
        },
        "plan_rate_hz": _over(goals, "plan_rate_hz", np.mean),
        "control_hz": _over(goals, "command_rate_hz", np.mean),
        "missed_cycles": missed,
        "cycles": cycles,
        "missed_fraction": missed / cycles if cycles else None,
        "real_time_factor": _over(goals, "real_time_factor", np.mean),
    }


def _over(goals: list[Goal], name: str, statistic: Callable[[list[float]], Any]) -> float | None:
    """A statistic of the goals that have this figure; None if none has."""
    values = [goal[name] for goal in goals if goal[name] is not None]
    return float(statistic(values)) if values else None
