"""The receding-horizon planner, in a world whose best plan is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import ToyCheckpoint, joint_delta_space
from torch import Tensor

from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.costs import latent_displacement
from lewm_ros.planning.homing import WayBack
from lewm_ros.planning.planner import FOUND, NOT_FINITE, OUT_OF_TIME, Decision
from lewm_ros.planning.surprise import SurpriseWatch
from lewm_ros.robot.arm_actions import joint_delta

SPACE = joint_delta_space()
THOROUGH = PlannerConfig(horizon=2, samples=256, iterations=20, elites=25, knots_per_block=1, precision="fp32")
SEARCH = PlannerConfig(horizon=2, samples=64, iterations=8, elites=8, knots_per_block=1, precision="fp32")


class Replayed:
    """What a toy imagines; where blocks are chosen one after another, all are imagined again after each."""

    def __init__(self, z: Tensor, imagine: Callable[[Tensor], Tensor]) -> None:
        self._z, self._imagine = z, imagine

    def __call__(self, plans: Tensor) -> Tensor:
        return self._imagine(plans)

    def follow(
        self, choose: Callable[[int, Tensor], Tensor], samples: int, steps: int, to_end: bool = False
    ) -> list[Tensor]:
        states, chosen = [self._z[:, -1:].expand(-1, samples, -1, -1)], []
        for step in range(steps):
            chosen.append(choose(step, states[-1]))
            states.append(self(torch.stack(chosen, dim=2))[:, :, -1])
        return states[1:] if to_end else states[1:-1]


class Walk:
    """The state is one token, a 7-D place; a block moves it by the mean of its z-scored actions."""

    def start(self, z: Tensor, past_actions: Tensor) -> Replayed:
        def imagine(plans: Tensor) -> Tensor:
            steps = plans.unflatten(-1, (SPACE.action_block, 7)).mean(-2)  # (B, S, T, 7)
            return z[:, None, -1:] + steps.cumsum(2).unsqueeze(-2)  # (B, S, T, 1, 7)

        return Replayed(z, imagine)


DT_NS = 50_000_000
BLOCK_NS = 5 * DT_NS


def planner(config: PlannerConfig = SEARCH, seed: int = 0) -> RecedingHorizonPlanner:
    return RecedingHorizonPlanner(ToyCheckpoint(Walk(), SPACE), config, seed)


def moved_by(actions: np.ndarray) -> Tensor:
    """How far the walk goes in a block of actions (5, 7)."""
    return torch.as_tensor(SPACE.normalise(actions).reshape(5, 7).mean(0), dtype=torch.float32)


def test_the_loop_walks_to_the_goal_and_stays() -> None:
    loop, place, goal = planner(), torch.zeros(1, 7), torch.linspace(-4.0, 4.0, 7)[None]
    for now_ns in range(0, 10 * BLOCK_NS, BLOCK_NS):
        loop.observe(now_ns, place)
        loop.adopt(loop.decide(now_ns, goal))
        place = place + moved_by(loop.timeline.read(now_ns, 5))
    assert (place - goal).norm() < 0.5


def test_a_loop_that_plans_at_every_step_with_a_delay_gets_there_too() -> None:
    config = replace(SEARCH, solver="gauss_newton", running_weight=3.0)
    loop, place, goal = planner(config), torch.zeros(1, 7), torch.linspace(-2.0, 2.0, 7)[None]
    for now_ns in range(0, 60 * DT_NS, DT_NS):
        loop.observe(now_ns, place)
        loop.adopt(loop.decide(now_ns, goal, free_ns=now_ns + 2 * DT_NS))
        place = place + moved_by(np.tile(loop.timeline.read(now_ns, 1), (5, 1))) / 5
    assert (place - goal).norm() < 0.5


def test_what_is_committed_stays_and_is_counted_on() -> None:
    # A whole block of 0.02 rad a step is under way; what is planned after it has only the remaining way to go.
    loop, goal, under_way = planner(THOROUGH), torch.full((1, 7), 0.9), np.full((5, 7), 0.02)
    loop.observe(0, torch.zeros(1, 7))
    loop.timeline.schedule(0, under_way)
    decision = loop.decide(0, goal, free_ns=BLOCK_NS)
    np.testing.assert_allclose(decision.actions[:5], under_way, atol=1e-7)
    total = moved_by(decision.actions[:5]) + moved_by(decision.actions[5:])
    np.testing.assert_allclose(total, 0.9, atol=0.1)


def test_a_part_of_a_block_can_be_committed() -> None:
    loop = planner(replace(SEARCH, solver="gauss_newton"))
    loop.observe(0, torch.zeros(1, 7))
    loop.timeline.schedule(0, np.full((10, 7), 0.02))
    decision = loop.decide(0, torch.full((1, 7), -3.0), free_ns=round(1.5 * DT_NS))
    np.testing.assert_allclose(decision.actions[:2], 0.02, atol=1e-7)  # half of the second step is over at 1.5
    assert (decision.actions[2:] < 0.0).all()


@pytest.mark.parametrize(("begun", "left"), [(2.5, 0.0), (2.2, 0.8)])
def test_a_plan_that_comes_late_leaves_what_has_begun(begun: float, left: float) -> None:
    """Of a step of which less than half is over, the rest is the new plan's."""
    loop = planner()
    loop.observe(0, torch.zeros(1, 7))
    decision = loop.decide(0, torch.ones(1, 7), free_ns=DT_NS)
    loop.adopt(decision, free_ns=round(begun * DT_NS))
    np.testing.assert_array_equal(loop.timeline.read(0, 2), np.zeros((2, 7)))
    np.testing.assert_allclose(loop.timeline.read(2 * DT_NS, 1)[0], left * decision.actions[2])
    np.testing.assert_allclose(loop.timeline.read(3 * DT_NS, 2), decision.actions[3:5])


