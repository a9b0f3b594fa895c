"""The policy: learned from a bar that walks, kept by checkpoints, asked by the planner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ToyCheckpoint, joint_delta_space, random_model, small_model_config, two_cameras
from toy_training import STEPS, toy_trainer, write_bars

from lewm_ros.config import BehaviourConfig, ConfigError, PolicyConfig, PolicyTrainConfig
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lewm_ros.model.policy import Guess, Policy, make_policy
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_training.data import EpisodeDataset
from lewm_training.judge.embeddings import embed_flat
from lewm_training.learn.policy import train_policy

SMALL = PolicyConfig(width=32, depth=2)
SPACE = joint_delta_space()
CONTROL_NS = 50_000_000
PACE = torch.tensor(10.0)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("bars"))


def test_a_goal_is_compared_with_the_tokens_that_it_has() -> None:
    inputs = two_cameras()
    inputs = replace(inputs, cameras=(inputs.cameras[0], replace(inputs.cameras[1], in_goal=False)))
    # Three tokens of 16 numbers, of which a goal has the first.
    policy = make_policy(SMALL, random_model(inputs), SPACE)
    assert policy.goal_places.tolist() == list(range(16))
    guess = policy(torch.randn(5, 48), torch.randn(16), PACE)
    assert guess.blocks.shape == guess.scales.shape == (5, 35)
    assert guess.left.shape == (5,)
    assert (guess.scales > 0.0).all() and (guess.left >= 0.0).all()


def test_what_a_policy_is_blind_to_changes_nothing() -> None:
    inputs = two_cameras()
    first, second = inputs.cameras
    inputs = replace(inputs, cameras=(first, replace(second, in_goal=False)))
    model, goal = random_model(inputs), torch.randn(16)
    policy = make_policy(replace(SMALL, blind_to=(second.name, "vectors")), model, SPACE)
    z = torch.randn(1, 48)
    other = torch.cat([z[:, :16], torch.randn(1, 32)], dim=1)  # the first camera's token, then what it is blind to
    assert torch.equal(policy(z, goal, PACE).blocks, policy(other, goal, PACE).blocks)
    assert not torch.equal(policy(z, goal, PACE).blocks, make_policy(SMALL, model, SPACE)(other, goal, PACE).blocks)
    for name, complaint in ((first.name, "a goal is told by"), ("sonar", "must be among")):
        with pytest.raises(ConfigError, match=f"blind_to: .*{complaint}"):
            make_policy(replace(SMALL, blind_to=(name,)), model, SPACE)


def test_the_loss_is_least_at_the_median_and_its_scale_at_the_mean_deviation() -> None:
    space = replace(SPACE, channels=SPACE.channels[:1], action_block=1, mean=(0.0,), std=(1.0,))
    policy = Policy(PolicyConfig(width=8, depth=1), torch.arange(2), torch.arange(2), space)
    for parameter in policy.parameters():
        torch.nn.init.zeros_(parameter)
    z, goal, left = torch.zeros(3, 2), torch.zeros(3, 2), torch.full((3,), 100.0)
    blocks = torch.tensor([[0.0], [1.0], [5.0]])

    def loss(guess: float, scale: float) -> float:
        with torch.no_grad():
            policy.head.bias.copy_(torch.tensor([guess, np.log(scale), 0.0]))
        return policy.loss(z, goal, blocks, left).item()

    # Of 0, 1 and 5 the median is 1; about it they are 5 / 3 off on average.
    assert min((loss(g, 5 / 3), g) for g in (0.0, 0.9, 1.0, 1.1, 2.0))[1] == 1.0
    assert min((loss(1.0, s), s) for s in (1.0, 1.5, 5 / 3, 1.8, 2.5))[1] == 5 / 3


@pytest.mark.parametrize(("modes", "guessed"), [(1, 0.0), (2, 1.0)])
def test_of_two_ways_it_goes_the_likelier_and_not_between_them(modes: int, guessed: float) -> None:
    # Of eleven demonstrators four go to -1, two stay, five go to 1: the median is to stay.
    torch.manual_seed(0)
    space = replace(SPACE, channels=SPACE.channels[:1], action_block=1, mean=(0.0,), std=(1.0,))
    policy = Policy(PolicyConfig(width=8, depth=1, modes=modes), torch.arange(2), torch.arange(2), space)
    blocks = torch.tensor([-1.0] * 4 + [0.0] * 2 + [1.0] * 5)[:, None]
    optimiser = torch.optim.Adam(policy.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        policy.loss(torch.zeros(11, 2), torch.zeros(11, 2), blocks, torch.full((11,), 100.0)).backward()
        optimiser.step()
    guess = policy(torch.zeros(1, 2), torch.zeros(1, 2), PACE)
    assert guess.blocks.item() == pytest.approx(guessed, abs=0.15)


@pytest.mark.parametrize(("paced", "slow", "fast"), [(True, 0.2, 1.0), (False, 0.6, 0.6)])
def test_a_paced_one_goes_as_fast_as_the_time_asks_for(paced: bool, slow: float, fast: float) -> None:
    # The same way was gone in 20 steps, by 1.0 a step, in 100, by 0.2, or in anything between, by 1.2 - left / 100;
    # the median is 0.6.
    torch.manual_seed(0)
    space = replace(SPACE, channels=SPACE.channels[:1], action_block=1, mean=(0.0,), std=(1.0,))
    policy = Policy(PolicyConfig(width=16, depth=1, paced=paced), torch.arange(2), torch.arange(2), space)
    left = torch.linspace(20.0, 100.0, 33)
    blocks = (1.2 - left / 100.0)[:, None]
    optimiser = torch.optim.Adam(policy.parameters(), lr=0.02)
    for _ in range(400):
        optimiser.zero_grad()
        policy.loss(torch.zeros(33, 2), torch.zeros(33, 2), blocks, left).backward()
        optimiser.step()
    for pace, expected in ((100.0, slow), (20.0, fast)):
        guess = policy(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([pace]))
        assert guess.blocks.item() == pytest.approx(expected, abs=0.1)
        assert guess.left.item() == pytest.approx(60.0, abs=5.0), "how long it takes is not told by the pace"


@pytest.fixture(scope="module")
def taught(bars: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """A policy on an untrained encoder, which sees where the bar is too."""
    config = PolicyTrainConfig(SMALL, steps=300, batch_size=64, noise=0.01, validation_fraction=0.2)
    return train_policy(Checkpoint(random_model(), SPACE), EpisodeDataset.open(bars), config, seed=0)


def test_it_learns_how_long_the_way_is(taught: tuple[Checkpoint, dict[str, Any]]) -> None:
    _, metrics = taught
    assert set(metrics["explained"]) == set(SPACE.names)
    # Goals lie 0 to 39 steps ahead, half of them at the end: guessing the middle errs by about 10.
    assert metrics["steps_left_error"] < 10.0


def test_it_learns_to_move_towards_the_goal(tmp_path: Path) -> None:
    path = write_bars(tmp_path, straight=True)
    dataset = EpisodeDataset.open(path)
    # States of an untrained encoder differ by thousandths: a policy would see nothing in them.
    toy_trainer(path, tmp_path / "run", steps_per_epoch=40).run()
    config = PolicyTrainConfig(SMALL, steps=400, batch_size=128, noise=0.1, validation_fraction=0.2)
    checkpoint, _ = train_policy(load_checkpoint(tmp_path / "run" / "model"), dataset, config, seed=0)
    rows = np.arange(STEPS)
    z = torch.from_numpy(embed_flat(checkpoint.model, dataset, rows)).float()
    place = torch.from_numpy(dataset.columns["proprio"][rows, 0])
    with torch.inference_mode():
        # From every frame to every other, also back.
        guess = checkpoint.policy(z[:, None].expand(-1, STEPS, -1), z, PACE)
    moves = guess.blocks.unflatten(-1, (-1, SPACE.dim))[..., 0].sum(-1)
    way = place[None] - place[:, None]
    right = (moves > 0.0) == (way > 0.0)
    for far in (way > 0.05, way < -0.05):
        assert right[far].float().mean() > 0.9


def test_a_checkpoint_keeps_it(taught: tuple[Checkpoint, dict[str, Any]], tmp_path: Path) -> None:
    loaded = load_checkpoint(save_checkpoint(taught[0], tmp_path / "with"))
    z, goal = torch.randn(3, 16), torch.randn(16)
    torch.testing.assert_close(loaded.policy(z, goal, PACE).blocks, taught[0].policy(z, goal, PACE).blocks)
    assert loaded.provenance["policy"]["train"]["steps"] == 300
    assert RecedingHorizonPlanner(loaded, PlannerConfig(horizon=2)).actor == "policy"


def test_a_model_learns_along_with_a_policy(bars: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(bars, tmp_path / "run", behaviour=BehaviourConfig(SMALL), steps_per_epoch=20, epochs=3)
    trainer.run()
    errors = [entry["train/behaviour"] for entry in trainer.folder.history()]
    assert errors[-1] < errors[0]
    again = toy_trainer(bars, tmp_path / "run", behaviour=BehaviourConfig(SMALL), steps_per_epoch=20, epochs=3)
    again.run()  # the run goes on with the policy that it had: nothing is left to do
    assert again.epoch == 3


def test_a_model_that_learned_along_with_a_policy_knows_strange_goals(bars: Path, tmp_path: Path) -> None:
    # Goals of two numbers: five demonstrations are enough to say how they are spread.
    model = replace(small_model_config(), embedding_dim=2)
    trainer = toy_trainer(bars, tmp_path, behaviour=BehaviourConfig(SMALL), model=model, epochs=2)
    assert trainer.run(until=1).familiarity is None, "only of the finished model"
    familiarity = trainer.run().familiarity
    usual = torch.from_numpy(embed_flat(trainer.model, trainer.dataset, np.array([STEPS - 1]))).float()
    strange = usual + 1e3
    assert float(familiarity(usual)) < float(familiarity(strange))
    assert load_checkpoint(tmp_path / "model.json").familiarity is not None


def test_a_run_begins_with_the_policy_of_a_checkpoint_if_it_is_configured_alike(
    bars: Path, taught: tuple[Checkpoint, dict[str, Any]], tmp_path: Path
) -> None:
    start = str(save_checkpoint(taught[0], tmp_path / "taught"))
    before = taught[0].policy.state_dict()
    alike = toy_trainer(bars, tmp_path / "alike", start_checkpoint=start, behaviour=BehaviourConfig(SMALL))
    assert all(torch.equal(weight, before[name]) for name, weight in alike.policy.state_dict().items())
    wider = BehaviourConfig(replace(SMALL, width=48))
    other = toy_trainer(bars, tmp_path / "other", start_checkpoint=start, behaviour=wider)
    assert other.policy.head.in_features == 48


class Walk:
    """The world of a test: a state of one token of 7 numbers moves by the mean of a block's actions."""

    def start(self, z: torch.Tensor, past_actions: torch.Tensor) -> Walk:
        self.z = z[:, -1]  # (1, 1, 7)
        return self

    def __call__(self, plans: torch.Tensor) -> torch.Tensor:
        moves = plans.unflatten(-1, (5, 7)).mean(-2).cumsum(2)  # (1, S, T, 7)
        return (self.z[:, None] + moves)[..., None, :]

    def follow(self, choose: Any, samples: int, steps: int, to_end: bool = False) -> list[torch.Tensor]:
        states = [self.z.unsqueeze(1).expand(-1, samples, -1, -1)]
        for step in range(steps):
            states.append(states[-1] + choose(step, states[-1]).unflatten(-1, (5, 7)).mean(-2)[..., None, :])
        return states[1:] if to_end else states[1:-1]


