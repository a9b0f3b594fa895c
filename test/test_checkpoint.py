"""Checkpoints: what is written is read back; what is damaged is named."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import joint_delta_space

from lewm_ros.config import ConfigError, ProposalConfig
from lewm_ros.model.checkpoint import CheckpointError, ErrorSpread, load_checkpoint, save_checkpoint
from lewm_ros.model.proposal import Proposal


@pytest.fixture
def copy(checkpoint_path: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may damage."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(checkpoint_path.with_suffix(suffix), tmp_path)
    return tmp_path / checkpoint_path.name


def test_round_trip(checkpoint_path: Path) -> None:
    loaded = load_checkpoint(checkpoint_path)
    assert loaded.action_space == joint_delta_space()
    assert not loaded.model.training
    assert loaded.identity.startswith("tiny-")


@pytest.mark.parametrize("suffix", ["", ".json", ".safetensors"])
def test_a_path_is_taken_with_or_without_suffix(checkpoint_path: Path, suffix: str) -> None:
    path = checkpoint_path.with_suffix(suffix) if suffix else checkpoint_path.with_suffix("")
    pixels = torch.zeros(1, 3, 32, 32)
    first, second = load_checkpoint(path).model, load_checkpoint(checkpoint_path).model
    torch.testing.assert_close(first.encode(pixels), second.encode(pixels))


def test_a_proposal_is_kept_beside_the_model(checkpoint_path: Path, tmp_path: Path) -> None:
    plain = load_checkpoint(checkpoint_path)
    assert plain.proposal is None
    proposal = Proposal(ProposalConfig(width=8, depth=1), 16, plain.action_space).eval()
    path = save_checkpoint(replace(plain, proposal=proposal), tmp_path / "proposing")
    loaded = load_checkpoint(path).proposal
    z, goal, left = torch.ones(2, 16), torch.zeros(2, 16), torch.tensor([1, 4])
    torch.testing.assert_close(loaded(z, goal, left), proposal(z, goal, left))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _refused(tmp_path / "nothing", "no file", "nothing.json")


def test_missing_weights_are_named(copy: Path) -> None:
    copy.with_suffix(".safetensors").unlink()
    _refused(copy, "no file", "tiny.safetensors")


def test_changed_weights_are_noticed(copy: Path) -> None:
    weights = copy.with_suffix(".safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    _refused(copy, "tiny.safetensors is damaged")


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("model", "embeding_dim", 16, "unknown key 'embeding_dim'"),
        ("model", "action_dim", 14, "the model takes 14 numbers per block, its action space gives 35"),
        ("action_space", "control_hz", 0.0, "control_hz must be above 0"),
        ("inputs", "cameras", [], "at least one camera"),
        ("inputs", "cameras", [{"name": "scene", "size": 64}], "is of 64 px, the encoder takes 32 px"),
    ],
)
def test_a_wrong_entry_is_named(copy: Path, section: str, key: str, value: object, words: str) -> None:
    content = json.loads(copy.read_text())
    content[section][key] = value
    copy.write_text(json.dumps(content))
    _refused(copy, words)


def test_half_a_json_is_noticed(copy: Path) -> None:
    copy.write_text(copy.read_text()[:100])
    _refused(copy, "tiny.json is damaged")


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_surprise_is_relative_to_the_change_that_was_predicted() -> None:
    # An error of e^-4 is to be expected of a change of 1, and 3 times the logarithm more or less of other changes.
    spread = ErrorSpread(intercept=-4.0, slope=3.0, std=0.5, least_change=math.exp(-1.0))
    assert spread.surprise(math.exp(-4.0), 1.0) == pytest.approx(0.0)
    assert spread.surprise(math.exp(-3.0), 1.0) == pytest.approx(2.0), "(-3 - -4) / 0.5"
    assert spread.surprise(math.exp(-1.0), math.e) == pytest.approx(0.0)
    assert spread.surprise(math.exp(-7.0), 1e-9) == pytest.approx(0.0), "as a change of e^-1"
    assert math.isfinite(spread.surprise(0.0, 0.0))
    with pytest.raises(ConfigError, match="std: must be above 0"):
        ErrorSpread(0.0, 1.0, 0.0, 1.0)


def test_a_checkpoint_of_format_1_is_read(checkpoint_path: Path, copy: Path) -> None:
    content = json.loads(copy.read_text())
    space = joint_delta_space()
    content |= {
        "format": 1,
        "kind": "lewm",
        "image": {"size": 32},
        "action_space": {
            "kind": "joint_delta",
            "control_hz": 20.0,
            "action_block": 5,
            "limit": [0.05] * 7,
            "mean": [0.0] * 7,
            "std": [0.015] * 7,
            "joint_names": list(space.names),
            "known_low": [-1.0] * 7,
            "known_high": [1.0] * 7,
        },
    }
    del content["inputs"]
    copy.write_text(json.dumps(content))
    loaded, same = load_checkpoint(copy), load_checkpoint(checkpoint_path)
    assert loaded.action_space == replace(space, known_low=(-1.0,) * 7, known_high=(1.0,) * 7)
    assert [(camera.name, camera.size) for camera in loaded.inputs.cameras] == [("scene", 32)]
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded.model.encode(pixels), same.model.encode(pixels))
    copy.write_text(json.dumps(content | {"kind": "patch"}))
    _refused(copy, "patch-token models of format 1 cannot be converted")
    copy.write_text(json.dumps(content | {"format": 3}))
    _refused(copy, "format 3 is unknown")
