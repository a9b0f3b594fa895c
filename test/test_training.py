"""Training on a toy dataset: it learns, resumes to the same weights, and refuses what it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import small_model_config

from lewm_ros.config import ProposalConfig, ProposalTrainConfig, TrainConfig
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_training.dataset import DatasetError, EpisodeDataset, merge_episodes, write_episode
from lewm_training.probe import embed, linear_probe
from lewm_training.proposal import train_proposal
from lewm_training.train import Trainer, effective_rank

EPISODES, STEPS = 6, 40


@pytest.fixture(scope="module")
def dataset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short episodes of a bright bar whose place is joint 1; two of them share an anchor."""
    folder, rng, parts = tmp_path_factory.mktemp("dataset"), np.random.default_rng(0), []
    for number in range(EPISODES):
        action = np.zeros((STEPS, 7), dtype=np.float32)
        action[:, 0] = rng.normal(0.0, 0.02, STEPS)
        joints = np.zeros((STEPS, 7), dtype=np.float32)
        joints[:, 0] = 0.5 + np.concatenate([[0.0], np.cumsum(action[:-1, 0])])
        bar = np.abs(np.arange(32) - 32 * joints[:, :1]) < 4
        pixels = np.broadcast_to(255 * bar[:, None, :, None], (STEPS, 32, 32, 3)).astype(np.uint8)
        part = folder / f"{number}.h5"
        columns = {"pixels": pixels, "action": action, "proprio": joints, "ee_position": joints[:, :3]}
        write_episode(part, columns, {"number": number, "anchor": 0 if number < 2 else None})
        parts.append(part)
    meta = {
        "action_space": "joint_delta",
        "limit": [0.05] * 7,
        "control_hz": 20.0,
        "joint_names": [f"panda_joint{i}" for i in range(1, 8)],
    }
    merge_episodes(parts, folder / "toy.h5", meta)
    return folder / "toy.h5"


def config(**changes: object) -> TrainConfig:
    sizes = {"batch_size": 8, "steps_per_epoch": 3, "validation_fraction": 0.2, "validation_windows": 8}
    return TrainConfig(
        model=small_model_config(), **{**sizes, "probe_frames": 20, "epochs": 2, "precision": "fp32", **changes}
    )


