"""The closed loop over ROS topics, reported like the direct one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.environments import Environment, Score
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.planning import PlannerConfig
from lewm_training.judge.evaluate import Compared, Outcome, compare, environment_for, summarise
from lewm_training.judge.goals import drive_goals

Goal = dict[str, Any]

UNIT = "m"
"""Of the distances of arms."""

SETTLED_S = 1.0
"""While speed is ramped up, as shipped, nothing surprises."""


def evaluate_ros(
    checkpoint: str, task: str, episodes: int, seed: int, planner: PlannerConfig, device: str, compared: bool = True
) -> dict[str, Any]:
    """Drive the nodes through goals over DDS, in real time; see `evaluate_direct` for the arguments and the report."""
    loaded, goals = load_checkpoint(checkpoint), []
    driven = drive_goals(checkpoint, task, episodes, seed, planner, device)
    for goal in (bar := tqdm(driven, total=episodes, desc=f"evaluate {task} over ROS", unit="goal")):
        goals.append(goal)
        bar.set_postfix(solved=sum(goal["success"] for goal in goals))
    environment = environment_for(loaded, task)
    try:
        others = compare(environment, len(goals), seed) if compared else []
    finally:
        environment.close()
    return summarise_goals(environment, goals, others) | {
        "checkpoint": loaded.identity,
        "seed": seed,
        "transport": "ros",
    }


def summarise_goals(environment: Environment, goals: Sequence[Goal], others: Sequence[Compared]) -> dict[str, Any]:
    """The report of goals driven over ROS.

    Args:
        environment: of the task.
        goals: as `drive_goals` gives them. One for which no plan was made has no latency; it was not solved.
        others: what others make of the same problems.
    """
    cycles, missed = (sum(goal[name] for goal in goals) for name in ("cycles", "missed_cycles"))
    return summarise(environment, [_outcome(goal) for goal in goals], others) | {
        "plan_latency_s": {
            "p50": _over(goals, "plan_latency_p50_s", np.median),
            "p95": _over(goals, "plan_latency_p95_s", np.max),
        },
        "plan_rate_hz": _over(goals, "plan_rate_hz", np.mean),
        "committed_steps": _over(goals, "committed_steps", np.median),
        "control_hz": _over(goals, "command_rate_hz", np.mean),
        "missed_cycles": missed,
        "cycles": cycles,
        "missed_fraction": missed / cycles if cycles else None,
        "real_time_factor": _over(goals, "real_time_factor", np.mean),
    }


def _outcome(goal: Goal) -> Outcome:
    start = Score(goal["start_distance_m"], UNIT, success=False)
    if goal["plan_latency_p50_s"] is None:
        return Outcome(start)
    final = Score(goal["final_distance_m"], UNIT, goal["success"], goal["stages"], goal["cost"])
    series = zip(goal["surprise"]["time_s"], goal["surprise"]["value"], strict=True)
    largest = max((surprise for time_s, surprise in series if time_s >= SETTLED_S), default=None)
    return Outcome(start, final, goal["closest_distance_m"], largest_surprise=largest)


def _over(goals: Sequence[Goal], name: str, statistic: Callable[[list[float]], Any]) -> float | None:
    """A statistic of the goals that have this figure; None if none has."""
    values = [goal[name] for goal in goals if goal[name] is not None]
    return float(statistic(values)) if values else None
