"""Time to a plan as good as the reference's, on problems of a trained checkpoint's task."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.planning import PlannerConfig
from lewm_ros.planning.search import PlanningProblem, Search
from lewm_ros.planning.solver import Deadline
from lewm_training.bench.paper import PAPER_SEARCH, final_distance
from lewm_training.bench.peer import peer_model, peer_plan, peer_sizes, peer_solver
from lewm_training.judge.evaluate import environment_for
from lewm_training.judge.machine import time_calls

FAST = PlannerConfig(
    solver="gauss_newton", samples=1, elites=1, iterations=1, horizon=5, knots_per_block=1, precision="fp32"
)
"""What reaches the same cost, with as few iterations as it takes."""

MOST_ITERATIONS = 20


def bench_same_quality(checkpoint: Checkpoint, task: str, problems: int, seed: int) -> dict[str, Any]:
    """Time to a plan that costs no more than the reference's 300 x 30 CEM plan, on problems of a task.

    Both start from one frame and judge by the latent distance to the goal at the last step, scored in fp32 by the
    model's own rollout. The reference knows no action bounds; this planner keeps to them. Its time is that of the
    whole call, for the fewest iterations that reach the cost.
    """
    model, space = checkpoint.model, checkpoint.action_space
    peer = peer_model(model)
    solver = peer_solver("CEMSolver", peer, space.block_dim, PAPER_SEARCH.horizon, seed, **peer_sizes(PAPER_SEARCH))
    rows = []
    pairs = planning_problems(checkpoint, task, problems, seed)
    for z, goal in tqdm(pairs, desc="same quality", unit="problem"):
        started_s = time.perf_counter()
        peer_blocks = peer_plan(solver, z.unsqueeze(0), goal)
        peer_s = time.perf_counter() - started_s
        peer_cost = final_distance(model, z, goal, peer_blocks)
        rows.append({"peer_s": peer_s, "peer_cost": peer_cost} | _time_to(checkpoint, z, goal, peer_cost, seed))
    ratios = [row["peer_s"] / row["plan_s"] if row["plan_s"] else 0.0 for row in rows]
    return {
        "problems": rows,
        "reached": sum(row["plan_s"] is not None for row in rows),
        "peer_s": float(np.median([row["peer_s"] for row in rows])),
        "plan_s": float(np.median([row["plan_s"] or math.inf for row in rows])),
        "times_faster": float(np.median(ratios)),
        "times_faster_p10": float(np.quantile(ratios, 0.1)),
    }


def planning_problems(checkpoint: Checkpoint, task: str, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """The state (K, D) at the start and what the goal has of one (Kg, D), of so many problems of a task."""
    environment, pairs = environment_for(checkpoint, task), []
    try:
        for problem in islice(environment.problems(seed), count):
            environment.reset(problem)
            start, goal = environment.observe(), environment.goals()[-1]
            pairs.append((checkpoint.encode(start).clone(), checkpoint.encode_goal(goal).clone()))
    finally:
        environment.close()
    return pairs


def _time_to(checkpoint: Checkpoint, z: Tensor, goal: Tensor, cost: float, seed: int) -> dict[str, Any]:
    """Seconds of the first search, by number of iterations, whose plan costs no more; None if none does."""
    model, size, device = checkpoint.model, checkpoint.action_space.block_dim, z.device
    problem = PlanningProblem(
        z=z.unsqueeze(0),
        past_actions=torch.zeros(0, size, device=device),
        goal=goal,
        start=torch.zeros(FAST.horizon, size, device=device),
        free=torch.ones(FAST.horizon * checkpoint.action_space.action_block, dtype=torch.bool, device=device),
    )
    for iterations in range(1, MOST_ITERATIONS + 1):
        search = Search(checkpoint, replace(FAST, iterations=iterations))
        generator = torch.Generator(device).manual_seed(seed)
        with torch.no_grad():
            found = search(problem, generator, Deadline())
            reached = final_distance(model, z, goal, found.blocks)
            if reached <= cost:
                call = partial(search, problem, generator, Deadline())
                elapsed = time_calls(call, 3, device, "", warm_up=0)
                return {"plan_s": float(np.median(elapsed)), "cost": reached, "iterations": iterations}
    return {"plan_s": None, "cost": reached, "iterations": MOST_ITERATIONS}
