"""Configuration files: what is read back, and what is refused with one line."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path

import pytest

from lewm_ros.config import (
    ConfigError,
    GapConfig,
    ModelConfig,
    ProposalTrainConfig,
    SIGRegConfig,
    TrainConfig,
    from_mapping,
    load,
    to_mapping,
)
from lewm_ros.planning import PlannerConfig


def test_round_trip() -> None:
    config = TrainConfig(batch_size=8, learning_rate=1e-3)
    assert from_mapping(TrainConfig, to_mapping(config)) == config


def test_defaults_are_the_papers() -> None:
    model = ModelConfig()
    assert (model.encoder.image_size, model.encoder.patch_size, model.encoder.depth, model.encoder.width) == (
        224,
        14,
        12,
        192,
    )
    assert (model.predictor.depth, model.predictor.heads, model.predictor.head_dim, model.predictor.mlp_dim) == (
        6,
        16,
        64,
        2048,
    )


def test_yaml_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("learning_rate: 5e-5\n")  # YAML 1.1 takes this for a string
    assert load(TrainConfig, path).learning_rate == 5e-5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_sise: 8\n", ["unknown key 'batch_sise'", "did you mean 'batch_size'"]),
        ("model: {encoder: {patchsize: 8}}\n", ["model: encoder", "unknown key 'patchsize'"]),
        ("batch_size: many\n", ["batch_size", "expected int", "'many'"]),
        ("batch_size: true\n", ["batch_size", "expected int"]),
        ("model: {encoder: {image_size: 100, patch_size: 16}}\n", ["image_size", "multiple of patch_size 16"]),
        ("precision: fp8\n", ["precision", "bf16 or fp32"]),
        ("- a list\n", ["expected a mapping"]),
        ("batch_size: [1\n", ["not valid YAML", "line"]),
        ("batch_size: 8\nepochs: 2\nbatch_size: 9\n", ["not valid YAML at line 3", "key 'batch_size' stands twice"]),
        ("model: {history: 2, history: 3}\n", ["line 1", "key 'history' stands twice"]),
        ("", ["is empty"]),
        ("# nothing but a comment\n", ["is empty"]),
        ("[]\n", ["expected a mapping of settings, got list"]),
        ("model:\n", ["model", "expected a mapping of settings, got NoneType"]),
        ("model: [1]\n", ["model", "expected a mapping of settings, got list"]),
        ("model: {encoder: {stem_channels: 8}}\n", ["stem_channels", "expected a list, got 8"]),
        ("1: 2\n", ["unknown key 1"]),
        ('"two\\nlines": 2\n', ["unknown key 'two\\nlines'"]),
        ("2020-13-45: 1\n", ["not valid YAML"]),
        ("[" * 5000, ["not valid YAML"]),
        *(
            (f"learning_rate: {value}\n", ["learning_rate", "expected a finite float"])
            for value in (".nan", ".inf", "-.inf", "nan", "'.inf'", "1e999", "1" + "0" * 400, "true", "null", "[1.0]")
        ),
        ("learning_rate: 0\n", ["learning_rate", "must be above 0"]),
        ("batch_size: 3000000000\n", ["batch_size", "must be at most 2147483647"]),
        ("batch_size: 8.0\n", ["batch_size", "expected int, got 8.0"]),
        ("epochs: 0\n", ["epochs", "must be at least 1, got 0"]),
        ("model: {encoder: {patch_size: 0}}\n", ["model: encoder", "patch_size: must be at least 1"]),
        ("model: {encoder: {heads: 0}}\n", ["model: encoder", "heads: must be at least 1"]),
        (
            "model: {encoder: {stem_channels: [8, -1]}}\n",
            ["stem_channels: must be at least 1, got -1"],
        ),
        ("model: {predictor: {dropout: .nan}}\n", ["model: predictor: dropout", "expected a finite float, got nan"]),
    ],
)
def test_bad_yaml_names_file_key_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(TrainConfig, path)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in ["bad.yaml", *words])


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(ConfigError, match=r"weights\.yaml: not valid YAML \(not a text in UTF-8\)"):
        load(TrainConfig, path)
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load(TrainConfig, tmp_path)


def test_keys_that_are_merged_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("model:\n  encoder: {<<: {width: 192, depth: 4}, depth: 2}\n")
    assert load(TrainConfig, path).model.encoder.depth == 2


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load(TrainConfig, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        (PlannerConfig, {"deadline_ms": inf}, "deadline_ms: must be finite, got inf"),
        (PlannerConfig, {"running_weight": nan}, "running_weight: must be finite, got nan"),
        (PlannerConfig, {"samples": 0, "elites": 0}, "samples: must be from 1 to 100000 plans, got 0"),
        (ProposalTrainConfig, {"noise": nan}, "noise: must be finite, got nan"),
        (ProposalTrainConfig, {"weight_decay": -1.0}, "weight_decay: must be at least 0"),
        (TrainConfig, {"learning_rate": -1.0}, "learning_rate: must be above 0"),
        (SIGRegConfig, {"weight": inf}, "weight: must be finite, got inf"),
        (GapConfig, {"depth": 0}, "depth: must be at least 1, got 0"),
    ],
)
def test_impossible_numbers_are_refused_in_code_too(config: type, changes: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**changes)


def test_impossible_search_is_refused() -> None:
    with pytest.raises(ConfigError, match="elites: must be at most samples, 10, got 20"):
        PlannerConfig(samples=10, elites=20)
