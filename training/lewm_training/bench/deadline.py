"""Whether plans come in time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_training.bench.same_quality import planning_problems


def bench_deadline(checkpoint: Checkpoint, config: PlannerConfig, task: str, plans: int, seed: int) -> dict[str, Any]:
    """Latency (ms) of plans with a deadline of 50 ms that could use more time, and of 1 ms."""
    ((z, goal),) = planning_problems(checkpoint, task, 1, seed)
    figures: dict[str, Any] = {}
    for deadline_ms, count in ((50.0, plans), (1.0, plans // 10)):
        planner = RecedingHorizonPlanner(checkpoint, replace(config, deadline_ms=deadline_ms, iterations=1000), seed)
        planner.observe(0, z)
        planner.decide(0, goal)
        elapsed, decisions = [], []
        for _ in tqdm(range(count), desc=f"deadline {deadline_ms:g} ms", leave=False):
            started_s = time.perf_counter()
            decisions.append(planner.decide(0, goal))
            elapsed.append(1000.0 * (time.perf_counter() - started_s))
        quantiles = {f"p{100 * q:g}": float(np.quantile(elapsed, q)) for q in (0.5, 0.95, 0.99)}
        figures[f"{deadline_ms:g}_ms"] = quantiles | {
            "max": max(elapsed),
            "plans": count,
            "iterations": float(np.median([d.iterations for d in decisions])),
            "valid": sum(bool(np.isfinite(d.actions).all()) for d in decisions),
        }
    return figures
