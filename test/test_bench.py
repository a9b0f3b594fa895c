"""What the benchmarks compare is the same thing on both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import random_model, random_patch_model

from lewm_ros.config import UserError
from lewm_ros.model import Rollout
from lewm_ros.planning import PlannerConfig
from lewm_training.bench.paper import final_distance, search_from
from lewm_training.bench.peer import peer_costs, peer_model, peer_plan, peer_sizes, peer_solver
from lewm_training.judge.machine import matmul_rate, time_calls

SEARCH = PlannerConfig(samples=16, iterations=3, elites=4, horizon=5, precision="fp32", minimum_std=0.0)
REASON = "the reference is not installed: pip install -e '.[bench]'"


def problem(width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 1, width, generator=generator), torch.randn(1, width, generator=generator)


def test_costs_equal_the_references() -> None:
    pytest.importorskip("stable_worldmodel", reason=REASON)
    model, (z, goal) = random_model(), problem()
    plans = torch.randn(1, 32, 5, 35)
    with torch.no_grad():
        after = Rollout(model).start(z.unsqueeze(0), plans.new_zeros(1, 0, 35))(plans)[:, :, -1]
    costs = (after - goal).square().sum((-2, -1))  # the reference adds up over dimensions
    torch.testing.assert_close(costs, peer_costs(peer_model(model), z, goal, plans), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("name", ["CEMSolver", "ICEMSolver"])
def test_the_reference_finds_plans_with_these_weights(name: str) -> None:
    pytest.importorskip("stable_worldmodel", reason=REASON)
    model, (z, goal) = random_model(), problem()
    solver = peer_solver(name, peer_model(model), 35, 5, 0, **peer_sizes(SEARCH))
    rest = final_distance(model, z[0], goal, torch.zeros(5, 35))
    assert final_distance(model, z[0], goal, peer_plan(solver, z, goal)) < rest


def test_a_model_that_the_reference_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"has states of one token, .* this model's have 16 of 32"):
        peer_model(random_patch_model())


def test_a_search_reports_what_its_plan_costs() -> None:
    model, (z, goal) = random_model(), problem()
    plan = search_from(model, replace(SEARCH, iterations=5), z.unsqueeze(0), goal, seed=0)
    assert final_distance(model, z[0], goal, plan.blocks[0]) == pytest.approx(plan.cost.item(), rel=1e-4)


def test_calls_are_counted_and_a_rate_is_positive() -> None:
    calls: list[int] = []
    elapsed_s = time_calls(lambda: calls.append(1), 4, torch.device("cpu"), "call", warm_up=2)
    assert (len(calls), len(elapsed_s)) == (6, 4)
    assert matmul_rate(torch.float32, torch.device("cpu"), size=64, repeats=2) > 0.0