def test_a_plan_that_comes_early_leaves_what_was_committed() -> None:
    loop = planner()
    loop.observe(0, torch.zeros(1, 7))
    decision = loop.decide(0, torch.ones(1, 7), free_ns=2 * DT_NS)
    loop.adopt(decision, free_ns=0)
    np.testing.assert_array_equal(loop.timeline.read(0, 2), np.zeros((2, 7)))
    np.testing.assert_allclose(loop.timeline.read(2 * DT_NS, 2), decision.actions[2:4])


def test_after_the_last_planned_block_the_robot_rests() -> None:
    loop = planner()
    loop.observe(0, torch.zeros(1, 7))
    loop.adopt(loop.decide(0, torch.ones(1, 7)))
    np.testing.assert_array_equal(loop.timeline.read(SEARCH.horizon * BLOCK_NS, 5), np.zeros((5, 7)))


def test_predictions_with_what_was_executed_are_compared_with_what_is_seen() -> None:
    loop = planner()
    loop.observe(0, torch.zeros(1, 7))
    assert loop.prediction_error(0) is None
    # Half of what was scheduled was executed: 0.01 rad a step, by which the walk goes `step`.
    loop.timeline.schedule(0, np.full((5, 7), 0.02))
    loop.timeline.record(0, np.full((5, 7), 0.01))
    step = moved_by(np.full((5, 7), 0.01))[None]
    # A frame 10 ms late is a block later, too; between blocks there is nothing to compare with.
    loop.observe(2 * DT_NS, torch.zeros(1, 7))
    assert loop.prediction_error(2 * DT_NS) is None
    loop.observe(BLOCK_NS, step + 2.0)
    seen = loop.prediction_error(BLOCK_NS)
    assert (seen.error, seen.change) == (pytest.approx(4.0, rel=1e-5), pytest.approx(float(step[0, 0] ** 2), rel=1e-4))


