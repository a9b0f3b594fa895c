"""One planning problem as tensors: propose starts, search what is not committed yet, pick the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.planning.costs import Candidates, WeightedDistances, compose
from lewm_ros.planning.escape import laplace
from lewm_ros.planning.homing import Map, home_in, shares
from lewm_ros.planning.solver import Deadline, Residuals, SearchSpace, total
from lewm_ros.planning.solvers import SEARCH, PlannerConfig, actor_of, make_solver
from lewm_ros.robot.action_space import ActionSpace

PROPOSED_ARRIVALS = (2, 4, 8)
"""Blocks until the goal for which a start of the search is proposed."""


class Continuation(Protocol):
    """What follows some frames, as a world model sees it."""

    def __call__(self, plans: Tensor) -> Tensor:
        """Plans (B, S, T, A) -> the states (B, S, T, K, D) that they lead to."""
        ...

    def follow(
        self, choose: Callable[[int, Tensor], Tensor], samples: int, steps: int, to_end: bool = False
    ) -> list[Tensor]:
        """Ask for every block: `choose` gets its number and the states (B, S, K, D) before, and gives it (B, S, A).

        Returns the states (B, S, K, D) after each block, after the last one only `to_end`.
        """
        ...


class WorldModel(Protocol):
    """What rolls out plans."""

    def start(self, z: Tensor, past_actions: Tensor) -> Continuation:
        """From the states (B, H, K, D) of the newest frames and the z-scored blocks (B, H-1, A) between them."""
        ...


class Proposer(Map, Protocol):
    """A learned guess of the next action block, and the map that it is read from. Z: a goal's tokens side by side."""

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """(..., Z), (Z,) -> from the goal to the state on the map (..., R)."""
        ...

    def __call__(self, z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        """(P, Z), (P, Z), (P,) -> z-scored blocks (P, A)."""
        ...


class Demonstrated(Protocol):
    """What a demonstrator would do next: z-scored blocks (..., A), and their scales, the mean absolute deviations.

    And `left`, how many control steps it would take to the goal (...,).
    """

    blocks: Tensor
    scales: Tensor
    left: Tensor


class Demonstrator(Protocol):
    """A learned guess of what a demonstrator would do."""

    def __call__(self, z: Tensor, goal: Tensor, pace: Tensor) -> Demonstrated:
        """Whole states (P, K * D), and goals (P, Z), which are a goal's tokens side by side.

        It is to be there in `pace` control steps (P,), if it knows of paces.
        """
        ...


class Gap(Protocol):
    """A learned number of blocks between states."""

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """(..., Z), (Z,) -> a vector (..., R) as long as the gap."""
        ...


class Plannable(Protocol):
    """What planning needs to know of a checkpoint."""

    action_space: ActionSpace
    history: int
    state_shape: tuple[int, int]
    goal_tokens: tuple[int, ...]
    device: torch.device
    proposal: Proposer | None
    gap: Gap | None
    policy: Demonstrator | None

    def rollout(self, precision: str, compiled: bool) -> WorldModel:
        """Rolls out plans, with matmuls in `fp32` or `bf16`, compiled or as they are."""
        ...


@dataclass(frozen=True)
class PlanningProblem:
    """Where the robot is and where it should go.

    Attributes:
        z: states (H, K, D) of the newest frame and of those one and more blocks before it, oldest first.
        past_actions: z-scored blocks (H-1, A) executed between them.
        goal: the tokens (Kg, D) of the state that a goal has.
        start: z-scored blocks (T, A) that follow the newest frame, as executed and scheduled so far.
        free: which control steps (T * block,) of them may be changed; the others are committed.
        positions: what the delta channels have added up to (dim,) at the newest frame; None if it is not known.
    """

    z: Tensor
    past_actions: Tensor
    goal: Tensor
    start: Tensor
    free: Tensor
    positions: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """The best plan.

    Attributes:
        blocks: z-scored (T, A).
        cost: scalar; infinite if no plan had a finite cost or there was no time for any.
        elites: other good plans (E, T, A), best first.
        iterations: of the solver, finished.
    """

    blocks: Tensor
    cost: Tensor
    elites: Tensor
    iterations: int


class Search:
    """A model, a solver and a cost, ready for problems. It keeps no state between them. `actor` says who decides.

    Args:
        checkpoint: the model, its action space, and the heads that guess where a search should begin or how far it is.
        config: solver, cost and sizes.

    Raises:
        ValueError: the configuration does not suit the action space, or needs a policy that the checkpoint lacks.
    """

    def __init__(self, checkpoint: Plannable, config: PlannerConfig) -> None:
        space, device, proposal = checkpoint.action_space, checkpoint.device, checkpoint.proposal
        self._model, self._config = checkpoint.rollout(config.precision, config.compile), config
        self._proposal = proposal
        self.actor = actor_of(config, checkpoint.policy is not None)
        self._demonstrator, self._gap = checkpoint.policy, checkpoint.gap
        self._policy = None if self.actor == SEARCH else checkpoint.policy
        self._block, self._dim = space.action_block, space.dim

        def tensor(values: NDArray[np.float64]) -> Tensor:
            return torch.as_tensor(np.asarray(values, np.float32), device=device)

        self._low, self._high = map(tensor, space.bounds())
        self._mean, self._std = tensor(space.mean), tensor(space.std)
        deltas = space.places("delta")
        self._is_delta = torch.tensor([place in deltas for place in range(space.dim)], device=device)
        self._rest = tensor(np.nan_to_num((space.rest() - space.mean) / space.std))  # no motion, z-scored
        known = space.known_range()
        self._edges = None if known is None else (tensor(known[0]), tensor(known[1]))
        whole = len(checkpoint.goal_tokens) == checkpoint.state_shape[0]
        self._goal_tokens = None if whole else torch.tensor(checkpoint.goal_tokens, device=device)
        self._arrivals = torch.tensor(PROPOSED_ARRIVALS, device=device)
        self._solver = make_solver(config, SearchSpace(self._low, self._high, self._block, config.knots_per_block))
        self._map = proposal if proposal and proposal.deltas else None
        self._distances = WeightedDistances.of(
            config,
            self._map.displacement if self._map else None,
            checkpoint.gap.displacement if checkpoint.gap else None,
        )
        self._terms = compose(config, self._distances, self._edges)

    def __call__(self, problem: PlanningProblem, generator: torch.Generator, deadline: Deadline) -> Found:
        """Search what is not committed."""
        imagine = self._model.start(problem.z.unsqueeze(0), problem.past_actions.unsqueeze(0))
        residuals = self._residuals(problem, imagine)
        starts = self._continued(problem)[None, None]  # (1, 1, T, A)
        if self._policy is not None and deadline.allows_step():
            drawn, _ = self._demonstrate(
                problem, imagine, self._config.policy_samples, lambda: self._around_median(generator)
            )
            starts = torch.cat([starts, drawn.unsqueeze(0)], dim=1)
        elif self._proposal is not None and deadline.allows_step():
            starts = torch.cat([starts, self._propose(problem, imagine).unsqueeze(0)], dim=1)
        plan = self._solver.solve(residuals, starts, generator, deadline)
        plans = torch.cat([plan.blocks.unsqueeze(1), plan.elites], dim=1)
        feasible = self._feasible(plans, problem)[0][0]
        return Found(feasible[0], plan.cost[0], feasible[1:], plan.iterations)

    def cost_variation(self, problem: PlanningProblem, samples: int, generator: torch.Generator) -> float:
        """Standard deviation over mean of the costs of plans drawn at random: near 0, a search has nothing to go by.

        Plans are drawn from a unit normal distribution, as CEM's first ones in the paper. PRISM (arXiv 2606.07974)
        found that below 0.3 a search adds nothing to a policy.
        """
        plans = torch.randn((1, samples, *problem.start.shape), generator=generator, device=problem.start.device)
        imagine = self._model.start(problem.z.unsqueeze(0), problem.past_actions.unsqueeze(0))
        costs = total(self._residuals(problem, imagine)(plans.clamp(self._low, self._high)))[0]
        return float(costs.std() / costs.mean())

    @property
    def can_count_steps(self) -> bool:
        """Whether something learned says how many control steps are left to a goal."""
        return self._demonstrator is not None or self._gap is not None

    def steps_left(self, z: Tensor, goals: Tensor) -> Tensor:
        """Control steps (G,) from a state (K, D) to each of the goals (G, Kg, D), as the policy or the gap guesses."""
        aims = goals.flatten(1)
        if self._demonstrator is not None:
            pace = aims.new_full((len(aims),), self._config.pace_steps)
            return self._demonstrator(z.flatten().expand(len(aims), -1), aims, pace).left
        seen = self._as_goal(z).expand_as(aims)
        return torch.linalg.vector_norm(self._gap.displacement(seen, aims), dim=-1) * self._block

    def distance(self, problem: PlanningProblem) -> float:
        """The cost of being where the robot is."""
        return float(self._distances(self._as_goal(problem.z[-1]), problem.goal.flatten()))

    @property
    def can_home(self) -> bool:
        """Whether there is a map to home in by."""
        return self._map is not None

    def home(self, problem: PlanningProblem) -> Found:
        """The plan that homes in; see `homing`."""
        seen, scheduled = self._as_goal(problem.z[-1]), self._per_step(problem.start)
        steps = home_in(self._map, seen, problem.goal.flatten(), scheduled, problem.free, self._config.homing_rate)
        return self._known(steps, problem)

    def go_to(self, problem: PlanningProblem, positions: Tensor) -> Found:
        """The plan that leads the delta channels to positions (dim,), by a share of the way in every step."""
        scheduled = self._per_step(problem.start)
        way, moves = positions - problem.positions, scheduled * self._std + self._mean
        steps = (shares(way, moves, problem.free, self._config.homing_rate) - self._mean) / self._std
        kept = ~problem.free[:, None] | ~self._is_delta
        return self._known(torch.where(kept, scheduled, steps), problem)

    def _known(self, steps: Tensor, problem: PlanningProblem) -> Found:
        """The plan of z-scored actions (T * block, dim) that need no search; its cost is that of staying."""
        bounded = steps.reshape_as(problem.start).clamp(self._low, self._high)[None, None]
        distance = self._distances(self._as_goal(problem.z[-1]), problem.goal.flatten())
        cost = (1.0 + self._config.running_weight) * distance
        return Found(self._feasible(bounded, problem)[0][0, 0], cost, bounded[0, :0], 0)

    def act(self, problem: PlanningProblem, aside: Tensor | None = None) -> Found:
        """What the policy does, and would do on what the model predicts to follow.

        With `aside` (dim,), it is so many mean absolute deviations aside of the policy's medians.
        """
        imagine = self._model.start(problem.z.unsqueeze(0), problem.past_actions.unsqueeze(0))
        draw = None if aside is None else lambda: aside.repeat(self._block).expand(1, -1)
        plans, states = self._demonstrate(problem, imagine, 1, draw, to_end=True)
        plan, positions = self._feasible(plans[None], problem)  # (1, 1, T, A)
        # The states are those of the policy's own plan, before it was kept where the training data's positions are.
        cost = total(self._judge(problem, plan, torch.stack(states, dim=2), positions))[0, 0]
        return Found(plan[0, 0], cost, plan[0, :0], 0)

    def _demonstrate(
        self,
        problem: PlanningProblem,
        imagine: Continuation,
        samples: int,
        draw: Callable[[], Tensor] | None = None,
        to_end: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Plans (P, T, A) of the policy, followed through the model, and the states on the way; see `follow`.

        `draw` says for every block how many mean absolute deviations (P, A) aside of the medians they are; None: none.
        """
        goals, blocks = problem.goal.flatten().expand(samples, -1), []
        pace = goals.new_full((samples,), self._config.pace_steps)

        def choose(step: int, z: Tensor) -> Tensor:
            guess = self._policy(z[0].flatten(1).float(), goals, pace)
            chosen = guess.blocks if draw is None else guess.blocks + guess.scales * draw()
            blocks.append(chosen.clamp(self._low, self._high))
            free = problem.free[step * self._block : (step + 1) * self._block].repeat_interleave(self._dim)
            return torch.where(free, blocks[-1], problem.start[step]).unsqueeze(0)

        states = imagine.follow(choose, samples, len(problem.start), to_end)
        return torch.stack(blocks, dim=1), states

    def _around_median(self, generator: torch.Generator) -> Tensor:
        """Draws (P, A) of the policy's distribution around its medians; the first is the median."""
        drawn = laplace((self._config.policy_samples, self._block * self._dim), generator)
        drawn[0] = 0.0
        return drawn

    def _residuals(self, problem: PlanningProblem, imagine: Continuation) -> Residuals:
        """What plans (B, S, T, A) leave to be wished for (B, S, R)."""

        def residuals(plans: Tensor) -> Tensor:
            plans, positions = self._feasible(plans, problem)
            return self._judge(problem, plans, imagine(plans), positions)

        return residuals

    def _judge(self, problem: PlanningProblem, plans: Tensor, states: Tensor, positions: Tensor | None) -> Tensor:
        """What plans (B, S, T, A) that lead to states (B, S, T, K, D) leave to be wished for (B, S, R)."""
        before = self._per_step(problem.past_actions)[-1] if len(problem.past_actions) else self._rest
        reached = self._as_goal(states)
        return self._terms(Candidates(self._per_step(plans), before, reached, problem.goal.flatten(), positions))

    def follow(self, z: Tensor, past_actions: Tensor, blocks: Tensor) -> Tensor:
        """The states (T, K, D) predicted for the ends of z-scored blocks (T, A) after states (H, K, D)."""
        return self._model.start(z.unsqueeze(0), past_actions.unsqueeze(0))(blocks[None, None])[0, 0].float()

    def _as_goal(self, z: Tensor) -> Tensor:
        """States (..., K, D) -> the tokens that a goal has, side by side (..., Z)."""
        return (z if self._goal_tokens is None else z.index_select(-2, self._goal_tokens)).flatten(-2)

    def _committed(self, plans: Tensor, problem: PlanningProblem) -> Tensor:
        """Plans (..., T, A), with what is committed in the place of theirs."""
        free = problem.free.unflatten(0, (-1, self._block)).repeat_interleave(self._dim, dim=1)  # (T, A)
        return torch.where(free, plans, problem.start)

    def _continued(self, problem: PlanningProblem) -> Tensor:
        """The blocks (T, A) scheduled so far; the first free action stands in for those before it.

        A solver that holds one action for a block so begins with the mean of those that it is free to choose.
        """
        steps = self._per_step(problem.start)
        first = problem.free.to(torch.uint8).argmax(keepdim=True)
        return torch.where(problem.free[:, None], steps, steps.index_select(0, first)).reshape_as(problem.start)

    def _feasible(self, plans: Tensor, problem: PlanningProblem) -> tuple[Tensor, Tensor | None]:
        """Plans (B, S, T, A) that begin with what is committed, and stop where the training data's positions end.

        Returns:
            the plans, and the positions (B, S, T * block, dim) that they lead through, if they are known.
        """
        plans, begin = self._committed(plans, problem), problem.positions
        if begin is None or self._edges is None:
            return plans, None
        wanted = self._per_step(plans) * self._std + self._mean
        # What stands outside, or is on its way there, may come in or stay, but need not jump.
        under_way = begin + torch.where(problem.free[:, None], 0.0, wanted[0, 0]).cumsum(0)
        low = torch.minimum(self._edges[0], torch.minimum(begin, under_way.amin(0)))
        high = torch.maximum(self._edges[1], torch.maximum(begin, under_way.amax(0)))
        positions = (begin + wanted.cumsum(2)).clamp(low, high)
        steps = torch.diff(positions, dim=2, prepend=begin.expand(*plans.shape[:2], 1, -1))
        steps = torch.where(self._edges[0].isfinite(), steps, wanted)  # other channels do not add up
        kept = ((steps - self._mean) / self._std).unflatten(2, (-1, self._block)).flatten(3)
        return kept, positions

    def _per_step(self, blocks: Tensor) -> Tensor:
        """Blocks (..., T, A) -> actions (..., T * block, dim)."""
        return blocks.unflatten(-1, (self._block, -1)).flatten(-3, -2)

    def _propose(self, problem: PlanningProblem, imagine: Continuation) -> Tensor:
        """Starts of the search (P, T, A): the proposal followed through the model, for several times of arrival."""
        left, goals = self._arrivals, problem.goal.flatten().expand(len(self._arrivals), -1)
        blocks: list[Tensor] = []

        def choose(step: int, z: Tensor) -> Tensor:
            guess = self._proposal(self._as_goal(z[0]), goals, (left - step).clamp_min(1))
            blocks.append(guess.clamp(self._low, self._high))  # (P, A)
            free = problem.free[step * self._block : (step + 1) * self._block].repeat_interleave(self._dim)
            return torch.where(free, blocks[-1], problem.start[step]).unsqueeze(0)

        imagine.follow(choose, len(left), len(problem.start))
        return torch.stack(blocks, dim=1)
