"""The reference LeWM of stable-worldmodel and this project's model are one function, number by number.

The reference needs the extra `bench`; without it, only the tests of the files themselves run.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import joint_delta_space, random_model
from torch import Tensor, nn

from lewm_ros.config import SIGRegConfig
from lewm_ros.model import LeWorldModel, Rollout, SIGReg
from lewm_ros.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.robot.arm_actions import other
from lewm_training.__main__ import main
from lewm_training.data.formats.released import export_data, import_data
from lewm_training.data.formats.released_layout import read_architecture, write_architecture
from lewm_training.data.formats.released_names import to_released

EXAMPLE = Path(__file__).parents[1] / "config" / "lewm.yaml"
BATCH, SAMPLES, HORIZON = 2, 3, 5
MLP = {
    "_target_": "stable_worldmodel.wm.lewm.module.MLP",
    "input_dim": 192,
    "output_dim": 192,
    "hidden_dim": 2048,
    "norm_fn": {"_target_": "torch.nn.BatchNorm1d", "_partial_": True},
}
RELEASED = {  # config.json of quentinll/lewm-tworooms
    "_target_": "stable_worldmodel.wm.lewm.LeWM",
    "encoder": {
        "_target_": "stable_pretraining.backbone.utils.vit_hf",
        "size": "tiny",
        "patch_size": 14,
        "image_size": 224,
        "pretrained": False,
        "use_mask_token": False,
    },
    "predictor": {
        "_target_": "stable_worldmodel.wm.lewm.module.Predictor",
        "num_frames": 3,
        "input_dim": 192,
        "hidden_dim": 192,
        "output_dim": 192,
        "depth": 6,
        "heads": 16,
        "mlp_dim": 2048,
        "dim_head": 64,
        "dropout": 0.1,
        "emb_dropout": 0.0,
    },
    "action_encoder": {
        "_target_": "stable_worldmodel.wm.lewm.module.Embedder",
        "input_dim": 10,
        "emb_dim": 192,
    },
    "projector": MLP,
    "pred_proj": MLP,
}


def small_released(history: int = 3) -> dict[str, Any]:
    """The release's shape in 28 px, two layers of width 48 and D = 24, for blocks of five 7-D actions."""
    config = copy.deepcopy(RELEASED)
    config["encoder"] |= {"image_size": 28, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    config["encoder"] |= {"intermediate_size": 192}
    config["predictor"] |= {"num_frames": history, "input_dim": 24, "hidden_dim": 24, "output_dim": 24}
    config["predictor"] |= {"depth": 2, "heads": 2, "dim_head": 8, "mlp_dim": 32, "dropout": 0.0}
    config["action_encoder"] |= {"input_dim": 35, "emb_dim": 24}
    config["projector"] = MLP | {"input_dim": 48, "output_dim": 24, "hidden_dim": 32}
    config["pred_proj"] = MLP | {"input_dim": 24, "output_dim": 24, "hidden_dim": 32}
    return config


def reference_of(config: dict[str, Any]) -> nn.Module:
    """The reference that a config.json describes, built from its own classes. Every tensor is random, eval mode."""
    reason = "the reference is not installed: pip install -e '.[bench]'"
    lewm = pytest.importorskip("stable_worldmodel.wm.lewm", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    module = importlib.import_module("stable_worldmodel.wm.lewm.module")
    section = {name: {k: v for k, v in config[name].items() if k != "_target_"} for name in config if name[0] != "_"}
    encoder = section["encoder"]
    vit = transformers.ViTConfig(  # as stable_pretraining's vit_hf does it for "tiny"
        **{"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
        | {k: v for k, v in encoder.items() if k not in ("size", "pretrained", "use_mask_token")}
    )
    model = lewm.LeWM(
        encoder=transformers.ViTModel(vit, add_pooling_layer=False),
        predictor=module.Predictor(**section["predictor"]),
        action_encoder=module.Embedder(**section["action_encoder"]),
        projector=module.MLP(**section["projector"] | {"norm_fn": nn.BatchNorm1d}),
        pred_proj=module.MLP(**section["pred_proj"] | {"norm_fn": nn.BatchNorm1d}),
    )
    stir(model.state_dict())
    return model.eval()


def stir(weights: dict[str, Tensor]) -> None:
    """Draw every tensor anew, so that no part is at a value at which it could not be told from another."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in weights.items():
        scale = 0.01 if ".embeddings." in name else 1.0  # tokens so small that the epsilon of LayerNorm shows
        drawn = scale * torch.randn(tensor.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + drawn.abs())
        elif name.endswith("weight") and tensor.ndim == 1:
            tensor.copy_(1.0 + 0.2 * drawn)
        elif name.endswith("weight"):
            tensor.copy_(drawn * tensor[0].numel() ** -0.5)
        else:
            tensor.copy_(0.3 * drawn)


def save_released(folder: Path, model: nn.Module, config: dict[str, Any]) -> Path:
    folder.mkdir()
    torch.save(model.state_dict(), folder / "weights.pt")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def released_folder(folder: Path, model: LeWorldModel) -> Path:
    """What the reference would have saved, made without it."""
    folder.mkdir()
    torch.save(to_released(model.state_dict()), folder / "weights.pt")
    (folder / "config.json").write_text(json.dumps(write_architecture(model.config)))
    return folder


@torch.inference_mode()
def assert_same_numbers(reference: nn.Module, model: LeWorldModel, frames: int) -> None:
    """Embeddings, one-step predictions and 5-step rollouts from so many frames, to 1e-4."""
    torch.manual_seed(frames)
    size, action_dim = model.config.encoder.image_size, model.config.action_dim
    pixels = torch.randn(BATCH, frames, 3, size, size) + torch.randn(BATCH, frames, 3, 1, 1)
    past = torch.randn(BATCH, frames - 1, action_dim)
    plans = torch.randn(BATCH, SAMPLES, HORIZON, action_dim)
    actions = torch.cat([past.unsqueeze(1).expand(-1, SAMPLES, -1, -1), plans], dim=2)  # as the reference takes them
    close = partial(torch.testing.assert_close, atol=1e-4, rtol=0.0)

    info = reference.encode({"pixels": pixels, "action": actions[:, 0, :frames]})
    z = model.encode_windows(pixels)  # of one token
    assert info["emb"].flatten(0, 1).std(dim=0).mean() > 0.05  # frames matter
    close(z.squeeze(-2), info["emb"])

    context = slice(-model.config.history, None)
    predicted = reference.predict(info["emb"][:, context], info["act_emb"][:, context])
    close(model.predict(z[:, context], actions[:, 0, :frames][:, context]).squeeze(-2), predicted)

    videos = pixels.unsqueeze(1).expand(-1, SAMPLES, -1, -1, -1, -1)
    imagined = reference.rollout({"pixels": videos}, actions)["predicted_emb"][:, :, frames:]
    assert imagined.shape == (BATCH, SAMPLES, HORIZON, model.config.embedding_dim)
    assert imagined.std(dim=1).mean() > 0.02  # plans matter
    close(model.rollout(z, past, plans).squeeze(-2), imagined)
    if frames <= model.config.history:
        close(Rollout(model).start(z, past)(plans).squeeze(-2), imagined)


@pytest.mark.parametrize(
    ("config", "frames"),
    [
        (RELEASED, [3]),
        (small_released(history=1), [1, 2, 3]),
        (small_released(history=2), [1, 2, 3]),
        (small_released(history=3), [1, 2, 3, 4]),
    ],
    ids=["released", "history 1", "history 2", "history 3"],
)
def test_an_imported_model_gives_the_references_numbers(
    config: dict[str, Any], frames: list[int], tmp_path: Path
) -> None:
    reference = reference_of(config)
    folder = save_released(tmp_path / "released", reference, config)
    assert main(["import", "--from", "lewm", str(folder), "--out", str(tmp_path / "imported")]) == 0
    model = load_checkpoint(tmp_path / "imported").model
    assert model.encoder.vit.blocks[0].norm1.eps == 1e-12
    for count in frames:
        assert_same_numbers(reference, model, count)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_sigreg_is_the_references_statistic(scale: float) -> None:
    loss = pytest.importorskip("stable_worldmodel.wm.loss", reason="needs the extra `bench`")
    torch.manual_seed(0)
    z = scale * torch.randn(4, 64, 24) + (1.0 - scale) / 3.0
    torch.manual_seed(1)
    expected = loss.SIGReg(knots=17, num_proj=1024)(z)
    measured = SIGReg(SIGRegConfig(directions=1024, knots=17))(z, references_directions(24, 1024, seed=1))
    torch.testing.assert_close(measured, expected, atol=1e-5, rtol=1e-5)


def references_directions(dim: int, count: int, seed: int) -> Tensor:
    """Those that the reference draws after this seed."""
    torch.manual_seed(seed)
    directions = torch.randn(dim, count)
    return directions / directions.norm(dim=0)


def test_loss_and_gradients_are_the_references(tmp_path: Path) -> None:
    config, weight, history = small_released(), 0.09, 3
    reference = reference_of(config)
    import_data(save_released(tmp_path / "released", reference, config), tmp_path / "imported")
    model = load_checkpoint(tmp_path / "imported").model.train()
    reference.train()
    torch.manual_seed(0)
    pixels, actions = torch.randn(16, history + 1, 3, 28, 28), torch.randn(16, history + 1, 35)

    sigreg = importlib.import_module("stable_worldmodel.wm.loss").SIGReg(num_proj=64)
    info = reference.encode({"pixels": pixels, "action": actions})
    predicted = reference.predict(info["emb"][:, :history], info["act_emb"][:, :history])
    torch.manual_seed(1)
    expected = (predicted - info["emb"][:, 1:]).pow(2).mean() + weight * sigreg(info["emb"].transpose(0, 1))
    expected.backward()

    ours = partial(SIGReg(SIGRegConfig(directions=64)), directions=references_directions(24, 64, seed=1))
    terms = model.loss(pixels, actions[:, :history], ours)
    loss = terms.prediction + weight * terms.sigreg
    loss.backward()

    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    gradients = to_released({name: p.grad for name, p in model.named_parameters()}, renamed_vit=new_names(reference))
    expected_gradients = {name: p.grad for name, p in reference.named_parameters()}
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def new_names(reference: nn.Module) -> bool:
    """Whether the installed transformers has the names of 5.9 and newer."""
    return any(name.startswith("encoder.layers.") for name in reference.state_dict())


def test_export_gives_the_weights_back_bit_by_bit_and_the_reference_takes_them(tmp_path: Path) -> None:
    config = small_released()
    reference = reference_of(config)
    import_data(save_released(tmp_path / "released", reference, config), tmp_path / "imported")
    assert main(["export", "--to", "lewm", str(tmp_path / "imported"), "--out", str(tmp_path / "exported")]) == 0
    assert json.loads((tmp_path / "exported" / "config.json").read_text()) == config
    exported = torch.load(tmp_path / "exported" / "weights.pt", weights_only=True)
    again = copy.deepcopy(reference)
    stir({name: tensor.zero_() for name, tensor in again.state_dict().items()})
    again.load_state_dict(exported, strict=True)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
        assert exported[name].dtype == tensor.dtype, name
    assert_same_numbers(again, load_checkpoint(tmp_path / "imported").model, frames=3)


def test_a_model_of_this_project_is_exported_and_the_reference_gives_its_numbers(tmp_path: Path) -> None:
    model = random_model()
    stir(model.state_dict())
    save_checkpoint(Checkpoint(model, joint_delta_space()), tmp_path / "own")
    export_data(tmp_path / "own", tmp_path / "exported")
    reference = reference_of(json.loads((tmp_path / "exported" / "config.json").read_text()))
    reference.load_state_dict(torch.load(tmp_path / "exported" / "weights.pt", weights_only=True), strict=True)
    assert reference.encoder.config.layer_norm_eps == 1e-6
    assert_same_numbers(reference, model, frames=3)


def test_what_is_exported_is_imported_again_with_its_actions(checkpoint_path: Path, tmp_path: Path) -> None:
    export_data(checkpoint_path, tmp_path / "exported")
    import_data(tmp_path / "exported", tmp_path / "again", tmp_path / "exported" / "declaration.yaml")
    first, second = load_checkpoint(checkpoint_path), load_checkpoint(tmp_path / "again")
    assert first.action_space == second.action_space
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_names_and_shapes_are_those_of_the_official_checkpoints() -> None:
    # The inventory of quentinll/lewm-tworooms: 303 tensors, 18,034,478 parameters.
    architecture = read_architecture(RELEASED, "config.json")
    assert write_architecture(architecture) == RELEASED
    model = LeWorldModel(architecture)
    assert sum(p.numel() for p in model.parameters()) == 18_034_478
    released = to_released(model.state_dict())
    assert len(released) == 303
    for name, shape in {
        "encoder.embeddings.cls_token": (1, 1, 192),
        "encoder.embeddings.position_embeddings": (1, 257, 192),
        "encoder.embeddings.patch_embeddings.projection.weight": (192, 3, 14, 14),
        "encoder.encoder.layer.0.attention.attention.query.weight": (192, 192),
        "encoder.encoder.layer.11.output.dense.weight": (192, 768),
        "encoder.layernorm.weight": (192,),
        "predictor.pos_embedding": (1, 3, 192),
        "predictor.transformer.layers.0.attn.to_qkv.weight": (3072, 192),
        "predictor.transformer.layers.5.adaLN_modulation.1.weight": (1152, 192),
        "predictor.transformer.layers.0.mlp.net.1.weight": (2048, 192),
        "action_encoder.patch_embed.weight": (10, 10, 1),
        "action_encoder.embed.0.weight": (768, 10),
        "action_encoder.embed.2.weight": (192, 768),
        "projector.net.0.weight": (2048, 192),
        "projector.net.1.running_mean": (2048,),
        "pred_proj.net.3.weight": (192, 2048),
    }.items():
        assert tuple(released[name].shape) == shape, name


@pytest.mark.parametrize("renamed_vit", [False, True], ids=["as released", "transformers 5.9"])
def test_the_vits_names_of_either_transformers_are_read(renamed_vit: bool, tmp_path: Path) -> None:
    model = random_model()
    folder = released_folder(tmp_path / "released", model)
    torch.save(to_released(model.state_dict(), renamed_vit), folder / "weights.pt")
    import_data(folder, tmp_path / "imported")
    for name, tensor in load_checkpoint(tmp_path / "imported").model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_undeclared_actions_can_be_planned_with_but_move_no_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    figures = import_data(folder, tmp_path / "imported")
    assert "z-scored actions of 7 numbers, space 'other'" in figures["assumed"]
    checkpoint = load_checkpoint(tmp_path / "imported")
    search = PlannerConfig(samples=8, elites=2, iterations=1)
    planner = RecedingHorizonPlanner(checkpoint, search)
    planner.observe(0, torch.zeros(1, 16))
    assert planner.decide(0, torch.ones(1, 16)).actions.shape == (25, 7)  # horizon of 5 blocks of 5 steps
    assert main(["eval", "--checkpoint", str(tmp_path / "imported"), "--episodes", "1"]) == 2
    assert "action space 'other': the simulated Panda acts in joint_delta or ee_delta" in capsys.readouterr().err


def test_actions_of_any_size_are_declared(tmp_path: Path) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    path = tmp_path / "declared.yaml"
    declared = {"limit": [1.0] * 5, "mean": [0.1] * 5, "std": [0.2] * 5}
    path.write_text(yaml.safe_dump({"action_space": "other", "control_hz": 10, "action_block": 7} | declared))
    import_data(folder, tmp_path / "imported", path)
    expected = replace(other((1.0,) * 5, 10.0), action_block=7, mean=(0.1,) * 5, std=(0.2,) * 5)
    assert load_checkpoint(tmp_path / "imported").action_space == expected


def test_the_example_declares_an_arm(tmp_path: Path) -> None:
    figures = import_data(released_folder(tmp_path / "released", random_model()), tmp_path / "imported", EXAMPLE)
    assert "assumed" not in figures
    assert load_checkpoint(tmp_path / "imported").action_space.name == "joint_delta"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_block": 4}, "gives 28 numbers per block (4 steps of 7), the model takes 35"),
        ({"action_space": "joint_angles"}, "action_space: 'joint_angles' is unknown"),
        ({"limit": [0.05] * 6}, "limit: must have 7 numbers"),
        ({"std": [0.0] * 7}, "every std above 0"),
        ({"image_normalisation": "none"}, "must be imagenet"),
        ({"limits": [0.05] * 7}, "unknown key 'limits'; did you mean 'limit'?"),
    ],
)
def test_a_wrong_declaration_is_one_line(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    path = tmp_path / "declared.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(EXAMPLE.read_text()) | changes))
    out = tmp_path / "imported"
    assert main(["import", "--from", "lewm", str(folder), "--out", str(out), "--config", str(path)]) == 2
    assert_one_line(capsys.readouterr().err, "declared.yaml", words)
    assert not out.with_suffix(".json").exists()


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        (None, "_target_", "stable_worldmodel.wm.pldm.PLDM", "_target_ is 'stable_worldmodel.wm.pldm.PLDM'"),
        (None, "predictor", None, "section 'predictor' is missing"),
        ("encoder", "_target_", "torchvision.models.resnet18", "encoder._target_ is 'torchvision.models.resnet18'"),
        ("encoder", "size", "giant", "encoder.size is 'giant'; known: tiny, small, base, large"),
        ("encoder", "patchsize", 14, "unknown key 'patchsize'; did you mean 'patch_size'?"),
        ("encoder", "intermediate_size", 100, "encoder.intermediate_size is 100"),
        ("predictor", "hidden_dim", 64, "predictor.hidden_dim is 64; only a model with 16 can be read"),
        ("predictor", "depth", None, "predictor: missing key 'depth'"),
        ("projector", "norm_fn", None, "projector.norm_fn is None"),
        ("pred_proj", "hidden_dim", 64, "pred_proj.hidden_dim is 64; only a model with 32"),
    ],
)
def test_a_config_of_another_architecture_is_one_line(
    section: str | None, key: str, value: Any, words: str, tmp_path: Path
) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    config = json.loads((folder / "config.json").read_text())
    target = config if section is None else config[section]
    if value is None:
        del target[key]
    else:
        target[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "config.json", words)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("predictor.pos_embedding", None, "missing tensors: 1, first 'predictor.pos_embedding'"),
        ("encoder.embeddings.mask_token", torch.zeros(1), "unknown tensors: 1, first 'encoder.embeddings.mask_token'"),
        ("projector.net.0.weight", torch.zeros(8, 8), "has shape (8, 8), config.json gives (32, 32)"),
        ("projector.net.0.bias", torch.full((32,), torch.nan), "'projector.net.0.bias' is not finite"),
    ],
)
def test_wrong_tensors_are_named(name: str, tensor: Tensor | None, words: str, tmp_path: Path) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    weights = torch.load(folder / "weights.pt", weights_only=True)
    weights.pop(name, None)
    torch.save(weights if tensor is None else weights | {name: tensor}, folder / "weights.pt")
    refused(folder, "weights.pt", words)


class Malicious:
    """Unpickled, it would create the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["saved by torch", "bare pickle"])
def test_nothing_is_unpickled(zipped: bool, tmp_path: Path) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    weights = {"predictor.pos_embedding": Malicious(tmp_path / "broken in")}
    if zipped:
        torch.save(weights, folder / "weights.pt")
    else:
        (folder / "weights.pt").write_bytes(pickle.dumps(weights, protocol=2))
    refused(folder, "weights.pt: refused", "it asks for 'posix.mkdir'")
    assert not (tmp_path / "broken in").exists()


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_half_a_file_is_noticed(size: int, tmp_path: Path) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    whole = (folder / "weights.pt").read_bytes()
    (folder / "weights.pt").write_bytes(whole[:size])
    refused(folder, "weights.pt")


def test_the_one_file_of_weights_must_be_clear(tmp_path: Path) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    (folder / "weights.pt").rename(folder / "weights_epoch_1.pt")
    (folder / "weights_epoch_2.pt").write_bytes((folder / "weights_epoch_1.pt").read_bytes())
    refused(folder, "expected one .pt file, found weights_epoch_1.pt, weights_epoch_2.pt; give the path of one")
    import_data(folder / "weights_epoch_2.pt", tmp_path / "imported")
    (folder / "config.json").unlink()
    refused(folder / "weights_epoch_2.pt", "config.json: cannot be read")


def test_an_existing_checkpoint_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = released_folder(tmp_path / "released", random_model())
    arguments = ["import", "--from", "lewm", str(folder), "--out", str(tmp_path / "imported")]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 2
    assert_one_line(capsys.readouterr().err, "imported.json: exists already")


def test_a_convolutional_stem_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--to", "lewm", "default", "--out", str(tmp_path / "exported")]) == 2
    assert_one_line(
        capsys.readouterr().err, "stem_channels [24, 48, 96, 192] cannot be expressed in the released format"
    )
    assert not list(tmp_path.iterdir())


def refused(source: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as error:
        import_data(source, source.parent / "refused")
    assert_one_line(str(error.value) + "\n", *words)


def assert_one_line(text: str, *words: str) -> None:
    assert text.count("\n") == 1, text
    assert all(word in text for word in words), text
