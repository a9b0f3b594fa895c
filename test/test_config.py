"""Configuration files: what is read back, and what is refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lewm_ros.config import ConfigError, ModelConfig, PlannerConfig, TrainConfig, from_mapping, load, to_mapping


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


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load(TrainConfig, tmp_path / "nowhere.yaml")


def test_impossible_search_is_refused() -> None:
    with pytest.raises(ConfigError, match="elites: must be between 1 and samples 10"):
        PlannerConfig(samples=10, elites=20)
