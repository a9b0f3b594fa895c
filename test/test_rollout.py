"""The rollout for planning gives the numbers of the short and obvious one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import SMALL_PATCH, random_model, small_model_config, stirred
from torch import Tensor

from lewm_ros.config import EncoderConfig, PredictorConfig
from lewm_ros.model import LeWorldModel, Rollout, rollout
from lewm_ros.observation.input_spec import CameraSpec, InputSpec, VectorSpec

CAMERAS = tuple(CameraSpec(name, 32) for name in ("scene", "wrist"))
JOINTS = VectorSpec("proprio", ("a", "b", "c"), (0.0,) * 3, (1.0,) * 3)
DEEP = PredictorConfig(depth=3, heads=2, head_dim=8, mlp_dim=32, dropout=0.1)


def model_of(state: str, history: int = 3) -> LeWorldModel:
    """Three layers, random everywhere, with one of the states that there are."""
    torch.manual_seed(1)
    config = replace(SMALL_PATCH if state == "patches" else small_model_config(), predictor=DEEP, history=history)
    inputs = InputSpec(CAMERAS[:1])
    if state == "registers":
        encoder = EncoderConfig(image_size=32, patch_size=8, width=32, depth=1, heads=2, registers=3)
        config = replace(config, encoder=encoder)
    elif state == "two views and joints":
        inputs = InputSpec(CAMERAS, (JOINTS,))
    return stirred(LeWorldModel(config, inputs))


STATES = {"cls": 1, "registers": 4, "two views and joints": 3, "patches": 16}
"""Tokens of each."""


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("history", [1, 3, 4])
@torch.no_grad()
def test_it_equals_the_reference(state: str, known: int, history: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known, model = min(known, history), model_of(state, history)
    assert model.tokens == STATES[state]
    monkeypatch.setattr(rollout, "TOKENS_AT_ONCE", 2 * 2 * model.tokens * history)  # two plans of each problem at once
    z = torch.randn(2, known, model.tokens, model.config.embedding_dim)
    past, plans = torch.randn(2, known - 1, 35), torch.randn(2, 5, 5, 35)
    imagine = Rollout(model).start(z, past)
    reference = model.rollout(z, past, plans)
    torch.testing.assert_close(imagine(plans), reference, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(imagine(plans[:, :2]), reference[:, :2], atol=1e-4, rtol=1e-3)  # and when called again


@pytest.mark.parametrize("state", STATES)
@torch.no_grad()
def test_bf16_is_close(state: str) -> None:
    model = model_of(state)
    z = torch.randn(1, 3, model.tokens, model.config.embedding_dim)
    past, plans = torch.randn(1, 2, 35), torch.randn(1, 64, 5, 35)
    reference = model.rollout(z, past, plans)
    error = (Rollout(model, "bf16").start(z, past)(plans) - reference).square().mean().sqrt()
    assert error < 0.03 * reference.std()


@pytest.mark.parametrize("state", STATES)
def test_gradients_reach_the_plans(state: str) -> None:
    model = random_model() if state == "cls" else model_of(state)
    z, past = torch.randn(1, 3, model.tokens, model.config.embedding_dim), torch.randn(1, 2, 35)
    plans = torch.randn(1, 2, 3, 35, requires_grad=True)
    (fast,) = torch.autograd.grad(Rollout(model).start(z, past)(plans)[..., ::3].square().sum(), plans)
    (reference,) = torch.autograd.grad(model.rollout(z, past, plans)[..., ::3].square().sum(), plans)
    torch.testing.assert_close(fast, reference, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("known", [1, 2, 3])
def test_blocks_chosen_one_after_another_see_the_states_that_they_lead_to(known: int) -> None:
    model = random_model()
    z, past, plans = torch.randn(2, known, 1, 16), torch.randn(2, known - 1, 35), torch.randn(2, 4, 5, 35)
    imagine, seen = Rollout(model).start(z, past), []

    def choose(step: int, state: Tensor) -> Tensor:
        seen.append(state)
        return plans[:, :, step]

    with torch.no_grad():
        states = imagine.follow(choose, samples=4, steps=5)
        to_end = imagine.follow(lambda step, _: plans[:, :, step], samples=4, steps=5, to_end=True)
        after = imagine(plans)
    torch.testing.assert_close(seen[0], z[:, None, -1].expand(2, 4, 1, 16))
    torch.testing.assert_close(torch.stack(seen[1:], dim=2), after[:, :, :-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack(states, dim=2), after[:, :, :-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack(to_end, dim=2), after, atol=1e-5, rtol=1e-4)
