"""Searches that a CUDA graph can hold: proven on the CPU, by the operators that they call."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import joint_delta_space, random_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lewm_ros.config import ProposalConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.proposal import Proposal
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.solver import Deadline
from lewm_ros.planning.static_call import StaticCall

WAITS_FOR_VALUES = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_numpy", "masked_select",
    "unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "_linalg_check_errors", "linalg_solve",
    "_assert_async",
}  # fmt: skip
"""Operators that look at values on the device, or whose result's size depends on them."""

FROM_THE_HOST = {"lift_fresh", "lift_fresh_copy"}
"""A tensor made of Python's numbers, which would be copied from the host."""


class Watch(TorchDispatchMode):
    """Collects the operators that a CUDA graph could not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in WAITS_FOR_VALUES | FROM_THE_HOST or by_mask:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def checkpoint() -> Checkpoint:
    """With a proposal and known positions, so that nothing of a search is left out."""
    space = replace(joint_delta_space(), known_low=(-1.0,) * 7, known_high=(1.0,) * 7)
    torch.manual_seed(0)
    return Checkpoint(random_model(), space, Proposal(ProposalConfig(), 16, space).eval())


COSTS = {"map_weight": 1.0, "running_weight": 1.0, "smoothness_weight": 0.1, "limit_weight": 0.1}
SMALL = PlannerConfig(horizon=2, samples=8, elites=2, iterations=2, knots_per_block=1, **COSTS)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("solver", ["cem", "icem", "mppi", "random", "gauss_newton"])
def test_a_search_waits_for_no_value(solver: str, frames: int, positions: bool) -> None:
    planner = RecedingHorizonPlanner(checkpoint(), replace(SMALL, solver=solver))
    problem = planner._blank(frames, positions)
    with torch.no_grad(), Watch() as watch:
        planner._search(problem, planner._generator, Deadline())
    assert watch.found == set()


def test_the_watch_sees_what_a_graph_cannot_hold() -> None:
    numbers = torch.tensor([1.0, 2.0])
    with Watch() as watch:
        bool(numbers[0] > 0.0)
        numbers[numbers > 1.0]
        torch.linalg.solve(torch.eye(2), numbers)
        torch.tensor([3.0])
    assert {"_local_scalar_dense", "index", "lift_fresh"} < watch.found
    assert watch.found & {"_linalg_check_errors", "linalg_solve"}


@dataclass(frozen=True)
class Pair:
    left: Tensor
    right: Tensor | None = None


def test_a_static_call_keeps_inputs_and_results_apart() -> None:
    def double(pair: Pair) -> Pair:
        return Pair(pair.left.mul_(2.0), pair.left)  # changes its input in place, as a graph may

    mine = torch.tensor([1.0])
    call = StaticCall(double, torch.Generator(), Pair(mine))
    first = call(Pair(mine))
    second = call(Pair(torch.tensor([5.0])))
    assert (mine, first.left, second.left) == (1.0, 2.0, 10.0)
    with pytest.raises(ValueError, match=r"left: has shape \(2,\), was captured with \(1,\)"):
        call(Pair(torch.ones(2)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a capture succeeds")
def test_where_nothing_can_be_captured_plans_are_the_same_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plans = []
    for captures in (False, True):
        planner = RecedingHorizonPlanner(checkpoint(), SMALL)
        if captures:  # as on CUDA: every capture is tried, and the first one fails, since there is no GPU
            with caplog.at_level(logging.WARNING), torch.no_grad():
                assert not planner._capture(planner._blank(1, True))
        planner.reset()
        planner.observe(0, torch.zeros(1, 16))
        plans.append(planner.decide(0, torch.ones(1, 16), np.zeros(7)).actions)
    np.testing.assert_array_equal(*plans)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "the search cannot be captured in a CUDA graph and runs as it is"
    ]


def test_to_prepare_changes_no_plan() -> None:
    plans = []
    for prepares in (False, True):
        planner = RecedingHorizonPlanner(checkpoint(), SMALL, seed=2)
        if prepares:
            planner.prepare()
        planner.observe(0, torch.zeros(1, 16))
        plans.append(planner.decide(0, torch.ones(1, 16)).actions)
    np.testing.assert_array_equal(*plans)
