"""The paper's model and search: this planner against the reference's, with the same work."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lewm_ros.model import LeWorldModel, Rollout, make_rollout
from lewm_ros.model.compiled_rollout import CompiledRollout
from lewm_ros.model.precision import matmul_dtype
from lewm_training.bench.flops import flops_per_plan, reference_flops
from lewm_training.bench.paper import (
    PAPER_SEARCH,
    PRECISIONS,
    final_distance,
    paper_model,
    plan_from,
    random_states,
)
from lewm_training.bench.peer import peer_costs, peer_model, peer_plan, peer_sizes, peer_solver
from lewm_training.judge.machine import matmul_rate, time_calls


def bench_same_work(device: torch.device, repeats: int, seed: int, with_peer: bool) -> dict[str, Any]:
    """The paper's model and search: seconds per plan of this planner and of the reference's.

    Every search starts from one frame, so that the window grows to the history of three. Weights are random. This
    planner's are timed as they are and compiled, if they can be; the reference's as it is.

    Returns:
        per planner: seconds, times the reference's speed, FLOPs per plan and what share of the machine's matmul rate
        that is; how far costs differ; what plans of each precision cost in fp32, over several problems.
    """
    model = paper_model(seed).to(device)
    generator = torch.Generator().manual_seed(seed)
    z, goal = (random_states(model.config, 1, generator, device) for _ in range(2))
    flops = flops_per_plan(
        model.config, PAPER_SEARCH.samples, PAPER_SEARCH.iterations, PAPER_SEARCH.horizon, known=1
    ).total
    peer_flops = (
        reference_flops(model.config, 1, PAPER_SEARCH.horizon).total * PAPER_SEARCH.samples * PAPER_SEARCH.iterations
    )
    rates = {precision: matmul_rate(matmul_dtype(precision, device), device) for precision in PRECISIONS}
    planners: dict[str, dict[str, Any]] = {}
    for precision, compiled in product(PRECISIONS, (False, True)):
        rollout = make_rollout(model, precision, compiled)
        for solver in ("cem", "icem"):
            config = replace(PAPER_SEARCH, solver=solver, precision=precision, icem_population_decay=1.0)
            seconds = time_calls(
                partial(plan_from, model, config, z, goal[0], seed, rollout), repeats, device, solver, warm_up=1
            )
            if isinstance(rollout, CompiledRollout) and not rollout.compiles:
                continue  # it ran as it is, which has its own row
            name = f"{solver} {precision}{', compiled' if compiled else ''}"
            planners[name] = _row(seconds, flops, rates[precision])
    if with_peer:
        peer = peer_model(model)
        for name in ("CEMSolver", "ICEMSolver"):
            solver = peer_solver(
                name, peer, model.config.action_dim, PAPER_SEARCH.horizon, seed, **peer_sizes(PAPER_SEARCH)
            )
            seconds = time_calls(partial(peer_plan, solver, z, goal[0]), repeats, device, name, warm_up=0)
            planners[f"stable-worldmodel {name}"] = _row(seconds, peer_flops, rates["fp32"])
        for row in planners.values():
            row["speed_up"] = planners["stable-worldmodel CEMSolver"]["plan_s"] / row["plan_s"]
    return {
        "planners": planners,
        "matmul_flops_per_s": rates,
        **(_cost_difference(model, peer, z, goal[0], generator) if with_peer else {}),
        "bf16_plan_cost_ratio": _precision_ratio(model, seed),
    }


def _cost_difference(
    model: LeWorldModel, peer: torch.nn.Module, z: Tensor, goal: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Largest relative difference between costs of this rollout and of the reference's, over the same plans."""
    size = model.config.action_dim
    plans = torch.randn(1, PAPER_SEARCH.samples, PAPER_SEARCH.horizon, size, generator=generator).to(z.device)
    theirs = peer_costs(peer, z, goal, plans)[0]
    past = plans.new_zeros(1, 0, size)
    figures = {}
    for precision in PRECISIONS:
        with torch.no_grad():
            after = Rollout(model, precision).start(z.unsqueeze(0), past)(plans)[0, :, -1]
        ours = (after - goal).square().sum((-2, -1))  # the reference adds up over dimensions
        figures[f"{precision}_cost_difference"] = float(((ours - theirs) / theirs).abs().max())
    return figures


def _precision_ratio(model: LeWorldModel, seed: int, problems: int = 8) -> dict[str, float]:
    """What plans found in bf16 cost, over those found in fp32 with the same noise; both scored in fp32."""
    generator = torch.Generator().manual_seed(seed + 1)
    device = next(model.parameters()).device
    ratios = []
    for _ in tqdm(range(problems), desc="precision", leave=False):
        z, goal = (random_states(model.config, 1, generator, device) for _ in range(2))
        costs = [
            final_distance(
                model, z[0], goal[0], plan_from(model, replace(PAPER_SEARCH, precision=p), z, goal[0], seed).blocks[0]
            )
            for p in ("bf16", "fp32")
        ]
        ratios.append(costs[0] / costs[1])
    return {"median": float(np.median(ratios)), "largest": max(ratios)}


def _row(elapsed_s: list[float], flops: int, rate: float) -> dict[str, float]:
    seconds = float(np.median(elapsed_s))
    return {"plan_s": seconds, "flops": flops, "share_of_matmul_rate": flops / seconds / rate}
