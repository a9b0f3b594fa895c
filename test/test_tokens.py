"""Patch tokens, the baseline, by the same classes: what a state is, training, its place in checkpoints and the loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL_PATCH, joint_delta_space, random_model, random_patch_model, small_model_config
from toy_training import toy_trainer, write_bars

from lewm_ros.config import ConfigError, EncoderConfig, ModelConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_training.__main__ import main
from lewm_training.bench.paper import PATCHES, VJEPA2_AC


def test_a_state_is_every_patch_token_normalised() -> None:
    tokens = random_patch_model().encode(torch.randn(3, 3, 32, 32))
    assert tokens.shape == (3, 16, 32)  # 4 x 4 patches of 32 features
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(3, 16), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(3, 16), atol=1e-3, rtol=0.0)


def test_the_papers_have_256_tokens() -> None:
    assert PATCHES.tokens_per_frame == VJEPA2_AC.tokens_per_frame == 256
    assert ModelConfig().tokens_per_frame == 1


@torch.no_grad()
def test_a_token_sees_its_own_frame_and_those_before_and_nothing_later() -> None:
    model = random_patch_model()
    z, actions = torch.randn(1, 3, 16, 32), torch.randn(1, 3, 35)
    before = model.predict(z, actions)
    changed = z.clone()
    changed[0, 1, 5] += 1.0  # one token of the second frame
    moved = (model.predict(changed, actions) - before).abs().amax(-1)[0]  # (H, K)
    assert (moved[0] == 0.0).all()
    assert (moved[1:] > 1e-3).all()
    acted = actions.clone()
    acted[0, 1] += 1.0
    moved = (model.predict(z, acted) - before).abs().amax(-1)[0]
    assert (moved[0] == 0.0).all()
    assert (moved[1:] > 1e-3).all()


def test_a_checkpoint_keeps_it_and_says_what_it_is(tmp_path: Path) -> None:
    model = random_patch_model()
    path = save_checkpoint(Checkpoint(model, joint_delta_space()), tmp_path / "patches")
    loaded = load_checkpoint(path)
    assert json.loads(path.read_text())["model"]["tokens"] == "patches"
    assert loaded.state_shape == (16, 32)
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded.model.encode(pixels), model.encode(pixels))
    with pytest.raises(CheckpointError, match="has a state of patches tokens, but cls is needed"):
        loaded.require_tokens("cls")


def test_the_same_planner_plans_with_it() -> None:
    config = PlannerConfig(samples=8, elites=2, iterations=2, horizon=2, precision="fp32")
    planner = RecedingHorizonPlanner(Checkpoint(random_patch_model(), joint_delta_space()), config)
    planner.observe(0, torch.randn(16, 32))
    decision = planner.decide(0, torch.randn(16, 32))
    assert decision.actions.shape == (10, 7)
    assert decision.status == "found"


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("bars"))


def test_training_moves_the_predictor_and_never_the_encoder(bars: Path, tmp_path: Path) -> None:
    sizes = {"batch_size": 4, "epochs": 1, "steps_per_epoch": 60, "learning_rate": 3e-3}
    trainer = toy_trainer(bars, tmp_path, model=SMALL_PATCH, **sizes)
    encoder = {name: tensor.clone() for name, tensor in trainer.model.encoder.state_dict().items()}
    metrics = trainer.run().provenance["metrics"]
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in trainer.model.encoder.state_dict().items())
    assert metrics["validation/prediction"] < 0.5  # knowing nothing gives 2: tokens of unit variance, uncorrelated
    assert load_checkpoint(tmp_path / "model").state_shape == (16, 32)


def test_an_interrupted_run_goes_on_to_the_same_weights(bars: Path, tmp_path: Path) -> None:
    toy_trainer(bars, tmp_path / "straight", model=SMALL_PATCH).run()
    toy_trainer(bars, tmp_path / "stopped", model=SMALL_PATCH).run(until=1)
    toy_trainer(bars, tmp_path / "stopped", model=SMALL_PATCH).run()
    straight, stopped = (load_checkpoint(tmp_path / name / "model").model for name in ("straight", "stopped"))
    for name, tensor in straight.state_dict().items():
        assert torch.equal(stopped.state_dict()[name], tensor), name
    with pytest.raises(ConfigError, match="another config"):
        toy_trainer(bars, tmp_path / "stopped", model=SMALL_PATCH, batch_size=5).run()


def test_the_encoder_can_be_that_of_another_model(bars: Path, tmp_path: Path) -> None:
    source = Checkpoint(random_model(), joint_delta_space())
    path = save_checkpoint(source, tmp_path / "cls")
    model = replace(SMALL_PATCH, encoder=EncoderConfig(image_size=32, patch_size=16, width=32, depth=2, heads=2))
    trainer = toy_trainer(bars, tmp_path / "run", model=model, encoder_checkpoint=str(path))
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        _, patches = source.model.encoder.prefix_and_patches(pixels)
        expected = torch.nn.functional.layer_norm(patches, (32,))
        torch.testing.assert_close(trainer.model.encode(pixels), expected)
    assert trainer.config.model.encoder == small_model_config().encoder


def test_a_timm_model_must_be_what_the_configuration_says() -> None:
    tiny = EncoderConfig(image_size=32, patch_size=16, width=192, timm_name="vit_tiny_patch16_224")
    config = replace(SMALL_PATCH, encoder=tiny, embedding_dim=192)
    assert LeWorldModel(config).encode(torch.randn(1, 3, 32, 32)).shape == (1, 4, 192)
    other = replace(SMALL_PATCH.encoder, timm_name="vit_tiny_patch16_224")
    with pytest.raises(ConfigError, match=r"set encoder\.patch_size to 16 and encoder\.width to 192"):
        LeWorldModel(replace(SMALL_PATCH, encoder=other))
    nowhere = replace(SMALL_PATCH.encoder, timm_name="vit_of_nowhere")
    with pytest.raises(ConfigError, match="timm_name 'vit_of_nowhere': cannot be used"):
        LeWorldModel(replace(SMALL_PATCH, encoder=nowhere))


def test_the_same_commands_train_it_and_what_takes_one_token_refuses_it(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "patches.yaml"
    config.write_text(
        "{model: {encoder: {image_size: 32, patch_size: 8, width: 32, depth: 1, heads: 2}, tokens: patches,"
        " embedding_dim: 32, predictor_width: 16, predictor: {depth: 1, heads: 2, head_dim: 8, mlp_dim: 32}},"
        " batch_size: 4, epochs: 1, steps_per_epoch: 2, validation_fraction: 0.2, validation_windows: 4,"
        " precision: fp32}"
    )
    out = tmp_path / "run"
    assert main(["train", "--dataset", str(bars), "--config", str(config), "--out", str(out)]) == 0
    assert "validation/prediction" in capsys.readouterr().out
    assert main(["export", "--to", "lewm", str(out / "model"), "--out", str(tmp_path / "exported")]) == 2
    assert "has a state of patches tokens, but cls is needed" in capsys.readouterr().err
