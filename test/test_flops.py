"""FLOPs as counted by hand are those that are executed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL_PATCH, small_model_config
from torch.overrides import TorchFunctionMode

from lewm_ros.config import ModelConfig, PredictorConfig
from lewm_ros.model import LeWorldModel, Rollout
from lewm_ros.model.rollout import FEW_TOKENS
from lewm_training.bench.flops import Flops, candidate_flops, flops_per_plan, reference_flops, shared_flops
from lewm_training.bench.paper import PATCHES, VJEPA2_AC

SAMPLES, HORIZON = 4, 5
PREDICTOR = PredictorConfig(depth=3, heads=2, head_dim=8, mlp_dim=32, dropout=0.0)
LEWM = replace(small_model_config(), predictor=PREDICTOR)
PATCH = replace(SMALL_PATCH, predictor=PREDICTOR)
REGISTERS = replace(LEWM, encoder=replace(LEWM.encoder, registers=3))


class FlopCounter(TorchFunctionMode):
    """Counts from the shapes that linear layers and attention are called with, whatever kernels then do the work."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = Flops()

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is F.linear:
            features = args[0].shape[-1]
            self.flops += Flops(2 * features * result.numel())
        elif function is F.scaled_dot_product_attention:
            query, keys = args[0], args[1].shape[-2]
            self.flops += Flops(attention=2 * keys * (query.numel() + result.numel()))  # scores, and sums of values
        return result


def executed(call: Callable[[], object]) -> Flops:
    """What a call computes in linear layers and attention."""
    with FlopCounter() as counter, torch.no_grad():
        call()
    return counter.flops


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("history", [1, 3, 4])
@pytest.mark.parametrize("config", [LEWM, REGISTERS, PATCH], ids=["cls", "registers", "patches"])
def test_the_count_is_what_is_executed(config: ModelConfig, history: int, known: int) -> None:
    known, config = min(known, history), replace(config, history=history)
    model = LeWorldModel(config).eval()
    z, past = torch.randn(1, known, model.tokens, config.embedding_dim), torch.randn(1, known - 1, 35)
    plans = torch.randn(1, SAMPLES, HORIZON, 35)
    assert executed(lambda: model.rollout(z, past, plans)) == reference_flops(config, known, HORIZON) * SAMPLES
    rollout = Rollout(model)
    fast = executed(lambda: rollout.start(z, past)(plans))
    counted = shared_flops(config, known, HORIZON) + candidate_flops(config, known, HORIZON) * SAMPLES
    # Over a few tokens attention is spelt out, and the counter does not see it.
    assert fast == (Flops(counted.matmul) if model.tokens * history <= FEW_TOKENS else counted)


def test_attention_over_one_token_a_frame_by_hand() -> None:
    # History 3 from three frames on, one layer of 2 heads of 8: the newest token sees 3, which is 3 scores and 3 values
    # of 16 products each, at each of two steps; what it shares is one token that sees itself, which costs nothing.
    config = replace(LEWM, predictor=replace(PREDICTOR, depth=1))
    assert candidate_flops(config, known=3, horizon=2).attention == 2 * 2 * (2 * 3 * 16)
    assert shared_flops(config, known=2, horizon=1).attention == 0


def test_a_plan_is_samples_times_iterations() -> None:
    plan = flops_per_plan(LEWM, samples=300, iterations=30, horizon=5)
    assert plan == shared_flops(LEWM, 3, 5) + candidate_flops(LEWM, 3, 5) * 9000


def test_the_papers_models() -> None:
    lewm = flops_per_plan(ModelConfig(), 300, 30, 5).total
    patch = flops_per_plan(PATCHES, 300, 30, 5).total
    assert lewm == pytest.approx(4e12, rel=0.5)
    assert patch / lewm > 256  # as many tokens, and attention among them
    assert flops_per_plan(VJEPA2_AC, 300, 30, 5).total > 20 * patch
