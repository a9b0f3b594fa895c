"""What a decoder paints: the bar where it is, what its source says and no more; kept in a checkpoint, and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from conftest import joint_delta_space, random_model, random_patch_model, two_cameras
from toy_dataset import toy_columns, write_toy
from toy_training import write_bars

from lewm_ros.config import ConfigError, DecoderConfig, DecoderTrainConfig, EncoderConfig, ModelConfig, UserError
from lewm_ros.model import LeWorldModel, load_checkpoint, save_checkpoint
from lewm_ros.model.checkpoint import Checkpoint, CheckpointError
from lewm_ros.model.decoder import Decoder
from lewm_ros.observation.input_spec import CameraSpec, InputSpec
from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge.reconstruction import (
    Painted,
    fidelity,
    imagine_frames,
    psnr_db,
    reconstruct,
    require_same_cameras,
    unseen_episodes,
)
from lewm_training.learn.decoder import train_decoder


def recipe(source: str = "state", steps: int = 2, **sizes: int) -> DecoderTrainConfig:
    decoder = DecoderConfig(source, **{"width": 8, "hidden": 16, **sizes})
    return DecoderTrainConfig(decoder, steps=steps, batch_size=16, learning_rate=1e-2, validation_fraction=0.34)


def middles(frames: np.ndarray) -> np.ndarray:
    """The column (N,) about which frames (N, 1, size, size, 3) are bright."""
    brightness = frames[:, 0].astype(np.float64).mean(axis=(1, 3))  # (N, size)
    return (brightness * np.arange(brightness.shape[1])).sum(1) / brightness.sum(1)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return EpisodeDataset.open(write_bars(tmp_path_factory.mktemp("bars"), straight=True))


@pytest.fixture(scope="module")
def taught(bars: EpisodeDataset) -> tuple[Checkpoint, dict[str, Any]]:
    """A decoder of what an untrained encoder says of the bar."""
    checkpoint = Checkpoint(random_model(), joint_delta_space(), name="walker")
    return train_decoder(checkpoint, bars, recipe(steps=150, width=16, hidden=32), seed=0)


def test_it_paints_the_bar_where_it_is(taught: tuple[Checkpoint, dict[str, Any]], bars: EpisodeDataset) -> None:
    checkpoint, metrics = taught
    rows = bars.window_starts(unseen_episodes([checkpoint], bars), 1)
    seen = reconstruct(checkpoint, bars, rows)
    np.testing.assert_array_equal(seen.true[:, 0], bars.pixels[rows])
    # The bar crosses the middle, and is found again to less than a pixel.
    assert np.ptp(middles(seen.true)) >= 4.0
    assert np.abs(middles(seen.painted) - middles(seen.true)).mean() < 0.5
    figures = metrics["cameras"]["camera"]
    assert figures["psnr_db"] > figures["mean_frame_psnr_db"] + 3.0
    assert figures["moving_psnr_db"] > figures["mean_frame_moving_psnr_db"] + 3.0


def test_the_model_stays_as_it_is(taught: tuple[Checkpoint, dict[str, Any]]) -> None:
    before, after = random_model().state_dict(), taught[0].model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_same_seed_teaches_the_same(bars: EpisodeDataset) -> None:
    checkpoint = Checkpoint(random_model(), joint_delta_space())
    one, other = (train_decoder(checkpoint, bars, recipe(), seed=3)[0].decoder.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_keeps_it(taught: tuple[Checkpoint, dict[str, Any]], tmp_path: Path) -> None:
    loaded = load_checkpoint(save_checkpoint(taught[0], tmp_path / "painter"))
    states = torch.randn(2, 3, 1, 16)
    painted = loaded.decoder.decode(states)
    assert painted.shape == (2, 3, 1, 32, 32, 3)
    assert painted.dtype == torch.uint8
    assert torch.equal(painted, taught[0].decoder.decode(states))
    assert loaded.provenance["decoder"]["train"]["decoder"]["source"] == "state"


def test_weights_of_another_size_are_refused(taught: tuple[Checkpoint, dict[str, Any]], tmp_path: Path) -> None:
    path = save_checkpoint(taught[0], tmp_path / "painter")
    path.write_text(path.read_text().replace('"hidden": 32', '"hidden": 33'))
    with pytest.raises(CheckpointError, match="the weights do not fit the configuration"):
        load_checkpoint(path)


@pytest.mark.parametrize("source", ["state", "cls", "patches"])
def test_it_sees_its_source_and_nothing_else(source: str) -> None:
    model = random_model(two_cameras())
    torch.manual_seed(1)
    decoder = Decoder(DecoderConfig(source, width=8, hidden=16), model).eval()
    inputs = {"scene": torch.randn(1, 3, 32, 32), "wrist": torch.randn(1, 3, 32, 32)}
    inputs |= {"proprio": torch.randn(1, 7), "gripper": torch.randn(1, 1)}
    with torch.inference_mode():
        before = decoder(decoder.tokens(model, inputs))
        assert before.shape == (1, 2, 3, 32, 32)
        told = {
            name: not torch.equal(decoder(decoder.tokens(model, inputs | {name: torch.randn_like(value)})), before)
            for name, value in inputs.items()
        }
    assert told == {
        "scene": True,
        "wrist": source != "cls",  # the CLS token is the first camera's
        "proprio": source == "state",
        "gripper": source == "state",
    }


def test_patches_are_painted_where_they_lie() -> None:
    model = random_patch_model()  # 4 x 4 patches of 8 pixels
    torch.manual_seed(1)
    decoder = Decoder(DecoderConfig("patches", width=8), model)
    # A normalisation over the grid tells every place of every other: of little weight here.
    tokens = torch.randn(1, 16, 32)
    other = tokens.clone()
    other[0, 0] += 3.0  # the patch at the top left
    with torch.inference_mode():
        change = (decoder(other) - decoder(tokens)).abs()[0, 0].mean(0)  # (32, 32)
    assert change[:8, :8].mean() > 5.0 * change[16:, 16:].mean()


@pytest.mark.parametrize(("size", "patch"), [(16, 4), (24, 8), (28, 14), (36, 12)])
def test_it_paints_frames_of_any_size(size: int, patch: int) -> None:
    encoder = EncoderConfig(image_size=size, patch_size=patch, width=16, depth=1, heads=2)
    model = LeWorldModel(ModelConfig(encoder, embedding_dim=8, projector_dim=8))
    for source, shape in {"state": (1, 8), "patches": (encoder.patches, 16)}.items():
        painted = Decoder(DecoderConfig(source, width=4, hidden=8), model).decode(torch.randn(3, *shape))
        assert painted.shape == (3, 1, size, size, 3)


def test_before_it_has_learned_it_paints_the_mean_frame() -> None:
    decoder = Decoder(DecoderConfig(width=8, hidden=16), random_model())
    means = torch.rand(1, 3, 32, 32)
    decoder.begin_with(means, torch.randn(9, 1, 16))
    with torch.inference_mode():
        painted = decoder(torch.randn(2, 1, 16))
    torch.testing.assert_close(painted, means.clamp(0.01, 0.99).expand(2, -1, -1, -1, -1))


def test_states_of_patches_have_no_cls_token() -> None:
    with pytest.raises(ConfigError, match="source: must be state or patches"):
        Decoder(DecoderConfig("cls"), random_patch_model())


def test_signal_to_noise_ratio_is_what_one_can_work_out() -> None:
    true = np.zeros((4, 1, 2, 2, 3), np.uint8)
    true[:2, 0, 0, 0] = 200  # in two of four frames one of four pixels is bright: of it, the mean is 100
    painted = true.copy()
    painted[0, 0, 0, 0] = 149  # off by 51, a fifth of white
    # Of all 16 pixels the mean square is 0.04 / 16: 26.02 dB. What moves is one pixel in 4 frames: 0.04 / 4, 20 dB.
    figures = fidelity(Painted("toy", true, painted), ["camera"])["camera"]
    assert figures["psnr_db"] == pytest.approx(26.02, abs=0.01)
    assert figures["moving_psnr_db"] == pytest.approx(20.0, abs=0.01)
    # The mean frame is off by 100 there: (100 / 255)^2, 8.13 dB.
    assert figures["mean_frame_moving_psnr_db"] == pytest.approx(8.13, abs=0.01)
    assert psnr_db(true, true) is None


def test_nothing_that_moves_has_no_figure() -> None:
    still = np.full((3, 1, 2, 2, 3), 90, np.uint8)
    figures = fidelity(Painted("toy", still, still + np.uint8(1)), ["camera"])["camera"]
    assert figures["moving_psnr_db"] is None
    assert figures["psnr_db"] == pytest.approx(48.13, abs=0.01)  # 20 log10(255)


class StillWorld(LeWorldModel):
    """A world model that expects nothing to change, whatever is done."""

    def rollout(self, z: torch.Tensor, past_actions: torch.Tensor, plans: torch.Tensor) -> torch.Tensor:
        return z[:, None, -1:].expand(-1, plans.shape[1], plans.shape[2], -1, -1)


def test_a_future_in_which_nothing_changes_is_painted_as_now(
    taught: tuple[Checkpoint, dict[str, Any]], bars: EpisodeDataset
) -> None:
    model = random_model()
    model.__class__ = StillWorld
    checkpoint = replace(taught[0], model=model)
    future = imagine_frames(checkpoint, bars, np.arange(6), blocks=4, starts=5, seed=0)
    rows = future.start[:, None] + 5 * np.arange(1, 5)
    np.testing.assert_array_equal(future.now[:, 0], bars.pixels[future.start])
    np.testing.assert_array_equal(future.true[:, :, 0], bars.pixels[rows])
    now = reconstruct(checkpoint, bars, future.start).painted
    assert np.abs(future.imagined.astype(int) - now[:, None]).max() <= 1
    then = reconstruct(checkpoint, bars, rows.reshape(-1)).painted
    assert np.abs(future.seen.reshape(then.shape).astype(int) - then).max() <= 1


def test_patches_are_not_imagined(bars: EpisodeDataset) -> None:
    checkpoint = train_decoder(Checkpoint(random_model(), joint_delta_space()), bars, recipe("patches"), seed=0)[0]
    with pytest.raises(ConfigError, match="paints patch tokens, which are not imagined; train one with --from state"):
        imagine_frames(checkpoint, bars, np.arange(6), blocks=1, starts=1, seed=0)


def test_only_episodes_that_no_decoder_knows_are_shown(
    taught: tuple[Checkpoint, dict[str, Any]], bars: EpisodeDataset, tmp_path: Path
) -> None:
    checkpoint = taught[0]
    unseen = unseen_episodes([checkpoint], bars)
    assert set(unseen) == set(bars.split(0.34, 0)[1])
    # What the model itself was trained without counts, where it is known.
    model = {"seed": 5, "train": {"validation_fraction": 0.5}, "dataset": bars.provenance}
    known = replace(checkpoint, provenance=checkpoint.provenance | model)
    assert set(unseen_episodes([known], bars)) == set(bars.split(0.5, 5)[1])
    # Another dataset is unknown altogether.
    other = EpisodeDataset.open(write_toy(tmp_path / "other.h5", [toy_columns(n, size=32) for n in range(3)]))
    assert set(unseen_episodes([checkpoint], other)) == {0, 1, 2}
    seeds = [s for s in range(20) if not set(bars.split(0.34, s)[1]) & set(unseen)]
    strange = train_decoder(Checkpoint(random_model(), joint_delta_space()), bars, recipe(), seed=seeds[0])[0]
    with pytest.raises(DatasetError, match="no episode is unknown to all of the decoders"):
        unseen_episodes([checkpoint, strange], bars)


def test_what_cannot_be_compared_is_refused(taught: tuple[Checkpoint, dict[str, Any]], bars: EpisodeDataset) -> None:
    cropped = InputSpec((CameraSpec("camera", 32, crop=(0.0, 0.0, 0.5, 0.5)),))
    other = Checkpoint(random_model(cropped), joint_delta_space(), name="cropped")
    with pytest.raises(ConfigError, match="checkpoints 'walker' and 'cropped' see other frames"):
        require_same_cameras([taught[0], other])
    with pytest.raises(UserError, match="'cropped': has no decoder; teach it one with `lewm train-decoder`"):
        unseen_episodes([other], bars)


def test_commands_from_frames_to_pictures(bars: EpisodeDataset, checkpoint_path: Path, tmp_path: Path) -> None:
    checkpoints = [str(tmp_path / source) for source in ("cls", "state", "patches")]
    for path in checkpoints:
        source = Path(path).name
        command = ["train-decoder", "--checkpoint", str(checkpoint_path), "--dataset", str(bars.path), "--from", source]
        small = ["--set", "steps=2", "--set", "decoder.width=4", "--set", "batch_size=4"]
        assert main([*command, *small, "--device", "cpu", "--out", path]) == 0
    pictures, dataset = [tmp_path / "seen.png", tmp_path / "future.png"], ["--dataset", str(bars.path)]
    figures = tmp_path / "seen.json"
    command = ["reconstructions", "--checkpoint", *checkpoints, *dataset, "--shown", "3", "--json", str(figures)]
    assert main([*command, "--frames", "8", "--figure", str(pictures[0])]) == 0
    names = [found["decoder"] for found in json.loads(figures.read_text())["decoders"]]
    assert names == ["one CLS token (cls)", "state of 1 token (state)", "patch tokens (patches)"]
    future = ["futures", "--checkpoint", checkpoints[1], *dataset, "--blocks", "3", "--starts", "1"]
    assert main([*future, "--figure", str(pictures[1])]) == 0
    assert all(np.ptp(matplotlib.image.imread(path)[..., :3]) > 0.5 for path in pictures)