def towards(z: torch.Tensor, goal: torch.Tensor, pace: torch.Tensor) -> Guess:
    """A demonstrator who goes half of the way in every block, and is sure of it to 0.1."""
    blocks = (0.5 * (goal - z)).repeat(1, 5)
    return Guess(blocks, torch.full_like(blocks, 0.1), (goal - z).norm(dim=-1))


def planner(**changes: Any) -> RecedingHorizonPlanner:
    world = ToyCheckpoint(Walk(), SPACE, policy=towards)
    return RecedingHorizonPlanner(world, PlannerConfig(**{"horizon": 3, "precision": "fp32", **changes}))


def test_the_planner_does_what_the_policy_says_and_follows_it_through_the_model() -> None:
    loop, goal = planner(), torch.full((1, 7), 0.8)
    loop.observe(0, torch.zeros(1, 7))
    decision = loop.decide(0, goal)
    # Half of what is left in every block: 0.4, 0.2, 0.1, z-scored by 0.015 rad.
    expected = np.repeat([0.4, 0.2, 0.1], 5)[:, None] * np.full(7, 0.015)
    np.testing.assert_allclose(decision.actions, expected, rtol=1e-5)
    assert decision.status == "found"
    # What is left is 0.1 in each of 7 numbers; the cost is the mean square at the end.
    assert decision.cost == pytest.approx(0.01, rel=1e-3)