def test_frames_out_of_phase_are_history_too() -> None:
    class Watched(Walk):
        """Keeps what it is asked."""

        def start(self, z: Tensor, past_actions: Tensor) -> Replayed:
            self.asked = z, past_actions
            return super().start(z, past_actions)

    model, late_ns = Watched(), 10_000_000
    loop = RecedingHorizonPlanner(ToyCheckpoint(model, SPACE), SEARCH)
    for number in range(3):  # each frame comes 10 ms later than the block; two of them lie in between
        loop.observe(number * (BLOCK_NS + late_ns), torch.full((1, 7), float(number)))
    newest_ns = 2 * (BLOCK_NS + late_ns)
    loop.timeline.record(newest_ns - BLOCK_NS, np.full((5, 7), 0.01))
    loop.decide(newest_ns, torch.ones(1, 7))
    states, past_actions = model.asked
    assert states[0, :, 0, 0].tolist() == [0.0, 1.0, 2.0]
    np.testing.assert_allclose(past_actions[0, 1], SPACE.normalise(np.full((5, 7), 0.01)), rtol=1e-5)


def test_where_a_plan_is_expected_to_lead() -> None:
    loop = planner()
    loop.observe(0, torch.full((1, 7), 3.0))
    decision = loop.decide(0, torch.ones(1, 7))
    steps = [moved_by(decision.actions[5 * block : 5 * block + 5]) for block in range(2)]
    expected = 3.0 + torch.stack(steps).cumsum(0)
    np.testing.assert_allclose(loop.foresee(decision)[:, 0], expected, atol=1e-5)


def test_same_seed_same_plans_also_after_a_reset() -> None:
    loop, plans = planner(seed=3), []
    for _ in range(2):
        loop.reset()
        loop.observe(0, torch.zeros(1, 7))
        plans.append(loop.decide(0, torch.ones(1, 7)).actions)
    np.testing.assert_array_equal(*plans)


@pytest.mark.parametrize(
    ("goal", "words"),
    [(torch.ones(1, 5), r"has shape \(1, 5\), expected \(1, 7\)"), (torch.full((1, 7), float("nan")), "not finite")],
)
def test_a_bad_goal_is_refused(goal: Tensor, words: str) -> None:
    loop = planner()
    loop.observe(0, torch.zeros(1, 7))
    with pytest.raises(ValueError, match=words):
        loop.decide(0, goal)


def test_a_bad_embedding_is_refused_and_not_kept() -> None:
    loop = planner()
    with pytest.raises(ValueError, match="not finite"):
        loop.observe(0, torch.full((1, 7), float("inf")))
    with pytest.raises(ValueError, match="was not observed"):
        loop.decide(0, torch.ones(1, 7))


