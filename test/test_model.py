"""LeWorldModel: shapes, the loss, what a rollout is, and collapse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import small_model_config

from lewm_ros.config import ModelConfig, SIGRegConfig
from lewm_ros.model import LeWorldModel, SIGReg
from lewm_ros.model.inputs import normalise_frame, normalise_pixels


@pytest.fixture
def model() -> LeWorldModel:
    torch.manual_seed(0)
    return LeWorldModel(small_model_config()).eval()


def test_the_papers_model_has_18_million_parameters() -> None:
    model = LeWorldModel(ModelConfig())
    count = sum(p.numel() for p in model.parameters())
    assert 17e6 < count < 19e6
    assert 5e6 < sum(p.numel() for p in model.encoder.vit.parameters()) < 6e6


def test_public_shapes(model: LeWorldModel) -> None:
    config = model.config
    size, history, dim, action = config.encoder.image_size, config.history, config.embedding_dim, config.action_dim
    assert model.encode(torch.zeros(2, 3, size, size)).shape == (2, 1, dim)
    assert model.predict(torch.zeros(2, history, 1, dim), torch.zeros(2, history, action)).shape == (2, history, 1, dim)
    rollout = model.rollout(
        torch.zeros(2, history, 1, dim), torch.zeros(2, history - 1, action), torch.zeros(2, 5, 4, action)
    )
    assert rollout.shape == (2, 5, 4, 1, dim)


def test_a_convolutional_stem_gives_the_same_shapes() -> None:
    config = small_model_config(stem_channels=(8, 16))
    size = config.encoder.image_size
    assert LeWorldModel(config).eval().encode(torch.zeros(2, 3, size, size)).shape == (2, 1, config.embedding_dim)


def test_a_rollout_is_predict_fed_back_over_a_sliding_history(model: LeWorldModel) -> None:
    _stir(model)
    history, dim, action = model.config.history, model.config.embedding_dim, model.config.action_dim
    z = torch.randn(1, history, 1, dim)
    past, plans = torch.randn(1, history - 1, action), torch.randn(1, 2, 3, action)
    imagined = model.rollout(z, past, plans)
    for sample in range(2):
        states, actions = z, torch.cat([past, plans[:, sample]], dim=1)
        for step in range(3):
            following = model.predict(states[:, -history:], actions[:, step : step + history])[:, -1:]
            states = torch.cat([states, following], dim=1)
        torch.testing.assert_close(imagined[:, sample], states[:, history:])


def test_a_rollout_starts_from_less_than_the_full_history(model: LeWorldModel) -> None:
    dim, action = model.config.embedding_dim, model.config.action_dim
    imagined = model.rollout(torch.zeros(1, 1, 1, dim), torch.zeros(1, 0, action), torch.zeros(1, 2, 4, action))
    assert imagined.shape == (1, 2, 4, 1, dim)


def test_the_predictor_is_causal(model: LeWorldModel) -> None:
    _stir(model)
    history, dim, action = model.config.history, model.config.embedding_dim, model.config.action_dim
    z, actions = torch.randn(1, history, 1, dim), torch.randn(1, history, action)
    later = actions.clone()
    later[:, -1] += 1.0
    before, after = model.predict(z, actions), model.predict(z, later)
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_at_the_start_actions_change_nothing_because_adaln_gates_are_zero(model: LeWorldModel) -> None:
    history, dim, action = model.config.history, model.config.embedding_dim, model.config.action_dim
    z = torch.randn(1, history, 1, dim)
    rest, busy = (model.predict(z, scale * torch.ones(1, history, action)) for scale in (0.0, 1.0))
    torch.testing.assert_close(rest, busy)


def test_sigreg_of_a_constant_is_known() -> None:
    # All embeddings at the origin: the characteristic function is 1 everywhere, so the statistic is
    # N * 2 * integral over [0, 3] of (1 - exp(-t^2/2))^2 exp(-t^2/2) dt.
    t = np.linspace(0.0, 3.0, 20001)
    gaussian = np.exp(-(t**2) / 2.0)
    values = (1.0 - gaussian) ** 2 * gaussian
    expected = 10 * 2.0 * np.sum((values[1:] + values[:-1]) / 2.0) * (t[1] - t[0])
    measured = SIGReg(SIGRegConfig(directions=4)).forward(torch.zeros(1, 10, 3))
    assert math.isclose(measured.item(), expected, rel_tol=1e-3)


def test_sigreg_prefers_a_standard_gaussian() -> None:
    torch.manual_seed(0)
    sigreg = SIGReg(SIGRegConfig(directions=64))
    gaussian = torch.randn(1, 256, 8)
    flat = gaussian * torch.tensor([1.0] * 4 + [0.0] * 4)
    values = [sigreg(z).item() for z in (gaussian, 2.0 * gaussian, gaussian + 1.0, flat)]
    assert values[0] == min(values)
    assert values[0] < 0.2 * min(values[1:])


def test_gradients_flow_through_both_sides_of_the_prediction_error() -> None:
    torch.manual_seed(0)
    model = LeWorldModel(small_model_config()).train()
    size = model.config.encoder.image_size
    pixels = torch.randn(4, model.config.history + 1, 3, size, size, requires_grad=True)
    actions = torch.randn(4, model.config.history, model.config.action_dim)
    model.loss(pixels, actions, SIGReg(SIGRegConfig())).prediction.backward()
    reached = pixels.grad.abs().sum((0, 2, 3, 4))
    assert (reached > 0).all()  # the last frame is only ever a target


@pytest.mark.parametrize(("weight", "collapses"), [(0.0, True), (0.1, False)])
def test_collapse_is_real_and_sigreg_prevents_it(weight: float, collapses: bool) -> None:
    torch.manual_seed(0)
    model = LeWorldModel(small_model_config()).train()
    sigreg = SIGReg(SIGRegConfig(directions=64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    size, history = model.config.encoder.image_size, model.config.history
    # A bright square that walks to the right by the action: the smallest world with something to predict.
    spreads = []
    for _ in range(60):
        places = torch.randint(0, size // 2, (32, 1)) + torch.arange(history + 1)
        pixels = ((torch.arange(size) - places.unsqueeze(-1)).abs() < 4).float() * 2.0 - 1.0
        pixels = pixels[:, :, None, None, :].expand(-1, -1, 3, size, -1)
        loss = model.loss(pixels, torch.ones(32, history, model.config.action_dim), sigreg)
        optimizer.zero_grad()
        (loss.prediction + weight * loss.sigreg).backward()
        optimizer.step()
        spreads.append(loss.states.detach().std(dim=(0, 1)).mean().item())
    if collapses:
        assert spreads[-1] < 0.1 * spreads[0]
    else:
        assert spreads[-1] > 0.5


def test_a_single_frame_is_normalised_to_the_same_bits() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    frame = np.concatenate([values, values[::-1], values.swapaxes(0, 1)], axis=2)
    assert torch.equal(normalise_frame(frame), normalise_pixels(torch.from_numpy(frame).unsqueeze(0)))


def test_pixels_are_imagenet_normalised() -> None:
    white = normalise_pixels(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    assert white.shape == (1, 3, 2, 2)
    # (1 - mean) / std of the red channel: (1 - 0.485) / 0.229
    assert math.isclose(white[0, 0, 0, 0].item(), 2.2489, abs_tol=1e-4)


def _stir(model: LeWorldModel) -> None:
    """Give the zero-initialised AdaLN layers weights, so that attention, MLP and actions matter."""
    torch.manual_seed(1)
    for block in model.predictor.blocks:
        torch.nn.init.normal_(block.modulation[-1].weight, std=0.3)