def train(path: Path, folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    trainer = Trainer(config(**changes), EpisodeDataset.open(path), folder, seed=0, device="cpu")
    return trainer.run().model.state_dict()


def test_a_run_leaves_a_checkpoint_curves_and_a_log(dataset_path: Path, tmp_path: Path) -> None:
    train(dataset_path, tmp_path)
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.provenance["seed"] == 0
    assert checkpoint.provenance["metrics"]["epoch"] == 2
    assert checkpoint.action_space.action_block == 5
    assert [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert any((tmp_path / "tensorboard").iterdir())


def test_an_interrupted_run_goes_on_to_the_same_weights(dataset_path: Path, tmp_path: Path) -> None:
    straight = train(dataset_path, tmp_path / "straight")
    dataset = EpisodeDataset.open(dataset_path)
    interrupted = Trainer(config(), dataset, tmp_path / "interrupted", seed=0, device="cpu")
    after_one_epoch = interrupted.validate

    def interrupt_in_the_second() -> dict[str, object]:
        if interrupted.epoch == 1:
            raise KeyboardInterrupt
        return after_one_epoch()

    interrupted.validate = interrupt_in_the_second  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    resumed = train(dataset_path, tmp_path / "interrupted")
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, msg=name)


def test_a_run_folder_of_another_configuration_is_refused(dataset_path: Path, tmp_path: Path) -> None:
    train(dataset_path, tmp_path)
    with pytest.raises(DatasetError, match="another configuration"):
        train(dataset_path, tmp_path, batch_size=16)


def test_anchored_windows_come_from_one_anchor(dataset_path: Path, tmp_path: Path) -> None:
    dataset = EpisodeDataset.open(dataset_path)
    assert [list(group) for group in dataset.anchored_episodes(np.arange(EPISODES))] == [[0, 1]]
    train(dataset_path, tmp_path, anchored_fraction=0.5)


def test_a_proposal_learns_which_way_the_bar_went(dataset_path: Path, tmp_path: Path) -> None:
    train(dataset_path, tmp_path)
    training = ProposalTrainConfig(ProposalConfig(width=32), longest_s=1.0, steps=300, batch_size=64, noise=0.0)
    dataset = EpisodeDataset.open(dataset_path)
    checkpoint, metrics = train_proposal(load_checkpoint(tmp_path / "model"), dataset, training, 0)
    z = torch.from_numpy(embed(checkpoint.model, dataset, np.arange(STEPS))).float()
    with torch.inference_mode():
        blocks = checkpoint.proposal(z[:-20], z[20:], torch.full((STEPS - 20,), 4)).unflatten(-1, (5, 7))
    assert (blocks == blocks[:, :1]).all()  # an even pace
    joint = dataset.columns["proprio"][:STEPS, 0]
    proposed = 20 * blocks[:, 0, 0].numpy() * checkpoint.action_space.std[0]  # rad, over four blocks of five steps
    assert np.corrcoef(proposed, joint[20:] - joint[:-20])[0, 1] > 0.9
    assert metrics["way_r2"][0] > 0.5


def test_windows_are_frames_at_block_boundaries_and_the_actions_between(dataset_path: Path) -> None:
    dataset = EpisodeDataset.open(dataset_path)
    pixels, actions = dataset.read_windows(np.array([STEPS + 2]), frames=3, action_block=5)
    rows = STEPS + 2 + np.array([0, 5, 10])
    np.testing.assert_array_equal(pixels[0], dataset.pixels[rows])
    np.testing.assert_array_equal(actions[0].reshape(10, 7), dataset.columns["action"][rows[0] : rows[0] + 10])


def test_no_window_crosses_an_episode(dataset_path: Path) -> None:
    dataset = EpisodeDataset.open(dataset_path)
    starts = dataset.window_starts(np.arange(EPISODES), span=16)
    assert len(starts) == EPISODES * (STEPS - 15)
    assert ((starts % STEPS) + 16 <= STEPS).all()


def test_training_and_validation_episodes_are_disjoint(dataset_path: Path) -> None:
    train_episodes, held_out = EpisodeDataset.open(dataset_path).split(0.3, seed=1)
    assert set(train_episodes).isdisjoint(held_out)
    assert len(train_episodes) + len(held_out) == EPISODES


def test_an_action_that_is_not_finite_is_named(dataset_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes(dataset_path.read_bytes())
    with h5py.File(path, "r+") as file:
        file["action"][STEPS + 3] = np.nan
    with pytest.raises(DatasetError, match="not finite in episode 1, row 3"):
        EpisodeDataset.open(path)


def test_a_missing_column_and_a_missing_file_are_named(dataset_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes(dataset_path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["action"]
    with pytest.raises(DatasetError, match="column 'action' is missing"):
        EpisodeDataset.open(path)
    with pytest.raises(DatasetError, match="no such file"):
        EpisodeDataset.open(tmp_path / "nowhere.h5")


def test_frames_of_another_size_are_refused(dataset_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="frames are 32x32 px, the model takes 224x224"):
        Trainer(TrainConfig(), EpisodeDataset.open(dataset_path), tmp_path, seed=0, device="cpu")


def test_a_linear_probe_reads_a_linear_label_and_not_noise() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5))
    y = np.stack([x @ np.arange(5.0), rng.normal(size=400)], axis=1)
    r2, _ = linear_probe(x[:300], y[:300], x[300:], y[300:])
    assert r2[0] > 0.99
    assert r2[1] < 0.1


def test_effective_rank_counts_directions() -> None:
    assert effective_rank(np.eye(8)) == pytest.approx(8.0)
    assert effective_rank(np.diag([1.0] * 2 + [0.0] * 6)) == pytest.approx(2.0, rel=1e-3)