def test_a_proposal_starts_the_search() -> None:
    def towards(z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        step = (goal - z) / blocks_left.unsqueeze(-1)  # in this world, the way is the difference
        return step.repeat(1, SPACE.action_block)

    towards.displacement, towards.deltas = latent_displacement, list(range(7))  # type: ignore[attr-defined]

    # Four samples in 14 dimensions find next to nothing: what arrives, the proposal has brought.
    config = PlannerConfig(horizon=2, samples=4, iterations=1, elites=2, knots_per_block=1, precision="fp32")
    costs = []
    for proposal in (None, towards):
        loop = RecedingHorizonPlanner(ToyCheckpoint(Walk(), SPACE, proposal), config)
        loop.observe(0, torch.zeros(1, 7))
        costs.append(loop.decide(0, torch.linspace(-2.0, 2.0, 7)[None]).cost)
    assert costs[1] == pytest.approx(0.0, abs=1e-6)
    assert costs[0] > 0.1
    hurried = replace(config, map_weight=1.0)
    loop = RecedingHorizonPlanner(ToyCheckpoint(Walk(), SPACE, towards), hurried)
    loop.observe(0, torch.zeros(1, 7))
    assert loop.decide(0, torch.linspace(-2.0, 2.0, 7)[None]).cost == pytest.approx(0.0, abs=1e-6)


class Lines:
    """A proposal for `Walk`: the way is five steps times the difference, and nothing has to be guessed."""

    deltas: ClassVar = list(range(7))

    def way(self, z: Tensor, goal: Tensor) -> Tensor:
        return 5.0 * (goal - z)

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        return latent_displacement(z, goal)

    def __call__(self, z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        return torch.zeros(len(z), SPACE.block_dim)


HOMING = replace(SEARCH, homing_cost=1.0, homing_rate=0.1)


def test_near_the_goal_a_share_of_the_way_left_is_gone_in_every_step() -> None:
    loop = RecedingHorizonPlanner(ToyCheckpoint(Walk(), SPACE, Lines()), HOMING)
    loop.observe(0, torch.zeros(1, 7))
    loop.timeline.schedule(0, SPACE.denormalise(np.full((1, 35), 0.5))[0])
    # The goal is 0.4 away, that is a way of 2 (z-scored, summed over steps). The step under way goes 0.5 of it; of the
    # 1.5 left, 0.15 go in the next step and 0.135 in the one after.
    decision = loop.decide(0, torch.full((1, 7), 0.4), free_ns=DT_NS)
    scored = SPACE.normalise(decision.actions.reshape(-1, 5, 7)).reshape(-1, 7)
    np.testing.assert_allclose(scored[:3, 0], [0.5, 0.15, 0.135], rtol=1e-4)


def test_a_biased_model_does_not_keep_the_robot_from_the_goal() -> None:
    class Drifting(Walk):
        """Believes that everything drifts by 0.3 in a block."""

        def start(self, z: Tensor, past_actions: Tensor) -> Replayed:
            imagine = super().start(z, past_actions)
            drift = 0.3 * torch.arange(1.0, 100.0)[:, None, None]
            return Replayed(z, lambda plans: imagine(plans) + drift[: plans.shape[2]])

    ends = []
    for config in (replace(HOMING, homing_cost=0.0, running_weight=3.0, solver="gauss_newton"), HOMING):
        loop, place = RecedingHorizonPlanner(ToyCheckpoint(Drifting(), SPACE, Lines()), config), torch.zeros(1, 7)
        for now_ns in range(0, 60 * DT_NS, DT_NS):
            loop.observe(now_ns, place)
            loop.adopt(loop.decide(now_ns, torch.full((1, 7), 0.8), free_ns=now_ns + 2 * DT_NS))
            place = place + moved_by(np.tile(loop.timeline.read(now_ns, 1), (5, 1))) / 5
        ends.append(float((place - 0.8).abs().max()))
    assert ends[1] < 0.02 < 0.1 < ends[0]


def test_homing_asks_the_model_nothing_and_costs_what_staying_would() -> None:
    class Asleep:
        """A model that must not be asked."""

        def start(self, z: Tensor, past_actions: Tensor) -> Replayed:
            raise AssertionError("asked")

    loop = RecedingHorizonPlanner(ToyCheckpoint(Asleep(), SPACE, Lines()), replace(HOMING, running_weight=3.0))
    loop.observe(0, torch.zeros(1, 7))
    decision = loop.decide(0, torch.full((1, 7), 0.5))
    # The squared distance, 0.25, counts once at the last step and three times as the mean over all steps.
    assert decision.cost == pytest.approx(1.0)
    assert not decision.searched


def test_homing_ends_when_the_robot_is_far_again() -> None:
    loop = RecedingHorizonPlanner(ToyCheckpoint(Walk(), SPACE, Lines()), HOMING)
    # The cost of being somewhere is the squared distance: homing begins below 1 and ends above 2.
    for number, (distance, iterations) in enumerate([(1.2, 8), (0.9, 0), (1.2, 0), (1.5, 8), (1.2, 8)]):
        loop.observe(number * DT_NS, torch.zeros(1, 7))
        decision = loop.decide(number * DT_NS, torch.full((1, 7), distance))
        assert decision.iterations == iterations, distance
        assert decision.searched == (iterations > 0)
        assert decision.status == FOUND


def test_who_got_lost_near_the_goal_goes_back_to_where_it_was_nearest_and_stays() -> None:
    config = replace(HOMING, lost_s=0.1)
    loop = RecedingHorizonPlanner(ToyCheckpoint(Walk(), SPACE, Lines()), config)
    goal, base = torch.zeros(1, 7), np.full(7, 0.5)

    def decide(number: int, distance: float, position: float, aim: torch.Tensor = goal) -> Decision:
        loop.observe(number * DT_NS, torch.full((1, 7), distance))
        return loop.decide(number * DT_NS, aim, base + position)

    # Homing at costs (squared distances) of .64 and .36; then it is seen three times at 2.25 or more, the last time
    # 0.1 s after the first: it goes back to the second place, a tenth of the way left in every step.
    for number, (distance, position) in enumerate([(0.8, 0.1), (0.6, 0.2), (1.5, 0.3), (1.6, 0.4)]):
        assert decide(number, distance, position).iterations == (0 if distance < 1.0 else 8)
    back = decide(4, 1.7, 0.7)
    np.testing.assert_allclose(back.actions[:3, 0], [-0.05, -0.045, -0.0405], rtol=1e-4)
    assert back.status == FOUND
    np.testing.assert_allclose(decide(5, 0.6, 0.2).actions, 0.0, atol=1e-6)  # it stays, also where it could home in
    assert decide(6, 1.7, 0.2, torch.full((1, 7), 5.0)).iterations == 8  # another goal is searched for


@pytest.mark.parametrize(
    ("costs", "back"),
    [
        ([0.1, 0.31, 0.32, 0.33], True),  # three times the least
        ([0.1, 0.31, 0.29, 0.33], False),  # once less, and the time begins anew
        ([0.5, 0.81, 0.82, 0.83], True),  # 0.3 of the cost at which homing begins above it
        ([0.5, 0.79, 0.79, 0.79], False),
    ],
)
def test_who_homes_in_where_it_costs_more_is_lost_after_a_while(costs: list[float], back: bool) -> None:
    """Lost is who sees it so for 0.1 s, and so on two more frames."""
    way_back, goal = WayBack(lost_s=0.1, homing_cost=1.0), torch.zeros(1, 7)
    for number, cost in enumerate(costs):
        assert way_back.place is None
        way_back.saw(number * DT_NS, goal, cost, np.full(7, float(number)), homing=True)
    assert (way_back.place is not None) == back
    if back:
        np.testing.assert_array_equal(way_back.place, 0.0)


def test_plans_stay_where_the_training_data_was() -> None:
    edge = 0.02
    space = replace(SPACE, known_low=(-edge,) * 7, known_high=(edge,) * 7)
    loop = RecedingHorizonPlanner(ToyCheckpoint(Walk(), space), THOROUGH)
    loop.observe(0, torch.zeros(1, 7))
    measured = np.full(7, 0.01)
    steps = loop.decide(0, torch.full((1, 7), 50.0), measured).actions.reshape(-1, 7)
    positions = measured + steps.cumsum(0)
    np.testing.assert_allclose(positions.max(0), edge, atol=1e-6)  # up to the edge, and not beyond
    free = loop.decide(0, torch.full((1, 7), 50.0)).actions.reshape(-1, 7)
    assert (measured + free.sum(0) > 2 * edge).all()


def test_a_running_cost_hurries_the_arrival() -> None:
    goal, arrivals = torch.full((1, 7), 1.0), []
    for weight in (0.0, 5.0):
        config = PlannerConfig(
            horizon=3, samples=256, iterations=15, elites=25, knots_per_block=1, running_weight=weight, precision="fp32"
        )
        loop = planner(config)
        loop.observe(0, torch.zeros(1, 7))
        first = moved_by(loop.decide(0, goal).actions[:5])
        arrivals.append(float((1.0 - first).abs().mean()))  # what the first block leaves of the way
    assert arrivals[1] < 0.1 < arrivals[0]


def test_who_stands_outside_what_is_known_is_not_made_to_jump() -> None:
    space = replace(SPACE, known_low=(-0.02,) * 7, known_high=(0.02,) * 7)
    loop = RecedingHorizonPlanner(ToyCheckpoint(Walk(), space), SEARCH)
    loop.observe(0, torch.zeros(1, 7))
    steps = loop.decide(0, torch.full((1, 7), 50.0), np.full(7, 1.0)).actions
    assert np.abs(steps).max() <= 0.05
    assert (1.0 + steps.reshape(-1, 7).cumsum(0) <= 1.0 + 1e-6).all()  # in, or where it stands, but not further out


@pytest.mark.parametrize("solver", ["cem", "icem", "mppi", "gradient", "gauss_newton", "random"])
def test_every_solver_walks_closer_and_repeats_itself_after_a_reset(solver: str) -> None:
    loop, goal, plans = planner(replace(SEARCH, solver=solver), seed=5), torch.full((1, 7), 0.8), []
    for _ in range(2):
        loop.reset()
        loop.observe(0, torch.zeros(1, 7))
        plans.append(loop.decide(0, goal))
    np.testing.assert_array_equal(plans[0].actions, plans[1].actions)
    assert plans[0].status == FOUND
    assert plans[0].cost < 0.64  # what rest costs
    assert np.abs(plans[0].actions).max() <= 0.05


def test_a_deadline_that_has_passed_gives_the_plan_before() -> None:
    loop = planner(replace(SEARCH, deadline_ms=1e-3))
    loop.observe(0, torch.zeros(1, 7))
    loop.timeline.schedule(0, np.full((7, 7), 0.01))
    decision = loop.decide(0, torch.ones(1, 7))
    assert decision.status == OUT_OF_TIME
    np.testing.assert_array_equal(decision.actions[:7], 0.01)
    np.testing.assert_array_equal(decision.actions[7:], 0.0)  # nothing was planned: rest


def test_a_deadline_ends_a_search_in_time() -> None:
    loop = planner(replace(SEARCH, iterations=100_000, deadline_ms=40.0))
    loop.observe(0, torch.zeros(1, 7))
    decision = loop.decide(0, torch.ones(1, 7))
    assert 0 < decision.iterations < 100_000
    assert decision.status == FOUND


def test_the_search_ends_early_when_the_elites_agree() -> None:
    iterations = []
    for agreement_std in (0.0, 0.2):
        loop = planner(replace(SEARCH, iterations=30, agreement_std=agreement_std))
        loop.observe(0, torch.zeros(1, 7))
        iterations.append(loop.decide(0, torch.ones(1, 7)).iterations)
    assert iterations[0] == 30
    assert iterations[1] < 15


def test_a_model_that_predicts_nonsense_moves_nothing_new() -> None:
    class Nonsense(Walk):
        def start(self, z: Tensor, past_actions: Tensor) -> Replayed:
            return Replayed(z, lambda plans: torch.full((*plans.shape[:3], 1, 7), float("nan")))

    loop = RecedingHorizonPlanner(ToyCheckpoint(Nonsense(), SPACE), SEARCH)
    loop.observe(0, torch.zeros(1, 7))
    decision = loop.decide(0, torch.ones(1, 7))
    assert decision.status == NOT_FINITE
    np.testing.assert_array_equal(decision.actions, 0.0)
    assert np.isfinite(decision.elites).all()


def test_joint_positions_that_are_not_finite_are_refused() -> None:
    loop = planner()
    loop.observe(0, torch.zeros(1, 7))
    with pytest.raises(ValueError, match="positions: not finite"):
        loop.decide(0, torch.ones(1, 7), np.full(7, np.nan))


def test_surprise_counts_when_it_lasts() -> None:
    watch = SurpriseWatch(threshold=3.0, steps=3)
    for score in (4.0, 4.0, 2.9, 4.0, 4.0):
        watch.saw(score)
    assert watch.problem == ""
    watch.saw(4.0)
    assert watch.problem == "surprise above 3 in 3 steps in a row: the world is not as predicted"
    watch.forget()
    assert watch.problem == ""


def test_a_single_surprise_is_spoken_of_for_a_while() -> None:
    watch = SurpriseWatch(threshold=3.0, steps=1)
    watch.saw(4.0)
    for _ in range(SurpriseWatch.HELD_STEPS - 1):
        watch.saw(0.0)
        assert watch.problem == "surprise above 3: the world is not as predicted"
    watch.saw(0.0)
    assert watch.problem == ""


GRIPPING = replace(joint_delta(["x"], [0.05], 20.0, gripper=True), action_block=5)
"""A joint, and a gripper that rests where it is."""


class Line(Walk):
    """The place on a line, of which the joint's deltas make a step, and what the gripper was told last."""

    def start(self, z: Tensor, past_actions: Tensor) -> Replayed:
        def imagine(plans: Tensor) -> Tensor:
            steps = plans.unflatten(-1, (5, 2))  # (B, S, T, 5, 2)
            place = z[:, None, -1:, 0, :1] + steps[..., 0].sum(-1, keepdim=True).cumsum(2)
            return torch.cat([place, steps[..., -1, 1:]], dim=-1).unsqueeze(-2)

        return Replayed(z, imagine)


def gripping() -> RecedingHorizonPlanner:
    checkpoint = ToyCheckpoint(Line(), GRIPPING, state_shape=(1, 2))
    return RecedingHorizonPlanner(checkpoint, replace(SEARCH, initial_std=0.5), seed=1)


def test_a_gripper_rests_where_it_is() -> None:
    loop = gripping()
    rest = loop.timeline.read(0, 5)
    np.testing.assert_array_equal(rest[:, 0], 0.0)
    assert np.isnan(rest[:, 1]).all(), "nobody has told it anything: as it is"
    loop.reset(newest=np.array([0.0, 0.75]))
    np.testing.assert_array_equal(loop.timeline.read(0, 5), np.tile([0.0, 0.75], (5, 1)))
    loop.observe(0, torch.zeros(1, 2))
    decision = loop.decide(0, torch.tensor([[0.1, -0.5]]))
    loop.adopt(decision)
    after = loop.timeline.read(SEARCH.horizon * BLOCK_NS, 5)
    np.testing.assert_array_equal(after[:, 0], 0.0)
    np.testing.assert_array_equal(after[:, 1], decision.actions[-1, 1])


def test_channels_that_do_not_add_up_are_not_added_up() -> None:
    space = replace(GRIPPING, known_low=(-0.02, None), known_high=(0.02, None))
    loop = RecedingHorizonPlanner(ToyCheckpoint(Line(), space, state_shape=(1, 2)), THOROUGH)
    loop.observe(0, torch.zeros(1, 2))
    decision = loop.decide(0, torch.tensor([[5.0, 1.0]]), np.array([0.01, 7.0]))
    assert 0.01 + decision.actions[..., 0].sum() == pytest.approx(0.02, abs=1e-6), "the joint stops at its edge"
    assert decision.actions[4::5, 1] == pytest.approx(1.0, abs=0.1), "the gripper closes in every block"


def test_a_goal_may_have_fewer_tokens_than_a_state() -> None:
    class TwoTokens(Walk):
        """A place, and a token that grows and grows, which no goal knows."""

        def start(self, z: Tensor, past_actions: Tensor) -> Replayed:
            def imagine(plans: Tensor) -> Tensor:
                places = super(TwoTokens, self).start(z[:, :, 1:], past_actions)(plans)
                return torch.cat([torch.full_like(places, 1e3), places], dim=-2)

            return Replayed(z, imagine)

    loop = RecedingHorizonPlanner(ToyCheckpoint(TwoTokens(), SPACE, state_shape=(2, 7), goal_tokens=(1,)), THOROUGH)
    loop.observe(0, torch.zeros(2, 7))
    assert loop.decide(0, torch.full((1, 7), 0.5)).cost < 0.01
    with pytest.raises(ValueError, match=r"has shape \(2, 7\), expected \(1, 7\)"):
        loop.decide(0, torch.zeros(2, 7))
