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
from lewm_ros.model import LeWorldModel
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
    first, second = LeWorldModel.from_checkpoint(path), LeWorldModel.from_checkpoint(checkpoint_path)
    torch.testing.assert_close(first.encode(pixels), second.encode(pixels))


def test_a_proposal_is_kept_beside_the_model(checkpoint_path: Path, tmp_path: Path) -> None:
    plain = load_checkpoint(checkpoint_path)
    assert plain.proposal is None
    proposal = Proposal(ProposalConfig(width=8, depth=1), embedding_dim=16, action_dim=35).eval()
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
        ("action_space", "kind", "cartesian", "action space 'cartesian' is unknown"),
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


def test_another_action_space_is_refused(checkpoint_path: Path) -> None:
    with pytest.raises(CheckpointError, match="acts in 'joint_delta', but 'ee_delta' is asked for"):
        load_checkpoint(checkpoint_path).require_action_space("ee_delta")


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
