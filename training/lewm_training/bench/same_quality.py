"""Time to a plan as good as the reference's, on rendered problems of a trained checkpoint."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lewm_ros.config import PlannerConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.pixels import normalise_pixels
from lewm_ros.planning.search import Problem, Search
from lewm_ros.planning.solver import Deadline
from lewm_ros.sim import SimArm, draw_problems, make_task
from lewm_training.bench.paper import PAPER_SEARCH, final_distance
from lewm_training.bench.peer import peer_model, peer_plan, peer_sizes, peer_solver
from lewm_training.judge.machine import time_calls

FAST = PlannerConfig(
    solver="gauss_newton", samples=1, elites=1, iterations=1, horizon=5, knots_per_block=1, precision="fp32"
)
"""What reaches the same cost, with as few iterations as it takes."""

MOST_ITERATIONS = 20


def bench_same_quality(checkpoint: Checkpoint, problems: int, seed: int) -> dict[str, Any]:
    """Time to a plan that costs no more than the reference's 300 x 30 CEM plan, on rendered reach problems.

    Both start from one frame and judge by the latent distance to the goal at the last step, scored in fp32 by the
    model's own rollout. The reference knows no action bounds; this planner keeps to them. Its time is that of the
    whole call, for the fewest iterations that reach the cost.
    """
    model, space = checkpoint.model, checkpoint.action_space
    peer = peer_model(model)
    solver = peer_solver("CEMSolver", peer, space.block_dim, PAPER_SEARCH.horizon, seed, **peer_sizes(PAPER_SEARCH))
    rows = []
    pairs = planning_problems(checkpoint, problems, seed)
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


@torch.inference_mode()
def planning_problems(checkpoint: Checkpoint, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Embeddings (D,) of the start and the goal view of so many reach problems."""
    model = checkpoint.model
    task = make_task("reach")
    arm = SimArm(checkpoint.action_space.control_hz, model.config.encoder.image_size)
    frames = []
    for problem in itertools.islice(draw_problems(task, arm, seed), count):
        task.start(arm, problem)
        start = arm.render().copy()
        task.show_goal(arm, problem)
        frames.append((start, arm.render().copy()))
    arm.close()
    device = next(model.parameters()).device
    views = torch.from_numpy(np.array(frames)).flatten(0, 1).to(device)
    z = torch.cat([model.encode(normalise_pixels(chunk)) for chunk in views.split(64)]).unflatten(0, (-1, 2))
    return [(start.clone(), goal.clone()) for start, goal in z]


def _time_to(checkpoint: Checkpoint, z: Tensor, goal: Tensor, cost: float, seed: int) -> dict[str, Any]:
    """Seconds of the first search, by number of iterations, whose plan costs no more; None if none does."""
    model, space = checkpoint.model, checkpoint.action_space
    device = z.device
    problem = Problem(
        z=z.unsqueeze(0),
        past_actions=torch.zeros(0, space.block_dim, device=device),
        under_way=None,
        goal=goal,
        start=torch.zeros(FAST.horizon, space.block_dim, device=device),
    )
    for iterations in range(1, MOST_ITERATIONS + 1):
        search = Search(
            model.planning_model(FAST.precision),
            replace(FAST, iterations=iterations),
            space,
            model.config.history,
            device,
            checkpoint.proposal,
        )
        generator = torch.Generator(device).manual_seed(seed)
        with torch.no_grad():
            found = search(problem, generator, Deadline())
            reached = final_distance(model, z, goal, found.blocks)
            if reached <= cost:
                call = partial(search, problem, generator, Deadline())
                elapsed = time_calls(call, 3, device, "", warm_up=0)
                return {"plan_s": float(np.median(elapsed)), "cost": reached, "iterations": iterations}
    return {"plan_s": None, "cost": reached, "iterations": MOST_ITERATIONS}