def test_the_policy_is_told_the_pace() -> None:
    def hurried(z: torch.Tensor, goal: torch.Tensor, pace: torch.Tensor) -> Guess:
        blocks = ((goal - z) / pace[:, None]).repeat(1, 5)
        return Guess(blocks, torch.full_like(blocks, 0.1), (goal - z).norm(dim=-1))

    loop = RecedingHorizonPlanner(
        ToyCheckpoint(Walk(), SPACE, policy=hurried), PlannerConfig(horizon=1, precision="fp32", pace_steps=4.0)
    )
    loop.observe(0, torch.zeros(1, 7))
    # A quarter of what is left, 0.8 / 4, z-scored by 0.015 rad.
    np.testing.assert_allclose(loop.decide(0, torch.full((1, 7), 0.8)).actions[:5], 0.2 * 0.015, rtol=1e-5)


def test_what_is_committed_is_done_before_the_policys_own() -> None:
    loop, under_way = planner(), np.full((2, 7), -0.01)
    loop.observe(0, torch.zeros(1, 7))
    loop.timeline.schedule(0, under_way)
    actions = loop.decide(0, torch.full((1, 7), 0.8), free_ns=2 * CONTROL_NS).actions
    np.testing.assert_allclose(actions[:2], under_way, atol=1e-7)
    np.testing.assert_allclose(actions[2:5], 0.4 * 0.015, rtol=1e-5)


