"""The learned number of blocks between two states: exact at the goal, learned from a walk, kept, planned with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import joint_delta_space, random_model
from toy_training import STEPS, write_bars

from lewm_ros.config import GapConfig, ProposalConfig, ProposalTrainConfig
from lewm_ros.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from lewm_ros.model.gap import FrameGap
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.costs import Candidates, WeightedDistances, compose
from lewm_training.data import EpisodeDataset
from lewm_training.judge.embeddings import embed_flat
from lewm_training.learn.proposal import _expectile_loss, train_proposal


def random_gap() -> FrameGap:
    torch.manual_seed(3)
    return FrameGap(GapConfig(width=8, depth=1), state_dim=16).eval()


def test_no_blocks_lie_between_equals_and_as_many_there_as_back() -> None:
    gap, z = random_gap(), torch.randn(4, 5, 16)
    assert (gap(z, z) == 0.0).all()
    assert gap(z, z[0, 0]).shape == (4, 5)  # one goal for all
    torch.testing.assert_close(gap(z[0], z[1]), gap(z[1], z[0]))
    assert (gap(z[0], z[1]) > 0.0).all()


def test_its_gradient_is_finite_also_at_the_goal() -> None:
    z = torch.ones(16, requires_grad=True)
    (gradient,) = torch.autograd.grad(random_gap().displacement(z, torch.ones(16)).square().sum(), z)
    assert (gradient == 0.0).all()


def test_its_cost_is_the_square_of_the_blocks() -> None:
    gap, goal = random_gap(), torch.randn(16)
    states = torch.randn(1, 3, 2, 16)
    candidates = Candidates(torch.zeros(1, 3, 10, 7), torch.zeros(7), states, goal)
    config = PlannerConfig(latent_weight=0.0, gap_weight=2.0)
    residuals = compose(config, WeightedDistances.of(config, None, gap.displacement), None)(candidates)
    torch.testing.assert_close(residuals.square().sum(-1), 2.0 * gap(states[:, :, -1], goal).square())


def test_the_loss_is_least_at_the_expectile() -> None:
    # Of 0 and 10, once each, e minimises (1 - t) e^2 + t (10 - e)^2: e = 10 t.
    true = torch.tensor([0.0, 10.0])
    losses = [float(_expectile_loss(torch.full((2,), guess), true, 0.1)) for guess in (0.5, 1.0, 1.5)]
    assert min(losses) == losses[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, EpisodeDataset, dict[str, object]]:
    """A gap learned on embeddings of an untrained encoder, which see where the bar is too."""
    dataset = EpisodeDataset.open(write_bars(tmp_path_factory.mktemp("bars")))
    config = ProposalTrainConfig(
        ProposalConfig(width=16), GapConfig(width=32), longest_s=1.0, steps=300, batch_size=64, noise=0.0
    )
    checkpoint, metrics = train_proposal(Checkpoint(random_model(), joint_delta_space()), dataset, config, seed=0)
    return checkpoint, dataset, metrics


def test_it_learns_how_far_the_bar_has_to_go(trained: tuple[Checkpoint, EpisodeDataset, dict[str, object]]) -> None:
    checkpoint, dataset, metrics = trained
    z = torch.from_numpy(embed_flat(checkpoint.model, dataset, dataset.window_starts([0], 1))).float()
    joint = torch.from_numpy(dataset.columns["proprio"][:STEPS, 0].copy())
    with torch.inference_mode():
        gap = checkpoint.gap(z[:, None], z[None])  # (STEPS, STEPS)
    distance = (joint[:, None] - joint[None]).abs()
    assert torch.corrcoef(torch.stack([gap.flatten(), distance.flatten()]))[0, 1] > 0.7
    assert metrics["gap_r"] > 0.2  # a random walk comes back, so time says less than distance


def test_a_checkpoint_keeps_it_beside_the_proposal(
    trained: tuple[Checkpoint, EpisodeDataset, dict[str, object]], tmp_path: Path
) -> None:
    checkpoint, _, _ = trained
    loaded = load_checkpoint(save_checkpoint(checkpoint, tmp_path / "both"))
    z, goal = torch.randn(3, 16), torch.randn(16)
    torch.testing.assert_close(loaded.gap(z, goal), checkpoint.gap(z, goal))
    torch.testing.assert_close(loaded.proposal.way(z, goal), checkpoint.proposal.way(z, goal))
    alone = load_checkpoint(save_checkpoint(replace(checkpoint, proposal=None), tmp_path / "alone"))
    assert alone.proposal is None
    assert alone.gap is not None


def test_none_is_trained_if_none_is_wanted(
    trained: tuple[Checkpoint, EpisodeDataset, dict[str, object]], tmp_path: Path
) -> None:
    checkpoint, dataset, _ = trained
    config = ProposalTrainConfig(ProposalConfig(width=8), gap=None, steps=2, batch_size=4)
    without, metrics = train_proposal(checkpoint, dataset, config, seed=0)
    assert without.gap is None
    assert "gap_r" not in metrics


def test_the_shipped_checkpoint_needs_none() -> None:
    assert load_checkpoint("default").proposal is not None


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(Checkpoint(random_model(), joint_delta_space(), gap=random_gap()), tmp_path / "gap")
    text = path.read_text().replace('"width": 8', '"width": 9')
    path.write_text(text)
    with pytest.raises(CheckpointError, match="the weights do not fit the configuration"):
        load_checkpoint(path)


def test_a_planner_plans_by_it_alone() -> None:
    config = PlannerConfig(
        samples=8, elites=2, iterations=2, horizon=2, precision="fp32", latent_weight=0.0, gap_weight=1.0
    )
    without = Checkpoint(random_model(), joint_delta_space())
    with pytest.raises(ValueError, match="no distance to the goal"):
        RecedingHorizonPlanner(without, config)
    planner = RecedingHorizonPlanner(replace(without, gap=random_gap()), config)
    planner.observe(0, torch.randn(1, 16))
    assert planner.decide(0, torch.randn(1, 16)).status == "found"
