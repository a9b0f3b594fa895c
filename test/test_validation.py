"""Validation: what it measures, and when it warns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import toy_trainer, write_bars

from lewm_training.learn.batch_norm import batch_norms, batch_statistics, settle_batch_norm
from lewm_training.learn.trainer import Trainer
from lewm_training.learn.validation import collapse_monitors, effective_rank, error_spread, warnings_about


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    folder = tmp_path_factory.mktemp("dataset")
    return toy_trainer(write_bars(folder), folder / "run", validation_windows=16)


def test_effective_rank_counts_directions() -> None:
    assert effective_rank(np.eye(8)) == pytest.approx(8.0)
    assert effective_rank(np.diag([1.0] * 2 + [0.0] * 6)) == pytest.approx(2.0, rel=1e-3)


def test_collapse_monitors_tell_the_least_and_the_mean_std_of_a_dimension() -> None:
    corners = np.array([[x, y] for x in (-3.0, 3.0) for y in (-1.0, 1.0)])  # four rows: std is sqrt(4/3) of these
    figures = collapse_monitors(corners)
    assert figures["validation/min_std"] == pytest.approx(np.sqrt(4 / 3))
    assert figures["validation/mean_std"] == pytest.approx(2 * np.sqrt(4 / 3))


def test_rollouts_reach_as_far_as_the_episodes(trainer: Trainer) -> None:
    figures = trainer.validation.measure(trainer.model)
    # Episodes of 40 steps hold 7 blocks of 5; after a history of 3 frames that leaves 5 blocks to look ahead.
    assert [k for k in (1, 2, 5, 10) if f"rollout/error_{k}" in figures] == [1, 2, 5]
    assert figures == trainer.validation.measure(trainer.model)  # the same windows again


def test_the_baseline_is_the_newest_embedding_taken_for_the_later_one(trainer: Trainer) -> None:
    model, validation = trainer.model.eval(), trainer.validation
    z, actions = torch.randn(4, 5, 1, 16), torch.randn(4, 4, 35)
    with torch.inference_mode():
        figures = validation._rollouts(model, z, actions)
        predicted = model.predict(z[:, :3], actions[:, :3])[:, -1]
    # A history of three: frame 2 is the newest known, frame 4 lies two blocks ahead.
    assert figures["rollout/nothing_changes_2"] == pytest.approx(float((z[:, 2] - z[:, 4]).square().mean()))
    assert figures["rollout/error_1"] == pytest.approx(float((predicted - z[:, 3]).square().mean()), rel=1e-4)


def test_settled_statistics_agree_with_the_batch_and_stale_ones_are_noticed(trainer: Trainer) -> None:
    model, validation = trainer.model, trainer.validation
    starts, _ = validation._choose(np.random.default_rng([0, 1]))
    pixels, actions = validation.reader.to_device(validation.reader.read(starts, 4))
    settle_batch_norm(model, [(pixels, actions)])
    settled = validation.measure(model)
    # Only the divisor of the variance is left: n - 1 in place of n, for n = 16 windows of 3 or 4 frames.
    assert settled["batch_norm/embedding_difference"] < 0.05
    assert abs(settled["batch_norm/prediction_difference"]) < 0.1
    assert warnings_about(settled, []) == []
    for norm in batch_norms(model):
        norm.running_var *= 100.0
    stale = validation.measure(model)
    assert stale["batch_norm/embedding_difference"] > 0.5
    assert any("running statistics disagree" in line for line in warnings_about(stale, []))


def test_looking_at_batch_statistics_changes_none(trainer: Trainer) -> None:
    model = trainer.model.eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    pixels = torch.randn(6, 3, 32, 32)
    running = model.encode(pixels)
    with batch_statistics(model):
        assert not torch.allclose(model.encode(pixels), running)
    assert torch.equal(model.encode(pixels), running)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_monitor_that_falls_to_less_than_half_its_best_is_worth_a_line(trainer: Trainer) -> None:
    figures = trainer.validation.measure(trainer.model) | {"batch_norm/embedding_difference": 0.0}
    figures["batch_norm/prediction_difference"] = 0.0
    earlier = [figures | {"validation/effective_rank": 2.2 * figures["validation/effective_rank"]}, figures]
    (line,) = warnings_about(figures, earlier)
    assert line.startswith("validation/effective_rank fell to")
    assert warnings_about(figures, [figures]) == []


def test_a_dataset_without_labels_is_trained_on_without_probes(tmp_path: Path) -> None:
    checkpoint = toy_trainer(write_bars(tmp_path, labels=False), tmp_path / "run", epochs=1).run()
    assert not any(name.startswith("probe/") for name in checkpoint.provenance["metrics"])
    assert checkpoint.action_space.known_low == ()


def test_the_spread_of_errors_is_a_line_through_logarithms() -> None:
    rng = np.random.default_rng(0)
    changes = np.exp(rng.normal(size=4000))
    errors = np.exp(-3.0 + 0.8 * np.log(changes) + 0.5 * rng.normal(size=4000))
    spread = error_spread(errors, changes)
    assert (spread.intercept, spread.slope, spread.std) == (
        pytest.approx(-3.0, abs=0.03),
        pytest.approx(0.8, abs=0.03),
        pytest.approx(0.5, abs=0.02),
    )
    assert spread.least_change == pytest.approx(np.exp(-2.33), rel=0.1), "the normal distribution's first percentile"
    constant = error_spread(np.full(3, 0.1), np.full(3, 0.2))
    assert constant.surprise(0.1, 0.2) == pytest.approx(0.0, abs=1e-6)
