"""Probes and retrieval on data whose answers are known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import joint_delta_space, random_model, random_patch_model
from numpy.typing import NDArray
from toy_dataset import META, write_toy

from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint
from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge import labels
from lewm_training.judge.embeddings import embed_flat, embed_with_patches, flat_states, untrained_like
from lewm_training.judge.labels import labels_of
from lewm_training.judge.probe import (
    held_out_episodes,
    light_probe,
    principal_components,
    probe_encoder,
    split_episodes,
)
from lewm_training.judge.regression import linear_probe, mlp_probe, pearson_r, r_squared
from lewm_training.judge.retrieval import retrieve

EPISODES, STEPS, SIZE = 8, 80, 32


def episode(number: int) -> dict[str, NDArray]:
    """A bright square, anywhere in each frame: its place is joints 1 and 2. The gripper never moves."""
    rng = np.random.default_rng(number)
    action = rng.normal(0.0, 0.02, (STEPS, 7)).clip(-0.05, 0.05).astype(np.float32)
    joints = rng.uniform(0.2, 0.8, (STEPS, 7))
    grid = (np.arange(SIZE) + 0.5) / SIZE
    near = [np.abs(grid - joints[:, axis, None]) < 0.15 for axis in (0, 1)]
    square = near[0][:, None, :] & near[1][:, :, None]
    half = 0.5 * joints[:, 2]
    zero = np.zeros(STEPS)
    return {
        "pixels": np.repeat(255 * square[..., None], 3, axis=-1).astype(np.uint8),
        "action": action,
        "proprio": joints.astype(np.float32),
        "gripper": np.full((STEPS, 1), 0.04, dtype=np.float32),
        "ee_position": joints[:, :3].astype(np.float32),
        "ee_quaternion": np.stack([np.cos(half), zero, zero, np.sin(half)], axis=1).astype(np.float32),
        "contact": (joints[:, :1] > 0.5).astype(np.float32),
        "temperature": joints[:, 3:5].astype(np.float32),
        "timestamp_s": 0.05 * np.arange(STEPS),
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    path = tmp_path_factory.mktemp("squares") / "squares.h5"
    return EpisodeDataset.open(write_toy(path, [episode(number) for number in range(EPISODES)]))


def test_labels_are_told_by_name_and_size(dataset: EpisodeDataset) -> None:
    found = {label.name: label for label in labels_of(dataset, np.arange(100))}
    assert {name: (len(label.components), label.unit) for name, label in found.items()} == {
        "joint positions": (7, "deg"),
        "ee position": (3, "mm"),
        "ee orientation": (6, "deg"),
        "contact": (1, "%"),
        "temperature": (2, ""),
    }  # the gripper never moves; actions and times are no labels
    assert found["joint positions"].components == tuple(META["joint_names"])


def test_an_object_pose_is_a_position_and_an_orientation(tmp_path: Path) -> None:
    columns = episode(0)
    columns["object_pose"] = np.concatenate([columns["ee_position"], columns["ee_quaternion"]], axis=1)
    dataset = EpisodeDataset.open(write_toy(tmp_path / "pose.h5", [columns]))
    found = {label.name: label for label in labels_of(dataset, np.arange(STEPS))}
    np.testing.assert_array_equal(found["object position"].values, columns["ee_position"].astype(float))
    np.testing.assert_array_equal(found["object orientation"].values, found["ee orientation"].values)


def test_errors_are_in_the_units_of_people() -> None:
    origin = np.zeros((1, 3))
    assert labels.median_distance_mm(np.array([[0.003, 0.0, 0.004]]), origin) == pytest.approx(5.0)
    assert labels.median_angle_deg(np.array([[np.pi / 6, 0.0, 0.0]]), origin) == 0.0  # two of the three are right
    # A third of a turn about the diagonal takes x to y and y to z.
    turned = np.array([[0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_allclose(labels.two_axes(turned), [[0, 1, 0, 0, 0, 1]], atol=1e-12)
    upright = labels.two_axes(np.array([[1.0, 0.0, 0.0, 0.0]]))
    assert labels.median_rotation_deg(3.0 * labels.two_axes(turned), upright) == pytest.approx(120.0)
    # One wrong of four noes, one wrong of one yes: (25 + 100) / 2.
    true, guess = np.array([[0.0], [0.0], [0.0], [0.0], [1.0]]), np.array([[0.1], [0.2], [0.3], [0.9], [0.4]])
    assert labels.wrong_percent(guess, true) == pytest.approx(62.5)


def test_probes_read_what_is_there_and_not_noise() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 5))
    y = np.stack([x @ np.arange(5.0), np.abs(x[:, 0]), rng.normal(size=1500)], axis=1)
    fit, stop, test = slice(0, 1000), slice(1000, 1200), slice(1200, None)
    linear = r_squared(linear_probe(x[fit], y[fit], x[test]), y[test])
    mlp = [r_squared(mlp_probe(x[fit], y[fit], x[stop], y[stop], x[test], seed), y[test]) for seed in (0, 0)]
    assert linear[0] > 0.99
    assert mlp[0][0] > 0.95
    assert linear[1] < 0.1  # a fold is no line
    assert mlp[0][1] > 0.8
    assert max(linear[2], mlp[0][2]) < 0.05
    np.testing.assert_array_equal(*mlp)


def test_scores_follow_their_definitions() -> None:
    true = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert r_squared(true + 1.0, true) == pytest.approx([1.0 - 4.0 / 5.0])  # squares about the mean 1.5 add up to 5
    assert pearson_r(5.0 - 2.0 * true, true) == pytest.approx([-1.0])
    assert r_squared(np.full((4, 1), 1.5), true) == pytest.approx([0.0])


def test_principal_components_keep_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, 3))
    x = (hidden @ rng.normal(size=(3, 50)) + 7.0).astype(np.float32)
    components = principal_components(x, 300, seed=0)
    r2 = r_squared(linear_probe(components[:300], hidden[:300], components[300:]), hidden[300:])
    assert (r2 > 0.99).all()


def test_episodes_to_fit_to_stop_and_to_test_are_disjoint(dataset: EpisodeDataset) -> None:
    split = split_episodes(dataset, {}, frames=20, seed=0)
    parts = [set((rows // STEPS).tolist()) for rows in (split.train, split.validation, split.test)]
    assert all(
        one.isdisjoint(other) for one, other in ((parts[0], parts[1]), (parts[1], parts[2]), (parts[0], parts[2]))
    )
    assert (len(split.train), len(split.validation), len(split.test)) == (80, 20, 20)
    assert not split.unseen


def provenance_of(source: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": source, "train": {"validation_fraction": 0.25}, "seed": 3}


def test_what_the_model_has_not_seen_is_tested_on_where_that_is_known(dataset: EpisodeDataset) -> None:
    _, unseen = dataset.split(0.25, 3)
    split = split_episodes(dataset, provenance_of(dataset.provenance), frames=20, seed=0)
    assert split.unseen
    assert set(split.test // STEPS) <= set(unseen)


@pytest.mark.parametrize("source", [{"file": "squares.h5"}, {"file": "squares.h5", "episodes": EPISODES}])
def test_a_name_alone_proves_nothing(dataset: EpisodeDataset, source: dict[str, Any]) -> None:
    split = split_episodes(dataset, provenance_of(source), frames=20, seed=0)
    assert not split.unseen
    assert set(split.test // STEPS) <= set(dataset.split(0.25, 3)[1])  # held out, if it is the same dataset


def test_another_dataset_of_the_same_name_is_another_one(dataset: EpisodeDataset, tmp_path: Path) -> None:
    again = [episode(number + EPISODES) for number in range(EPISODES)]
    other = EpisodeDataset.open(write_toy(tmp_path / "squares.h5", again))
    assert not split_episodes(other, provenance_of(dataset.provenance), frames=20, seed=0).unseen
    for source in (dataset.provenance, {"file": "other.h5"}, {"file": "squares.h5", "episodes": EPISODES + 1}, {}):
        assert not len(held_out_episodes(other, provenance_of(source))[1])
    renamed = tmp_path / "renamed.h5"
    shutil.copy(dataset.path, renamed)
    assert split_episodes(EpisodeDataset.open(renamed), provenance_of(dataset.provenance), frames=20, seed=0).unseen


def test_a_dataset_that_was_nearly_all_held_out_is_named(tmp_path: Path) -> None:
    three = EpisodeDataset.open(write_toy(tmp_path / "three.h5", [episode(number) for number in range(3)]))
    provenance = provenance_of(three.provenance) | {"train": {"validation_fraction": 0.6}}  # two of three
    with pytest.raises(DatasetError, match=r"three\.h5: probes need two episodes .* did not hold out, this has 1"):
        split_episodes(three, provenance, frames=20, seed=0)


def test_embeddings_are_the_same_with_and_without_patches(dataset: EpisodeDataset) -> None:
    model, rows = random_model(), np.arange(40)
    features = embed_with_patches(model, dataset, rows, batch=16)
    np.testing.assert_allclose(features.states, embed_flat(model, dataset, rows), atol=1e-6)
    assert features.patches.shape == (40, 4 * 4 * 32)  # 32 px in patches of 8, 32 wide
    assert not np.allclose(features.states, embed_flat(untrained_like(model, seed=1), dataset, rows))


def test_the_encoder_is_probed_for_every_label(dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.MLP_EPOCHS", 2)
    report = probe_encoder(random_model(), dataset, split_episodes(dataset, {}, frames=70, seed=0), seed=0)
    assert {(r["label"], r["input"], r["probe"]) for r in report["probes"]} == {
        (label, source, probe)
        for label in report["labels"]
        for source in ("embedding", "patches", "untrained embedding", "untrained patches")
        for probe in ("linear", "mlp")
    }
    found = {(r["label"], r["input"], r["probe"]): r for r in report["probes"]}
    # Even random patches hold where the square is; nothing shows the other joints.
    r2 = found["joint positions", "patches", "linear"]["r2"]
    assert min(r2[:2]) > 0.8
    assert max(r2[2:]) < 0.1


def test_a_light_probe_reads_what_labels_there_are(dataset: EpisodeDataset) -> None:
    model, train, test = random_model(), np.arange(400), np.arange(560, 640)
    figures = light_probe(model, dataset, train, test)
    assert len(figures["probe/proprio_r2"]) == 7
    assert len(figures["probe/position_r2"]) == 3
    assert figures["probe/position_error_mm"] > 0.0
    del dataset.columns["ee_position"]
    try:
        assert light_probe(model, dataset, train, test).keys() == {"probe/proprio_r2"}
    finally:
        dataset.columns["ee_position"] = dataset.columns["proprio"][:, :3]


def test_retrieval_finds_what_came_where_the_model_is_right(
    dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that imagines the true embeddings retrieves the true frames, and from elsewhere what is best there."""
    checkpoint = Checkpoint(random_model(), joint_delta_space())
    episodes = np.arange(4)
    wrong = retrieve(checkpoint, dataset, episodes, seed=0, starts=10, bank=100)
    place = {row: z for row, z in zip(wrong.bank.tolist(), wrong.states, strict=True)}
    first = wrong.start - 2 * 5

    def perfect(_: Checkpoint, z: NDArray, actions: NDArray) -> NDArray:
        assert z.shape == (10, 3, 1, 16) and actions.shape == (10, 12, 35)
        return np.array([[place[row + 5 * step] for step in range(3, 13)] for row in first])

    monkeypatch.setattr("lewm_training.judge.retrieval._imagine", perfect)
    found = retrieve(checkpoint, dataset, episodes, seed=0, starts=10, bank=100)
    assert found.blocks_ahead == (1, 2, 3, 5, 10)
    np.testing.assert_array_equal(found.true, found.start[:, None] + 5 * np.array(found.blocks_ahead))
    np.testing.assert_array_equal(dataset.pixels[found.nearest], dataset.pixels[found.true])
    np.testing.assert_array_equal(found.nearest_elsewhere, found.best_elsewhere)
    assert (found.nearest_elsewhere // STEPS != found.start[:, None] // STEPS).all()
    assert found.latent_error.max() == 0.0
    assert wrong.latent_error.min() > 0.0


def test_rollouts_need_the_actions_that_the_model_knows(dataset: EpisodeDataset) -> None:
    slower = Checkpoint(random_model(), replace(joint_delta_space(), control_hz=10.0))
    with pytest.raises(DatasetError, match=r"acts in 'joint_delta' .* at 10 Hz, .* in 'joint_delta' .* at 20 Hz"):
        retrieve(slower, dataset, np.arange(4), seed=0)


def test_the_command_prints_a_table_and_draws(
    dataset: EpisodeDataset,
    checkpoint_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.MLP_EPOCHS", 2)
    command = ["probe", "--checkpoint", str(checkpoint_path), "--dataset", str(dataset.path), "--frames", "40"]
    command += ["--json", str(tmp_path / "probe.json"), "--figure", str(tmp_path / "probe.png")]
    assert main([*command, "--pictures", str(tmp_path / "pictures")]) == 0
    table = capsys.readouterr().out
    assert "joint positions" in table
    assert "untrained patches" in table
    report = json.loads((tmp_path / "probe.json").read_text())
    assert report["frames"] == {"fit": 160, "stop": 40, "test": 40}
    pictures = [tmp_path / "probe.png", *(tmp_path / "pictures").iterdir()]
    assert {path.name for path in pictures} == {"probe.png", "embedding.png", "retrieval.png", "retrieval_error.png"}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in pictures)


def test_states_of_patches_are_averaged_down_to_a_coarse_grid() -> None:
    model = random_patch_model()
    state = torch.arange(2 * 3 * 16.0).view(2, 3, 16, 1).expand(-1, -1, -1, 32)  # (.., K, D): 4 x 4 patches
    assert flat_states(model, state).shape == (2, 3, 16 * 32)  # as fine as the grid may be
    fine = LeWorldModel(replace(model.config, encoder=replace(model.config.encoder, patch_size=2)))
    token = torch.arange(256.0).view(1, 256, 1).expand(-1, -1, 32)  # 16 x 16 patches
    flat = flat_states(fine, token).view(32, 6, 6)
    assert flat.mean().item() == pytest.approx(127.5, abs=1.0)
    assert flat[0, 0, 0] < flat[0, 0, 5] < flat[0, 5, 5]


def test_a_model_of_patches_is_probed_by_them(dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.MLP_EPOCHS", 2)
    report = probe_encoder(random_patch_model(), dataset, split_episodes(dataset, {}, frames=40, seed=0), seed=0)
    assert {record["input"] for record in report["probes"]} == {"patches", "untrained patches"}


def test_too_few_episodes_are_refused(tmp_path: Path) -> None:
    two = EpisodeDataset.open(write_toy(tmp_path / "two.h5", [episode(number) for number in range(2)]))
    with pytest.raises(DatasetError, match=r"probes need three episodes .*, this has 2"):
        split_episodes(two, {}, 10, 0)
