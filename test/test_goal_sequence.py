"""Goals in order, told by hand how far they are."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ToyCheckpoint, joint_delta_space
from torch import Tensor

from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.goal_sequence import MANY_RETURNS, GoalSequence, GoalSettings

SETTINGS = GoalSettings(goal_reached_steps=5.0, goal_lost_steps=20.0, goal_frames=2)
GOALS = torch.arange(3.0)[:, None, None].expand(3, 2, 4)  # goal i is full of i


def sequence(goals: int = 3) -> GoalSequence:
    return GoalSequence(GOALS[:goals], SETTINGS)


def test_the_next_goal_follows_when_few_steps_are_left_for_some_frames() -> None:
    goals = sequence()
    assert (goals.index, goals.left) == (0, 2)
    goals.tell([4.0, 30.0, 60.0])
    assert goals.index == 0, "one frame is not enough"
    goals.tell([4.0, 30.0, 60.0])
    assert (goals.index, goals.left) == (1, 1)
    assert torch.equal(goals.present, GOALS[1])


def test_frames_count_only_in_a_row() -> None:
    goals = sequence()
    for near in (4.0, 6.0, 4.0, 6.0):
        goals.tell([near, 30.0, 60.0])
    assert goals.index == 0
    goals.tell([4.0, 30.0, 60.0])
    goals.tell([4.0, 30.0, 60.0])
    assert goals.index == 1


def test_the_last_goal_is_kept() -> None:
    goals = sequence(1)
    for _ in range(5):
        goals.tell([0.0])
    assert (goals.index, goals.left) == (0, 0)


def lost() -> GoalSequence:
    """At the last goal, 25 steps from it at the beginning."""
    goals = sequence()
    for steps_left in ([4.0, 30.0, 60.0], [30.0, 4.0, 30.0]):
        goals.tell(steps_left)
        goals.tell(steps_left)
    goals.tell([40.0, 20.0, 25.0])
    assert goals.index == 2
    return goals


def test_it_goes_back_to_the_nearest_earlier_goal_when_the_present_one_went_far_away() -> None:
    goals = lost()
    for _ in range(3):
        goals.tell([10.0, 30.0, 45.0])
    assert goals.index == 2, "20 steps more than the 25 at its beginning are not yet more than 20"
    goals.tell([10.0, 30.0, 46.0])
    goals.tell([10.0, 30.0, 46.0])
    assert (goals.index, goals.left, goals.returns) == (0, 2, 1)


def test_it_stays_while_no_earlier_goal_is_nearer() -> None:
    goals = lost()
    for _ in range(3):
        goals.tell([50.0, 50.0, 46.0])
    assert goals.index == 2


def test_after_going_back_it_goes_on_again() -> None:
    goals = lost()
    for _ in range(2):
        goals.tell([46.0, 20.0, 60.0])
    assert goals.index == 1
    for _ in range(2):
        goals.tell([46.0, 3.0, 60.0])
    assert goals.index == 2
    for _ in range(4):  # 60 steps are what is left at this beginning
        goals.tell([46.0, 3.0, 60.0])
    assert goals.index == 2


def test_going_back_again_and_again_is_named() -> None:
    goals = sequence(2)
    for _ in range(MANY_RETURNS + 1):
        assert not goals.problem
        for steps_left in ([4.0, 30.0], [4.0, 30.0], [8.0, 30.0], [8.0, 51.0], [8.0, 51.0]):
            goals.tell(steps_left)
        assert goals.index == 0
    assert goals.problem == "goals may be in the wrong order: went back 4 times, last to goal 1"


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers for 3 goals"):
        sequence().tell([1.0, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        sequence(0)


def stalling(frames: int) -> GoalSequence:
    """Before a goal that is neither reached nor lost."""
    return GoalSequence(GOALS, dataclasses.replace(SETTINGS, goal_stalled_frames=frames))


def test_a_goal_that_gets_no_nearer_is_left_for_the_next() -> None:
    goals = stalling(4)
    for steps_left in (20.0, 12.0, 11.5, 12.0, 11.2):  # three frames without a whole step of progress since 12
        goals.tell([steps_left, 30.0, 60.0])
    assert goals.index == 0
    goals.tell([11.5, 30.0, 60.0])
    assert goals.index == 0, "the fourth frame without, the first to say so"
    goals.tell([11.5, 30.0, 60.0])
    assert (goals.index, goals.returns) == (1, 0)


def test_progress_and_a_new_goal_begin_the_count_again() -> None:
    goals = stalling(4)
    for steps_left in (20.0, 20.0, 20.0, 20.0, 18.0, 18.0, 18.0, 18.0):
        goals.tell([steps_left, 30.0, 60.0])
    assert goals.index == 0
    for _ in range(2):
        goals.tell([18.0, 30.0, 60.0])
    assert goals.index == 1
    for _ in range(5):
        goals.tell([18.0, 30.0, 60.0])
    assert goals.index == 1
    goals.tell([18.0, 30.0, 60.0])
    assert goals.index == 2


def test_the_last_goal_does_not_stall() -> None:
    goals = GoalSequence(GOALS[:2], dataclasses.replace(SETTINGS, goal_stalled_frames=3))
    for steps_left in ([4.0, 30.0], [4.0, 30.0], *[[40.0, 30.0]] * 9):
        goals.tell(steps_left)
    assert goals.index == 1
    for _ in range(2):
        goals.tell([40.0, 51.0])
    assert (goals.index, goals.returns) == (0, 1), "it can still be lost"


def test_without_a_limit_it_waits_for_ever() -> None:
    goals = stalling(0)
    for _ in range(200):
        goals.tell([12.0, 30.0, 60.0])
    assert goals.index == 0


class Still:
    """A world in which nothing moves."""

    def start(self, z: Tensor, past_actions: Tensor) -> Any:
        return lambda plans: z[:, None, -1:].expand(-1, plans.shape[1], plans.shape[2], -1, -1)


def demonstrator(z: Tensor, goal: Tensor, pace: Tensor) -> Any:
    """One step for every unit of distance."""
    return SimpleNamespace(left=(goal - z).norm(dim=-1))


def planner(**heads: Any) -> RecedingHorizonPlanner:
    settings = {"goal_reached_steps": 5.0, "goal_frames": 1, "horizon": 2, "precision": "fp32", "actor": "search"}
    return RecedingHorizonPlanner(ToyCheckpoint(Still(), joint_delta_space(), **heads), PlannerConfig(**settings))


def at(distance: float) -> Tensor:
    """A state or a goal (1, 7) so far from zero."""
    return torch.cat([torch.tensor([[distance]]), torch.zeros(1, 6)], dim=1)


def test_the_planner_pursues_goals_in_order() -> None:
    loop, goals = planner(policy=demonstrator), torch.stack([at(10.0), at(30.0)])
    sequence = loop.sequence(goals)
    loop.observe(0, at(0.0))
    assert loop.steps_left(0, goals).tolist() == [10.0, 30.0]
    assert torch.equal(loop.pursue(0, sequence), goals[0])
    loop.observe(1, at(6.0))  # four steps left to the first
    assert torch.equal(loop.pursue(1, sequence), goals[1])
    with pytest.raises(ValueError, match="it was not observed"):
        loop.pursue(2, sequence)


def test_without_a_policy_a_gap_says_how_far_goals_are() -> None:
    loop = planner(gap=SimpleNamespace(displacement=lambda z, goal: z - goal))
    loop.observe(0, at(1.0))
    assert loop.steps_left(0, torch.stack([at(3.0), at(0.0)])).tolist() == [10.0, 5.0]  # 2 and 1 blocks of 5 steps


def test_without_either_there_is_one_goal() -> None:
    loop = planner()
    loop.observe(0, at(0.0))
    assert torch.equal(loop.pursue(0, loop.sequence(at(1.0)[None])), at(1.0))
    with pytest.raises(ValueError, match="several in order need a checkpoint with a policy"):
        loop.sequence(torch.stack([at(1.0), at(2.0)]))
