"""Training on a toy dataset: what a run leaves behind, what it learns, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_model_config
from toy_dataset import META, write_toy
from toy_training import EPISODES, STEPS, assert_same_state, state_of, toy_config, toy_trainer, write_bars

from lewm_ros.config import (
    ConfigError,
    InputsConfig,
    ProposalConfig,
    ProposalTrainConfig,
    ReadoutConfig,
    TrainConfig,
    load,
    to_mapping,
)
from lewm_ros.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.windows import read_ahead
from lewm_training.judge.embeddings import embed
from lewm_training.learn.proposal import train_proposal
from lewm_training.learn.trainer import Trainer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dataset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("dataset"))


def test_a_run_leaves_a_checkpoint_curves_and_a_log(dataset_path: Path, tmp_path: Path) -> None:
    toy_trainer(dataset_path, tmp_path).run()
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.provenance["seed"] == 0
    assert checkpoint.provenance["metrics"]["epoch"] == 2
    assert checkpoint.action_space.action_block == 5
    assert [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert any((tmp_path / "tensorboard").iterdir())


def test_the_same_seed_gives_the_same_run_and_another_seed_another(dataset_path: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        Trainer(toy_config(epochs=1), EpisodeDataset.open(dataset_path), tmp_path / name, seed, "cpu").run()
    one, again, other = (state_of(tmp_path / name) for name in ("one", "again", "other"))
    assert_same_state(one, again)
    assert any(not torch.equal(value, other["model"][name]) for name, value in one["model"].items())


@pytest.mark.parametrize("name", ["nano", "reach", "tiny", "patch"])
def test_the_recipes_are_complete(name: str) -> None:
    path = ROOT / "config" / f"train_{name}.yaml"
    recipe = load(TrainConfig, path)
    assert (recipe.ema, recipe.straightening, recipe.rollout_blocks, recipe.compile) == (0.0, 0.0, 1, False)
    for key in ("compile", "warmup_fraction", "gradient_clip", "precision"):
        assert f"\n{key}: " in path.read_text(encoding="utf-8")


def test_the_learning_rate_warms_up_and_falls_as_a_cosine(dataset_path: Path, tmp_path: Path) -> None:
    config = {"epochs": 10, "steps_per_epoch": 11, "warmup_fraction": 10 / 110, "learning_rate": 1.0}
    trainer = toy_trainer(dataset_path, tmp_path, **config)
    rates = []
    for _ in range(111):
        rates += trainer.schedule.get_last_lr()[:1]
        trainer.optimizer.step()
        trainer.schedule.step()
    # Ten steps up; the cosine spans the 100 after them, so that half is left after 50 and nothing at the end.
    assert [rates[step] for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert [rates[step] for step in (60, 110)] == pytest.approx([0.5, 0.0], abs=1e-9)


def test_an_average_of_the_weights_is_validated_and_written_if_asked_for(dataset_path: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(dataset_path, tmp_path, ema=0.5, epochs=1, steps_per_epoch=1)
    trainer.run()
    first = {name: value.clone() for name, value in trainer.model.named_parameters()}
    written = dict(load_checkpoint(tmp_path / "model").model.named_parameters())
    for name, value in first.items():  # an average starts at the first weights it sees
        assert torch.equal(value, written[name])
    trainer.model.train()
    trainer._train_epoch()
    for name, value in trainer.evaluated.named_parameters():
        torch.testing.assert_close(value, 0.5 * first[name] + 0.5 * dict(trainer.model.named_parameters())[name])


def test_a_readout_makes_the_state_tell_what_it_asks_for(dataset_path: Path, tmp_path: Path) -> None:
    sizes = {"steps_per_epoch": 40, "epochs": 2, "learning_rate": 3e-3}
    read = ReadoutConfig("proprio", weight=1.0)
    trainer = toy_trainer(dataset_path, tmp_path / "run", readouts=(read,), **sizes)
    checkpoint = trainer.run()
    # One of seven joints moves, so that knowing nothing costs 1 / 7.
    assert trainer.folder.history()[-1]["train/readout/proprio"] < 0.75 / 7
    assert not any("readout" in name for name in checkpoint.model.state_dict()), "heads are for training only"
    with pytest.raises(DatasetError, match=r"has no numbers 'torque' to read out; it has .*proprio"):
        toy_trainer(dataset_path, tmp_path / "other", readouts=(ReadoutConfig("torque"),))


def test_a_run_with_readouts_goes_on_to_the_same_weights(dataset_path: Path, tmp_path: Path) -> None:
    readouts = (ReadoutConfig("proprio"),)
    toy_trainer(dataset_path, tmp_path / "whole", readouts=readouts).run()
    toy_trainer(dataset_path, tmp_path / "parts", readouts=readouts).run(until=1)
    toy_trainer(dataset_path, tmp_path / "parts", readouts=readouts).run()
    assert_same_state(state_of(tmp_path / "whole"), state_of(tmp_path / "parts"))


def test_a_run_begins_with_the_weights_of_a_checkpoint(
    dataset_path: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(dataset_path, tmp_path, start_checkpoint=str(checkpoint_path))
    begun = load_checkpoint(checkpoint_path).model.state_dict()
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, begun[name]), name
    other = replace(small_model_config(), embedding_dim=8)
    with pytest.raises(ConfigError, match="start_checkpoint: its weights do not fit this recipe: size mismatch"):
        toy_trainer(dataset_path, tmp_path, start_checkpoint=str(checkpoint_path), model=other)


@pytest.mark.parametrize("stem_channels", [(), (8, 16)], ids=["linear patches", "stem"])
def test_bf16_trains(stem_channels: tuple[int, ...], dataset_path: Path, tmp_path: Path) -> None:
    model = small_model_config(stem_channels)
    toy_trainer(dataset_path, tmp_path, model=model, precision="bf16").run()
    metrics = load_checkpoint(tmp_path / "model").provenance["metrics"]
    assert all(np.isfinite(value).all() for value in metrics.values())


def test_a_run_folder_of_another_run_is_refused(dataset_path: Path, tmp_path: Path) -> None:
    toy_trainer(dataset_path, tmp_path, epochs=1).run()
    with pytest.raises(ConfigError, match="another config"):
        toy_trainer(dataset_path, tmp_path, epochs=1, batch_size=16).run()
    with pytest.raises(ConfigError, match="another seed"):
        Trainer(toy_config(epochs=1), EpisodeDataset.open(dataset_path), tmp_path, 1, "cpu").run()


def test_a_loss_that_is_not_finite_ends_the_run(dataset_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="epoch 1/2: the loss is not finite; lower learning_rate"):
        toy_trainer(dataset_path, tmp_path / "run", learning_rate=1e30, warmup_fraction=0.0, steps_per_epoch=5).run()
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_end_the_run_though_the_loss_was(dataset_path: Path, tmp_path: Path) -> None:
    # A single step: its loss is that of the first weights, and it takes them beyond what 32 bits hold.
    recipe = {"learning_rate": 1e39, "warmup_fraction": 0.0, "steps_per_epoch": 1}
    with pytest.raises(ConfigError, match="epoch 1/2: the loss is not finite; lower learning_rate"):
        toy_trainer(dataset_path, tmp_path / "run", **recipe).run()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_later_keeps_what_it_had(dataset_path: Path, tmp_path: Path) -> None:
    toy_trainer(dataset_path, tmp_path, epochs=2).run(until=1)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    trainer = toy_trainer(dataset_path, tmp_path, epochs=2)
    trainer.schedule.step = lambda: [group.update(lr=1e39) for group in trainer.optimizer.param_groups]
    with pytest.raises(ConfigError, match="epoch 2/2: the loss is not finite"):
        trainer.run()
    assert load_checkpoint(tmp_path / "model").provenance["epochs"] == 1
    for name in ("metrics.jsonl", "model.safetensors", "state.pt"):
        assert (tmp_path / name).read_bytes() == before[name]


def test_a_checkpoint_that_is_not_finite_is_not_written(dataset_path: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(dataset_path, tmp_path)
    with torch.no_grad():
        next(trainer.model.encoder.parameters()).view(-1)[0] = torch.nan
    with pytest.raises(CheckpointError, match=r"the weight encoder\..* is not finite; nothing is written"):
        save_checkpoint(trainer.checkpoint(), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_knows_its_dataset(dataset_path: Path, tmp_path: Path) -> None:
    dataset = EpisodeDataset.open(dataset_path)
    source = toy_trainer(dataset_path, tmp_path).checkpoint().provenance["dataset"]
    assert source == {"file": "bars.h5", "episodes": EPISODES, "fingerprint": dataset.fingerprint}


def test_too_few_episodes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = TrainConfig(model=small_model_config())
    (tmp_path / "recipe.yaml").write_text(json.dumps(to_mapping(recipe)))
    columns = [{"pixels": np.zeros((60, 32, 32, 3), np.uint8), "action": np.zeros((60, 7), np.float32)}] * 2
    one, two = (write_toy(tmp_path / f"{count}.h5", columns[:count]) for count in (1, 2))
    command = ["train", "--config", tmp_path / "recipe.yaml", "--device", "cpu"]
    command += ["--set", "validation_fraction=0.9", "--out", tmp_path / "run"]
    for dataset, right in (
        (one, f"lewm train: {one}: training and validation need two episodes, this has 1\n"),
        (two, f"lewm train: {two}: validation_fraction 0.9 of 2 episodes leaves none to train on\n"),
    ):
        capsys.readouterr()
        assert main([str(argument) for argument in [*command, "--dataset", dataset]]) == 2
        assert capsys.readouterr().err == right
    assert not (tmp_path / "run").exists()


def test_a_proposal_needs_two_episodes_and_the_models_actions(dataset_path: Path, tmp_path: Path) -> None:
    checkpoint = toy_trainer(dataset_path, tmp_path).checkpoint()
    columns = {"pixels": np.zeros((60, 32, 32, 3), np.uint8), "action": np.zeros((60, 7), np.float32)}
    one = EpisodeDataset.open(write_toy(tmp_path / "one.h5", [columns]))
    with pytest.raises(DatasetError, match=r"one\.h5: training and validation need two episodes, this has 1"):
        train_proposal(checkpoint, one, ProposalTrainConfig(), seed=0)
    slower = EpisodeDataset.open(write_toy(tmp_path / "slower.h5", [columns, columns], META | {"control_hz": 10.0}))
    with pytest.raises(DatasetError, match=r"acts in .* at 20 Hz, .*slower\.h5 in .* at 10 Hz"):
        train_proposal(checkpoint, slower, ProposalTrainConfig(), seed=0)
    two = {"action": np.zeros((60, 2), np.float32)}
    plane = EpisodeDataset.open(write_toy(tmp_path / "plane.h5", [columns | two] * 2, {"cameras": {"a": "pixels"}}))
    with pytest.raises(DatasetError, match=r"acts in .*, .*plane\.h5 has actions of 2 numbers"):
        train_proposal(checkpoint, plane, ProposalTrainConfig(), seed=0)


def test_anchored_windows_come_from_one_anchor(dataset_path: Path, tmp_path: Path) -> None:
    dataset = EpisodeDataset.open(dataset_path)
    assert [list(group) for group in dataset.anchored_episodes(np.arange(EPISODES))] == [[0, 1]]
    sampler = toy_trainer(dataset_path, tmp_path, anchored_fraction=0.5).sampler
    for starts in sampler.batches(np.random.default_rng(0), steps=3):
        assert len(starts) == 8
        assert (starts[4:] // STEPS <= 1).all()


def test_a_proposal_learns_which_way_the_bar_went(dataset_path: Path, tmp_path: Path) -> None:
    toy_trainer(dataset_path, tmp_path).run()
    training = ProposalTrainConfig(ProposalConfig(width=32), longest_s=1.0, steps=600, batch_size=64, noise=0.0)
    dataset = EpisodeDataset.open(dataset_path)
    checkpoint, metrics = train_proposal(load_checkpoint(tmp_path / "model"), dataset, training, 0)
    z = torch.from_numpy(embed(checkpoint.model, dataset, np.arange(STEPS))).float().flatten(1)
    with torch.inference_mode():
        blocks = checkpoint.proposal(z[:-20], z[20:], torch.full((STEPS - 20,), 4)).unflatten(-1, (5, 7))
    assert (blocks == blocks[:, :1]).all()  # an even pace
    joint = dataset.columns["proprio"][:STEPS, 0]
    proposed = 20 * blocks[:, 0, 0].numpy() * checkpoint.action_space.std[0]  # rad, over four blocks of five steps
    assert np.corrcoef(proposed, joint[20:] - joint[:-20])[0, 1] > 0.8  # 0.88 to 0.91 over seeds and versions
    assert metrics["way_r2"][0] > 0.5


def test_windows_are_frames_at_block_boundaries_and_the_actions_between(dataset_path: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(dataset_path, tmp_path)
    dataset, space = trainer.dataset, trainer.action_space
    inputs, blocks = trainer.reader.read(np.array([STEPS + 2]), frames=3)
    rows = STEPS + 2 + np.array([0, 5, 10])
    np.testing.assert_array_equal(inputs["camera"][0], dataset.pixels[rows])
    actions = (dataset.columns["action"][rows[0] : rows[0] + 10] - space.mean) / space.std
    np.testing.assert_allclose(blocks[0].reshape(10, 7), actions, rtol=1e-5)


def test_windows_reach_the_device_as_they_were_read(dataset_path: Path, tmp_path: Path) -> None:
    reader = toy_trainer(dataset_path, tmp_path).reader
    inputs, blocks = reader.read(np.array([0, 3]), frames=2)
    assert inputs["camera"].dtype == torch.uint8
    assert blocks.shape == (2, 1, 35)
    on_device = reader.to_device((inputs, blocks))[0]["camera"]
    assert on_device.shape == (2, 2, 3, 32, 32)
    # White is (1 - 0.485) / 0.229 in the red channel.
    assert on_device[0, 0, 0].max().item() == pytest.approx(2.2489, abs=1e-4)


def test_batches_are_read_ahead_in_order_and_errors_come_through() -> None:
    assert list(read_ahead(lambda batch: batch, range(20))) == list(range(20))

    def third_fails(batch: int) -> int:
        if batch == 2:
            raise DatasetError("frame 2 cannot be decoded")
        return batch

    batches = read_ahead(third_fails, range(20))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(DatasetError, match="frame 2"):
        next(batches)


def test_no_window_crosses_an_episode(dataset_path: Path) -> None:
    dataset = EpisodeDataset.open(dataset_path)
    starts = dataset.window_starts(np.arange(EPISODES), span=16)
    assert len(starts) == EPISODES * (STEPS - 15)
    assert ((starts % STEPS) + 16 <= STEPS).all()


def test_training_and_validation_episodes_are_disjoint(dataset_path: Path) -> None:
    train_episodes, held_out = EpisodeDataset.open(dataset_path).split(0.3, seed=1)
    assert set(train_episodes).isdisjoint(held_out)
    assert len(train_episodes) + len(held_out) == EPISODES


def test_a_dataset_that_does_not_fit_the_model_is_refused(dataset_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"bars\.h5: has no camera 'wrist'; it has camera"):
        toy_trainer(dataset_path, tmp_path, inputs=InputsConfig(cameras=("camera", "wrist")))
    with pytest.raises(DatasetError, match=r"bars\.h5: has no vector 'gripper'; it has proprio"):
        toy_trainer(dataset_path, tmp_path, inputs=InputsConfig(vectors=("gripper",)))
    with pytest.raises(DatasetError, match="actions have 7 numbers, which do not divide the model's action_dim 36"):
        toy_trainer(dataset_path, tmp_path, model=replace(toy_config().model, action_dim=36))
