"""The rollout for planning gives the numbers of the short and obvious one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from conftest import random_model, small_model_config
from torch import Tensor

from lewm_ros.config import PredictorConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.rollout import Rollout
from lewm_ros.planning.static_call import StaticCall


def deep_model(history: int = 3) -> LeWorldModel:
    """Three layers, random everywhere: gates, norms and BatchNorm statistics too."""
    torch.manual_seed(1)
    predictor = PredictorConfig(depth=3, heads=2, head_dim=8, mlp_dim=32, dropout=0.1)
    model = LeWorldModel(replace(small_model_config(), predictor=predictor, history=history)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    norm = model.prediction_projector[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return model


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("history", [1, 2, 3, 4])
@torch.no_grad()
def test_it_equals_the_reference(known: int, history: int) -> None:
    known = min(known, history)
    model = deep_model(history)
    z, past, plans = torch.randn(2, known, 16), torch.randn(2, known - 1, 35), torch.randn(2, 6, 5, 35)
    imagine = Rollout(model).start(z, past)
    reference = model.rollout(z, past, plans)
    torch.testing.assert_close(imagine(plans), reference, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(imagine(plans[:, :2]), reference[:, :2], atol=1e-5, rtol=1e-4)  # and when called again


@torch.no_grad()
def test_bf16_is_close() -> None:
    model = deep_model()
    z, past, plans = torch.randn(1, 3, 16), torch.randn(1, 2, 35), torch.randn(1, 64, 5, 35)
    reference = model.rollout(z, past, plans)
    error = (Rollout(model, "bf16").start(z, past)(plans) - reference).square().mean().sqrt()
    assert error < 0.03 * reference.std()


def test_gradients_reach_the_plans() -> None:
    model = random_model()
    z, past = torch.randn(1, 3, 16), torch.randn(1, 2, 35)
    plans = torch.randn(1, 2, 3, 35, requires_grad=True)
    (fast,) = torch.autograd.grad(Rollout(model).start(z, past)(plans).square().sum(), plans)
    (reference,) = torch.autograd.grad(model.rollout(z, past, plans).square().sum(), plans)
    torch.testing.assert_close(fast, reference, atol=1e-5, rtol=1e-3)


@dataclass(frozen=True)
class Pair:
    left: Tensor
    right: Tensor | None = None


def test_a_static_call_keeps_inputs_and_results_apart() -> None:
    def double(pair: Pair) -> Pair:
        return Pair(pair.left.mul_(2.0), pair.left)  # changes its input in place, as a graph may

    call = StaticCall(double, torch.Generator())
    mine = torch.tensor([1.0])
    first = call(Pair(mine))
    second = call(Pair(torch.tensor([5.0])))
    assert (mine, first.left, second.left) == (1.0, 2.0, 10.0)
    with pytest.raises(ValueError, match=r"left: has shape \(2,\), was captured with \(1,\)"):
        call(Pair(torch.ones(2)))
