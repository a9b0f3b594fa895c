"""Solvers on costs whose minimum is known, and the terms of a cost on plans worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lewm_ros.config import ConfigError, from_mapping, meanings
from lewm_ros.planning import PlannerConfig
from lewm_ros.planning.costs import (
    Candidates,
    GoalDistance,
    LimitMargin,
    Smoothness,
    WeightedDistances,
    compose,
    latent_displacement,
)
from lewm_ros.planning.sampling import coloured
from lewm_ros.planning.solver import Deadline, Plan, Residuals, SearchSpace, total
from lewm_ros.planning.solvers import SOLVERS, make_solver

THOROUGH = PlannerConfig(horizon=2, samples=256, iterations=20, elites=25, knots_per_block=1, precision="fp32")
TARGET = torch.linspace(-2.0, 2.0, 7)


def space(low: float = -3.0, high: float = 3.0, knots: int = 1) -> SearchSpace:
    return SearchSpace(torch.full((35,), low), torch.full((35,), high), action_block=5, knots=knots)


def bowl(plans: Tensor) -> Tensor:
    """Residuals whose squares add up to the mean squared distance from the target."""
    residuals = (plans.unflatten(-1, (5, 7)) - TARGET).flatten(2)
    return residuals * residuals.shape[-1] ** -0.5


def search(
    config: PlannerConfig, residuals: Residuals = bowl, where: SearchSpace | None = None, starts: Tensor | None = None
) -> Plan:
    starts = torch.zeros(1, 1, config.horizon, 35) if starts is None else starts
    solver = make_solver(config, where or space(knots=config.knots_per_block))
    with torch.no_grad():
        return solver.solve(residuals, starts, torch.Generator().manual_seed(0), Deadline())


def test_the_configuration_names_the_solvers_there_are_and_says_what_every_setting_is() -> None:
    known = meanings(PlannerConfig)
    assert set(known) == set(vars(PlannerConfig()))
    assert set(known["solver"].choices) == set(SOLVERS)
    assert all(meaning.description for meaning in known.values())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"solver": "best"}, "solver: must be one of cem, icem, mppi, gradient, gauss_newton, random, got 'best'"),
        ({"horizon": 0}, "horizon: must be from 1 to 100 blocks, got 0"),
        ({"samples": 4, "elites": 5}, "elites: must be at most samples, 4, got 5"),
        ({"mppi_temperature": 0.0}, "mppi_temperature: must be from 1e-06"),
        ({"icem_temperature": 1.0}, "unknown key 'icem_temperature'"),
    ],
)
def test_a_wrong_setting_is_named(setting: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_mapping(PlannerConfig, setting, "planner.yaml")


@pytest.mark.parametrize(
    ("solver", "worst"), [("cem", 0.01), ("icem", 0.01), ("gradient", 0.05), ("gauss_newton", 1e-6), ("mppi", 0.3)]
)
def test_a_solver_finds_the_minimum_of_a_bowl(solver: str, worst: float) -> None:
    # At the start the cost is the mean square of the target, 16/9.
    plan = search(replace(THOROUGH, solver=solver, gradient_step=0.3))
    assert plan.cost.shape == (1,)
    assert plan.cost < worst
    torch.testing.assert_close(plan.blocks[0, 0, :7], TARGET, atol=3 * math.sqrt(worst), rtol=0.0)


def test_gauss_newton_measures_its_jacobian_at_the_best_start() -> None:
    sizes = []

    def residuals(plans: Tensor) -> Tensor:
        sizes.append(plans.shape[1])
        return bowl(plans)

    config = replace(THOROUGH, solver="gauss_newton", iterations=1)
    starts = torch.stack([torch.full((2, 35), start) for start in (2.0, -1.0, 1.0)])[None]
    plan = search(config, residuals, starts=starts)
    # Three starts, a probe of each of 2 x 7 knots, and a step with each of eight dampings. In a bowl one step from the
    # best start, which is not the first, leads to the minimum but for the damping.
    assert sizes == [3, 14, 8]
    assert plan.cost < 1e-5


def test_random_shooting_is_the_floor() -> None:
    costs = {solver: float(search(replace(THOROUGH, solver=solver)).cost) for solver in SOLVERS}
    assert max(costs, key=costs.get) == "random"
    assert costs["random"] < 16 / 9


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_candidate_respects_the_bounds_and_holds_its_knots(solver: str) -> None:
    seen = []

    def residuals(plans: Tensor) -> Tensor:
        seen.append(plans.detach())
        return (plans - 9.0).flatten(2)  # the best plan lies beyond the bound

    plan = search(replace(THOROUGH, solver=solver), residuals, space(-0.5, 0.25))
    candidates = torch.cat(seen, dim=1)
    assert candidates.min() >= -0.5
    assert candidates.max() <= 0.25
    held = candidates.unflatten(-1, (5, 7))
    assert (held == held[..., :1, :]).all()  # one knot per block: all five control steps alike
    if solver in ("cem", "icem", "gradient", "gauss_newton"):
        torch.testing.assert_close(plan.blocks, torch.full((1, 2, 35), 0.25), atol=0.05, rtol=0.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_result_is_never_worse_than_the_best_start(solver: str) -> None:
    config = PlannerConfig(solver=solver, horizon=2, samples=2, iterations=1, elites=1, knots_per_block=1)
    best = TARGET.repeat(2, 5)
    plan = search(config, starts=torch.stack([torch.zeros(2, 35), best])[None])
    assert plan.cost == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_plan_whose_cost_is_not_finite_is_never_chosen(solver: str) -> None:
    def residuals(plans: Tensor) -> Tensor:
        broken = torch.arange(plans.shape[1]) % 2 == 1
        return torch.where(broken[:, None], float("nan"), bowl(plans))

    plan = search(replace(THOROUGH, solver=solver, samples=64, elites=8, iterations=8), residuals)
    assert plan.cost.isfinite().all()
    assert plan.blocks.isfinite().all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_problems_of_a_batch_do_not_mix(solver: str) -> None:
    targets = torch.tensor([-1.0, 1.0])

    def residuals(plans: Tensor) -> Tensor:
        return (plans - targets[:, None, None, None]).flatten(2) * 70**-0.5

    plan = search(replace(THOROUGH, solver=solver, gradient_step=0.3), residuals, starts=torch.zeros(2, 1, 2, 35))
    assert (plan.cost < 1.0).all()  # what the start costs
    assert (plan.blocks.mean((1, 2)) * targets > 0.0).all()


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(ValueError, match="knots_per_block 2 does not divide action_block 5"):
        SearchSpace(torch.zeros(35), torch.ones(35), action_block=5, knots=2)
    with pytest.raises(ValueError, match="a lower bound lies above its upper bound"):
        space(1.0, -1.0)


def test_a_deadline_allows_no_step_that_would_end_too_late() -> None:
    assert Deadline().allows_step()
    passed = Deadline.after(started_s=0.0, milliseconds=1.0)
    assert not passed.allows_step()


def test_coloured_noise_has_unit_variance_and_slow_waves() -> None:
    white, red = (coloured(16, exponent) for exponent in (0.0, 2.0))
    torch.testing.assert_close(white @ white.T, torch.eye(16), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(red.square().sum(1), torch.ones(16))
    assert (red @ red.T)[0, 1] > 0.5  # neighbours go together


def candidates(steps: Tensor, embeddings: Tensor, positions: Tensor | None = None) -> Candidates:
    """One plan of one problem: actions (T * block,) of one joint, embeddings (T,) of one dimension, goal 0."""
    return Candidates(
        steps[None, None, :, None],
        torch.zeros(1),
        embeddings[None, None, :, None],
        torch.zeros(1),
        None if positions is None else positions[None, None, :, None],
    )


def test_cost_terms_by_hand() -> None:
    plan = candidates(torch.tensor([1.0, 1.0, 3.0]), torch.tensor([3.0, 1.0]), torch.tensor([0.0, 0.5, 0.95]))
    margin = LimitMargin(torch.tensor([-1.0]), torch.tensor([1.0]), 0.1)
    for term, cost in (
        (GoalDistance(latent_displacement), 1.0),  # 1 at the last step
        (GoalDistance(latent_displacement, 2.0), 1.0 + 2.0 * (9.0 + 1.0) / 2),
        (Smoothness(), (1.0 + 0.0 + 4.0) / 3),  # from rest to 1, to 1, to 3
        (margin, 0.5**2 / 3),  # half into the margin at the last of three
    ):
        assert total(term(plan)).item() == pytest.approx(cost, rel=1e-5)


def test_terms_add_up_by_weight() -> None:
    plan = candidates(torch.tensor([1.0, 1.0, 3.0]), torch.tensor([3.0, 1.0]))
    config = PlannerConfig(latent_weight=2.0, smoothness_weight=3.0)
    distances = WeightedDistances.of(config, None, None)
    assert total(compose(config, distances, None)(plan)).item() == pytest.approx(2.0 * 1.0 + 3.0 * 5.0 / 3)
    with pytest.raises(ValueError, match="no distance to the goal"):
        WeightedDistances.of(PlannerConfig(latent_weight=0.0, map_weight=1.0), None, None)
