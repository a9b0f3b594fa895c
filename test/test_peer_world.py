"""Both ways with stable-worldmodel, on its Push-T for a few steps; it needs the extra `bench`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import random_model, small_model_config, stirred, two_cameras

from lewm_ros.config import UserError
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.observation.observation import Observation
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_training.bench.peer import peer_module
from lewm_training.bench.peer_world import ActionScores, PeerCost, PeerPolicy

pytest.importorskip("stable_worldmodel", reason="needs the extra `bench`")
pytest.importorskip("pymunk", reason="needs the extra `bench`")

STEPS = 7


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    model = stirred(LeWorldModel(replace(small_model_config(), action_dim=10)))
    channels = (Channel("x", "velocity"), Channel("y", "velocity"))
    return Checkpoint(model, ActionSpace("pusht", channels, 10.0, 5, mean=(0.1, 0.0), std=(0.5, 0.4)))


@pytest.fixture
def world() -> Iterator[Any]:
    peer_module("envs")
    made = peer_module("world").World("swm/PushT-v1", num_envs=2, image_shape=(32, 32), max_episode_steps=STEPS)
    yield made
    made.close()


def watched(policy: Any) -> list[np.ndarray]:
    """The actions that a policy gives from now on."""
    actions, act = [], policy.get_action

    def get_action(info: dict[str, Any], **options: Any) -> np.ndarray:
        actions.append(act(info, **options))
        return actions[-1]

    policy.get_action = get_action
    return actions


def test_its_cem_plans_on_our_model_and_its_world_judges(checkpoint: Checkpoint, world: Any) -> None:
    module = peer_module("policy")
    solver = peer_module("solver").CEMSolver(PeerCost(checkpoint), num_samples=8, n_steps=2, topk=2, seed=0)
    plan = module.PlanConfig(horizon=2, receding_horizon=1, action_block=5)
    policy = module.WorldModelPolicy(solver, plan, process={"action": ActionScores(checkpoint.action_space)})
    actions = watched(policy)
    world.set_policy(policy)
    report = world.evaluate(episodes=2, seed=3)
    assert report["episode_successes"].shape == (2,)
    assert len(actions) == STEPS
    assert np.abs(actions).max() <= 1.0
    assert np.std(actions) > 0.05


def test_costs_are_those_of_the_models_own_rollout(checkpoint: Checkpoint) -> None:
    cost, frames = PeerCost(checkpoint), torch.randint(0, 256, (2, 1, 1, 32, 32, 3), dtype=torch.uint8)
    information = {"pixels": frames[:1].expand(1, 3, -1, -1, -1, -1), "goal": frames[1:].expand(1, 3, -1, -1, -1, -1)}
    plans = torch.randn(1, 3, 2, 10)
    costs = cost.get_cost(information, plans)
    z, goal = (checkpoint.encode(Observation({"camera": frame[0, 0].numpy()})) for frame in frames)
    with torch.no_grad():
        reached = checkpoint.model.rollout(z[None, None], torch.empty(1, 0, 10), plans)[:, :, -1]
    assert costs.std() > 0.01
    torch.testing.assert_close(costs, (reached - goal).square().sum((-2, -1)), atol=1e-4, rtol=1e-4)


def test_our_planner_is_one_of_its_policies(checkpoint: Checkpoint, world: Any) -> None:
    search = PlannerConfig(samples=8, elites=2, iterations=2, horizon=2, precision="fp32")
    policy = PeerPolicy(checkpoint, search, seed=0, replan_steps=3)
    actions = watched(policy)
    world.set_policy(policy)
    report = world.evaluate(episodes=4, seed=3)  # two for each environment: the second begins anew
    assert report["episode_successes"].shape == (4,)
    assert len(actions) == 2 * STEPS
    assert np.isfinite(actions).all()
    assert np.std(actions) > 0.05
    first = [step.copy() for step in actions]
    actions.clear()
    policy.set_env(world.envs)
    world.evaluate(episodes=4, seed=3)
    np.testing.assert_array_equal(actions, first)


def test_scores_of_actions_keep_to_the_bounds(checkpoint: Checkpoint) -> None:
    scores = ActionScores(checkpoint.action_space)
    np.testing.assert_allclose(scores.inverse_transform(np.array([[1.0, -1.0], [9.0, -9.0]])), [[0.6, -0.4], [1, -1]])
    np.testing.assert_allclose(scores.transform(np.array([[0.6, -0.4]])), [[1.0, -1.0]])


def test_a_model_of_two_cameras_is_refused(checkpoint: Checkpoint) -> None:
    double = Checkpoint(random_model(two_cameras()), checkpoint.action_space, name="double")
    for make in (PeerCost, lambda it: PeerPolicy(it, PlannerConfig())):
        with pytest.raises(UserError, match="gives frames of one camera, checkpoint 'double' takes in"):
            make(double)
