"""The patch-token baseline: what it sees, its rollouts, its training, its place in checkpoints and in the loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL_PATCH, joint_delta_space, random_model, random_patch_model, small_model_config
from toy_training import write_bars

from lewm_ros.config import ConfigError, EncoderConfig, PatchConfig, PatchTrainConfig, PlannerConfig
from lewm_ros.model import patch_rollout
from lewm_ros.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from lewm_ros.model.patch import VJEPA2_AC, PatchWorldModel
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_training.__main__ import main
from lewm_training.data import EpisodeDataset
from lewm_training.learn.patch import PatchTrainer


def test_an_embedding_is_every_patch_token_normalised() -> None:
    model = random_patch_model()
    z = model.encode(torch.randn(3, 3, 32, 32))
    assert z.shape == (3, 16 * 32) == (3, SMALL_PATCH.embedding_dim)  # 4 x 4 patches of 32 features
    tokens = z.unflatten(1, (16, 32))
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(3, 16), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(3, 16), atol=1e-3, rtol=0.0)


def test_the_paper_has_256_tokens() -> None:
    assert PatchConfig().tokens == VJEPA2_AC.tokens == 256


@torch.no_grad()
def test_a_token_sees_its_own_frame_and_those_before_and_nothing_later() -> None:
    model = random_patch_model()
    z, actions = torch.randn(1, 3, 16, 32), torch.randn(1, 3, 35)
    before = model.predict(z.flatten(2), actions)
    changed = z.clone()
    changed[0, 1, 5] += 1.0  # one token of the second frame
    moved = (model.predict(changed.flatten(2), actions) - before).unflatten(2, (16, 32)).abs().amax(-1)[0]  # (H, N)
    assert (moved[0] == 0.0).all()
    assert (moved[1:] > 1e-4).all()
    acted = actions.clone()
    acted[0, 1] += 1.0
    moved = (model.predict(z.flatten(2), acted) - before).abs().amax(-1)[0]
    assert moved[0] == 0.0
    assert (moved[1:] > 1e-3).all()


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("history", [1, 2, 3, 4])
@torch.no_grad()
def test_the_fast_rollout_equals_the_reference(known: int, history: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_rollout, "TOKENS_AT_ONCE", 2 * 16 * history)  # two plans at once
    known, model = min(known, history), random_patch_model(history)
    z, past, plans = torch.randn(2, known, 512), torch.randn(2, known - 1, 35), torch.randn(2, 5, 5, 35)
    reference = model.rollout(z, past, plans)
    imagine = model.planning_model("fp32").start(z, past)
    torch.testing.assert_close(imagine(plans), reference, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(imagine(plans[:, :2]), reference[:, :2], atol=1e-4, rtol=1e-3)  # and when called again
    error = (model.planning_model("bf16").start(z, past)(plans) - reference).square().mean().sqrt()
    assert error < 0.05  # tokens have unit variance


def test_gradients_reach_the_plans() -> None:
    model = random_patch_model()
    z, past, plans = torch.randn(1, 3, 512), torch.randn(1, 2, 35), torch.randn(1, 2, 3, 35, requires_grad=True)
    (fast,) = torch.autograd.grad(model.planning_model("fp32").start(z, past)(plans)[..., ::7].sum(), plans)
    (reference,) = torch.autograd.grad(model.rollout(z, past, plans)[..., ::7].sum(), plans)
    torch.testing.assert_close(fast, reference, atol=1e-4, rtol=1e-3)


def test_a_checkpoint_keeps_it_and_says_what_it_is(tmp_path: Path) -> None:
    model = random_patch_model()
    path = save_checkpoint(Checkpoint(model, joint_delta_space()), tmp_path / "patch")
    loaded = load_checkpoint(path)
    assert loaded.kind == json.loads(path.read_text())["kind"] == "patch"
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded.model.encode(pixels), model.encode(pixels))
    with pytest.raises(CheckpointError, match="is of the kind 'patch', but 'lewm' is needed"):
        loaded.require_kind("lewm")


def test_the_same_planner_plans_with_it() -> None:
    model = random_patch_model()
    config = PlannerConfig(samples=8, elites=2, iterations=2, horizon=2, precision="fp32")
    planner = RecedingHorizonPlanner(model.planning_model("fp32"), config, joint_delta_space(), history=3)
    planner.observe(0, torch.randn(512))
    decision = planner.decide(0, torch.randn(512))
    assert decision.actions.shape == (2, 5, 7)
    assert decision.status == "found"


def training(**changes: object) -> PatchTrainConfig:
    sizes = {"batch_size": 4, "epochs": 2, "steps_per_epoch": 3, "validation_fraction": 0.2, "validation_windows": 6}
    return PatchTrainConfig(**{"model": SMALL_PATCH, "precision": "fp32", **sizes, **changes})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return EpisodeDataset.open(write_bars(tmp_path_factory.mktemp("bars")))


def test_training_moves_the_predictor_and_never_the_encoder(dataset: EpisodeDataset, tmp_path: Path) -> None:
    trainer = PatchTrainer(training(epochs=1, steps_per_epoch=60, learning_rate=3e-3), dataset, tmp_path, 0, "cpu")
    encoder = {name: tensor.clone() for name, tensor in trainer.model.vit.state_dict().items()}
    metrics = trainer.run().provenance["metrics"]
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in trainer.model.vit.state_dict().items())
    assert metrics["validation/prediction"] < 0.5  # knowing nothing gives 2: tokens of unit variance, uncorrelated
    assert load_checkpoint(tmp_path / "model").kind == "patch"


def test_an_interrupted_run_goes_on_to_the_same_weights(dataset: EpisodeDataset, tmp_path: Path) -> None:
    PatchTrainer(training(), dataset, tmp_path / "straight", 0, "cpu").run()
    PatchTrainer(training(), dataset, tmp_path / "stopped", 0, "cpu").run(until=1)
    PatchTrainer(training(), dataset, tmp_path / "stopped", 0, "cpu").run()
    straight, stopped = (load_checkpoint(tmp_path / name / "model").model for name in ("straight", "stopped"))
    for name, tensor in straight.state_dict().items():
        assert torch.equal(stopped.state_dict()[name], tensor), name
    with pytest.raises(ConfigError, match="another config"):
        PatchTrainer(training(batch_size=5), dataset, tmp_path / "stopped", 0, "cpu").run()


def test_the_encoder_can_be_that_of_a_world_model(dataset: EpisodeDataset, tmp_path: Path) -> None:
    source = Checkpoint(random_model(), joint_delta_space())
    path = save_checkpoint(source, tmp_path / "lewm")
    trainer = PatchTrainer(training(encoder_checkpoint=str(path)), dataset, tmp_path / "run", 0, "cpu")
    pixels = torch.randn(1, 3, 32, 32)
    tokens = source.model.encoder.tokens(pixels)[:, 1:]
    expected = torch.nn.functional.layer_norm(tokens, (32,)).flatten(1)
    torch.testing.assert_close(trainer.model.encode(pixels), expected)
    assert trainer.config.model.encoder == small_model_config().encoder


def test_a_timm_model_must_be_what_the_configuration_says() -> None:
    tiny = EncoderConfig(image_size=32, patch_size=16, width=192)
    model = PatchWorldModel(replace(SMALL_PATCH, encoder=tiny, timm_name="vit_tiny_patch16_224"))
    assert model.encode(torch.randn(1, 3, 32, 32)).shape == (1, 4 * 192)
    with pytest.raises(ConfigError, match=r"set encoder\.patch_size to 16 and encoder\.width to 192"):
        PatchWorldModel(replace(SMALL_PATCH, timm_name="vit_tiny_patch16_224"))
    with pytest.raises(ConfigError, match="timm_name 'vit_of_nowhere': cannot be used"):
        PatchWorldModel(replace(SMALL_PATCH, timm_name="vit_of_nowhere"))


def test_commands_train_it_and_those_that_need_a_world_model_refuse_it(
    dataset: EpisodeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "patch.yaml"
    config.write_text(
        "{model: {encoder: {image_size: 32, patch_size: 8, width: 32, depth: 1, heads: 2}, width: 16,"
        " predictor: {depth: 1, heads: 2, head_dim: 8, mlp_dim: 32}}, batch_size: 4, epochs: 1, steps_per_epoch: 2,"
        " validation_fraction: 0.2, validation_windows: 4, precision: fp32}"
    )
    data, out = str(dataset.path), str(tmp_path / "run")
    assert main(["train", "--model", "patch", "--dataset", data, "--config", str(config), "--out", out]) == 0
    assert "validation/prediction" in capsys.readouterr().out
    for command in (["probe"], ["train-proposal", "--out", str(tmp_path / "x")]):
        assert main([*command, "--checkpoint", out + "/model", "--dataset", data]) == 2
        assert "is of the kind 'patch', but 'lewm' is needed" in capsys.readouterr().err
