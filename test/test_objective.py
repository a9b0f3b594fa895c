"""The loss and its optional terms, and that what makes them fast changes no number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import small_model_config
from torch import Tensor
from toy_training import toy_config

from lewm_ros.config import SIGRegConfig, TrainConfig
from lewm_ros.model import LeWorldModel, SIGReg
from lewm_ros.model.encoder import make_encoder
from lewm_training.learn.objective import Objective, curvature
from lewm_training.learn.trainer import tune_for

WINDOWS, ACTIONS = 6, 35


def objective(**changes: object) -> Objective:
    torch.manual_seed(0)
    config = toy_config(**changes)
    model = LeWorldModel(config.model)
    for block in model.predictor.blocks:  # AdaLN-zero starts at zero, where actions would not matter
        torch.nn.init.normal_(block.modulation[-1].weight, std=0.3)
    return Objective(model, config)


def batch(frames: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(WINDOWS, frames, 3, 32, 32, generator=generator)
    actions = torch.randn(WINDOWS, frames - 1, ACTIONS, generator=generator)
    return pixels, actions, SIGReg(SIGRegConfig()).draw_directions(16, generator)


def test_sigreg_by_recurrence_is_the_formula_written_out() -> None:
    config, generator = SIGRegConfig(directions=32), torch.Generator().manual_seed(0)
    sigreg = SIGReg(config).double()
    z = torch.randn(3, 20, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    directions = sigreg.draw_directions(8, generator)
    t = torch.linspace(0.0, 3.0, 17, dtype=torch.float64)
    phase = (z @ directions).unsqueeze(-1) * t  # (T, B, M, K)
    distance = (phase.cos().mean(1) - torch.exp(-t.square() / 2)).square() + phase.sin().mean(1).square()
    weights = torch.full((17,), 2 * 3.0 / 16, dtype=torch.float64)
    weights[[0, -1]] /= 2
    expected = 20 * (distance * torch.exp(-t.square() / 2) @ weights).mean()
    torch.testing.assert_close(sigreg(z, directions), expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(value, z)[0] for value in (sigreg(z, directions), expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("stem_channels", [(), (8, 16)], ids=["linear patches", "stem"])
def test_the_first_tokens_alone_are_those_of_all_tokens(stem_channels: tuple[int, ...], registers: int) -> None:
    torch.manual_seed(0)
    config = small_model_config(stem_channels)
    encoder = make_encoder(replace(config, encoder=replace(config.encoder, registers=registers))).eval()
    pixels = torch.randn(2, 3, 32, 32)
    prefix, patches = encoder.prefix_and_patches(pixels)
    assert prefix.shape == (2, 1 + registers, 32)
    assert patches.shape == (2, 16, 32)
    torch.testing.assert_close(encoder(pixels), encoder.project(prefix))


def test_attention_by_matmul_is_attention() -> None:
    torch.manual_seed(0)
    model = LeWorldModel(small_model_config()).eval()
    pixels = torch.randn(2, 3, 32, 32)
    fused = model.encode(pixels)
    tune_for(model, TrainConfig(precision="bf16"), torch.device("cpu"))
    torch.testing.assert_close(model.encode(pixels), fused)


def test_by_default_the_loss_is_the_papers_two_terms() -> None:
    composed = objective(sigreg=SIGRegConfig(weight=0.25))
    pixels, actions, directions = batch(4)
    terms = composed(pixels, actions, directions)
    plain = composed.model.loss(pixels, actions, lambda z: composed.sigreg(z, directions))
    assert terms.keys() == {"loss", "prediction", "sigreg"}
    torch.testing.assert_close(terms["loss"], plain.prediction + 0.25 * plain.sigreg)
    torch.testing.assert_close(terms["loss"], terms["prediction"] + 0.25 * terms["sigreg"])


def test_the_rollout_term_is_the_error_of_predictions_fed_back() -> None:
    composed = objective(rollout_blocks=3)
    composed.eval()  # so that BatchNorm treats one step as it treats many
    pixels, actions, directions = batch(composed.config.window_frames)
    assert pixels.shape[1] == 3 + 3
    terms = composed(pixels, actions, directions)
    model = composed.model
    z = model.encode(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
    states, errors = z[:, :3], []
    for ahead in range(3):
        following = model.predict(states[:, -3:], actions[:, ahead : ahead + 3])[:, -1:]
        states = torch.cat([states, following], dim=1)
        errors.append((following[:, 0] - z[:, 3 + ahead]).square().mean())
    torch.testing.assert_close(terms["rollout"], torch.stack(errors[1:]).mean())
    torch.testing.assert_close(terms["loss"], terms["prediction"] + 0.1 * terms["sigreg"] + terms["rollout"])


def test_gradients_of_the_rollout_term_reach_every_frame() -> None:
    composed = objective(rollout_blocks=3, sigreg=SIGRegConfig(weight=0.0))
    pixels, actions, directions = batch(6)
    composed(pixels.requires_grad_(), actions, directions)["rollout"].backward()
    assert (pixels.grad.abs().sum((0, 2, 3, 4)) > 0).all()


def test_straight_paths_have_no_curvature() -> None:
    line = torch.arange(4.0).view(1, 4, 1) * torch.tensor([1.0, 2.0])
    corner = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
    back = torch.tensor([[[0.0], [1.0], [0.0]]])
    # 1 - cos of 0, 90 and 180 degrees.
    assert [curvature(z).item() for z in (line, corner, back)] == pytest.approx([0.0, 1.0, 2.0], abs=1e-6)


def test_straightening_is_weighed_in_and_takes_windows_of_three_frames() -> None:
    composed = objective(straightening=0.5)
    terms = composed(*batch(4))
    torch.testing.assert_close(terms["loss"], terms["prediction"] + 0.1 * terms["sigreg"] + 0.5 * terms["curvature"])
    short = toy_config(straightening=0.5).model.__class__(history=1)
    assert toy_config(model=short).window_frames == 2
    assert toy_config(model=short, straightening=0.5).window_frames == 3


def test_compiling_changes_neither_the_numbers_nor_the_names() -> None:
    plain, compiled = objective(), objective()
    compiled.compile(backend="aot_eager")  # the same graph as for the default backend, without its code generation
    given = batch(4)
    for composed in (plain, compiled):
        composed(*given)["loss"].backward()
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    for (name, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6, msg=name)