def test_a_policy_that_stands_still_away_from_the_goal_does_something_else() -> None:
    def undecided(z: torch.Tensor, goal: torch.Tensor, pace: torch.Tensor) -> Guess:
        blocks = torch.zeros(len(z), 35)
        return Guess(blocks, torch.full_like(blocks, 0.5), torch.full((len(z),), 80.0))

    def moved(stuck_s: float) -> list[bool]:
        config = PlannerConfig(horizon=3, precision="fp32", stuck_s=stuck_s, escape_s=0.1)
        loop, moves = RecedingHorizonPlanner(ToyCheckpoint(Walk(), SPACE, policy=undecided), config), []
        for now_ns in range(0, 8 * CONTROL_NS, CONTROL_NS):
            loop.observe(now_ns, torch.zeros(1, 7))
            loop.adopt(loop.decide(now_ns, torch.full((1, 7), 0.8)))
            moves.append(bool(np.abs(loop.timeline.read(now_ns, 1)).max() > 1e-4))
        return moves

    assert moved(0.2) == [False] * 4 + [True] * 2 + [False] * 2  # it is watched for four steps, and helped for two
    assert not any(moved(0.0))  # switched off


def test_a_search_that_begins_with_the_policy_is_no_worse_than_it() -> None:
    costs = {}
    for actor in ("policy", "policy_and_search"):
        loop = planner(actor=actor, solver="cem", samples=64, elites=8, iterations=3, policy_samples=4)
        loop.observe(0, torch.zeros(1, 7))
        costs[actor] = loop.decide(0, torch.full((1, 7), 0.8)).cost
    assert costs["policy_and_search"] <= costs["policy"] + 1e-6


def test_the_costs_of_random_plans_differ_where_actions_matter() -> None:
    loop = planner()
    loop.observe(0, torch.zeros(1, 7))
    assert loop.cost_variation(0, torch.full((1, 7), 0.8)) > 0.1


def test_a_policy_that_is_not_there_is_named() -> None:
    checkpoint = Checkpoint(random_model(), SPACE)
    with pytest.raises(ValueError, match="needs a checkpoint with a policy; teach it one with `lewm train-policy`"):
        RecedingHorizonPlanner(checkpoint, PlannerConfig(actor="policy"))
    assert RecedingHorizonPlanner(checkpoint, PlannerConfig()).actor == "search"
