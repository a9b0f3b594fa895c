"""The receding-horizon planner: embeddings at block boundaries in, action blocks out, one block ahead of the robot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import PlannerConfig
from lewm_ros.planning.cem import CEM
from lewm_ros.robot.action_space import ACTION_DIM, ActionSpace


class WorldModel(Protocol):
    """What the planner needs to know of a model."""

    def rollout(self, z: Tensor, past_actions: Tensor, plans: Tensor) -> Tensor:
        """(B, H, D), (B, H-1, A), (B, S, T, A) -> (B, S, T, D)."""
        ...


class Proposer(Protocol):
    """A learned guess of the next action block, and the map that it is read from."""

    def distance(self, z: Tensor, goal: Tensor) -> Tensor:
        """(..., D), (D,) -> squared distance on the map (...,)."""
        ...

    def __call__(self, z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        """(P, D), (P, D), (P,) -> z-scored blocks (P, A)."""
        ...


PROPOSED_ARRIVALS = (2, 4, 8)
"""Blocks until the goal for which a start of the search is proposed."""


@dataclass(frozen=True)
class Decision:
    """What one planning cycle decided.

    Attributes:
        block: number of the first block that `actions` speak of.
        actions: per control step (horizon, action_block, 7), in the action space's units.
        cost: squared latent distance to the goal, mean over dimensions, at the plan's last step; plus, weighted, on the
            way there.
    """

    block: int
    actions: NDArray[np.float64]
    cost: float


class RecedingHorizonPlanner:
    """Plans the blocks that follow the one being executed.

    Blocks are numbered from the moment the loop was closed: block k starts at boundary k. At each boundary call
    `observe(k, embedding)`, then `decide(k, goal)`: while that computes, the robot executes block k as scheduled; the
    model is rolled through it first, and the search covers blocks k + 1 to k + horizon. A decision enters the schedule
    by `adopt`, which leaves alone what has begun in the meantime. A block that nobody scheduled is rest.

    One thread may observe and decide while another reads `actions`.

    Args:
        model: rolls out embeddings.
        config: sizes of the search.
        action_space: z-scores blocks and bounds them.
        history: embeddings that the model looks back on.
        device: where the model lives.
        seed: of the sampling.
        proposal: guesses where the search should begin; without it, only what was planned before does.
    """

    def __init__(
        self,
        model: WorldModel,
        config: PlannerConfig,
        action_space: ActionSpace,
        history: int,
        device: str | torch.device = "cpu",
        seed: int = 0,
        proposal: Proposer | None = None,
    ) -> None:
        self.model, self.config, self.action_space, self.proposal = model, config, action_space, proposal
        self.device = torch.device(device)
        self._bounds = low, high = tuple(self._tensor(bound) for bound in action_space.bounds())
        self.solver = CEM(config, low, high, action_space.action_block)
        self._history, self._seed = history, seed
        self._rest = np.zeros((action_space.action_block, ACTION_DIM))
        self.reset()

    def reset(self) -> None:
        """Forget history and schedule: the robot stands still and blocks are numbered from 0 again."""
        self._generator = torch.Generator(self.device).manual_seed(self._seed)
        self._embeddings: dict[int, Tensor] = {}
        self._schedule: dict[int, NDArray[np.float64]] = {}
        self._expected: tuple[int, Tensor] | None = None

    def actions(self, block: int) -> NDArray[np.float64]:
        """The scheduled actions (action_block, 7) of a block."""
        return self._schedule.get(block, self._rest)

    @torch.inference_mode()
    def observe(self, block: int, embedding: Tensor) -> float | None:
        """Take in the embedding (D,) at the start of a block.

        Returns:
            the surprise: squared error of the prediction made one block before, mean over dimensions; None if there
            was no such prediction.

        Raises:
            ValueError: the embedding is not finite; it is not taken in.
        """
        if not bool(torch.isfinite(embedding).all()):
            raise ValueError("embedding: not finite; check the camera image")
        embedding = embedding.to(self.device, torch.float32)
        self._embeddings = {k: z for k, z in self._embeddings.items() if block - self._history < k < block}
        self._embeddings[block] = embedding
        if self._expected is None or self._expected[0] != block:
            return None
        return float((self._expected[1] - embedding).square().mean())

    @torch.inference_mode()
    def decide(self, block: int, goal: Tensor, positions_rad: NDArray[np.float64] | None = None) -> Decision:
        """Search what follows the scheduled block `block`, whose start was observed, towards the goal (D,).

        Args:
            block: the block under way.
            goal: embedding of the goal (D,).
            positions_rad: joint positions (7,) at the start of the block. Given these, plans stay inside the joint
                positions that the training data visited: beyond them the model knows nothing.

        Raises:
            ValueError: the start of `block` was not observed, or the goal is not finite or of another dimension.
        """
        if block not in self._embeddings:
            raise ValueError(f"block {block}: its first frame was not observed")
        goal = goal.to(self.device, torch.float32)
        if goal.shape != self._embeddings[block].shape:
            right = tuple(self._embeddings[block].shape)
            raise ValueError(f"goal embedding: has shape {tuple(goal.shape)}, expected {right}")
        if not bool(torch.isfinite(goal).all()):
            raise ValueError("goal embedding: not finite; check the goal image")
        known = [block]
        while known[0] - 1 in self._embeddings:
            known.insert(0, known[0] - 1)
        z = torch.stack([self._embeddings[k] for k in known]).unsqueeze(0)  # (1, H, D)
        blocks = torch.stack([self._normalised(k) for k in known]).unsqueeze(0)  # (1, H, A), the last under way
        after = self._rollout(z, blocks[:, :-1], blocks[:, None, -1:])[:, 0]  # (1, 1, D)
        self._expected = (block + 1, after[0, 0])
        z, past = self._shift(z, blocks[:, :-1], after, blocks[:, -1:])

        begin = None if positions_rad is None else positions_rad + self.actions(block).sum(0)

        def cost(plans: Tensor) -> Tensor:
            states = self._rollout(z, past, self._keep_known(plans, begin).unsqueeze(0))[0]  # (S, T, D)
            distance = (states - goal).square().mean(-1)  # (S, T)
            if self.proposal is not None and self.config.map_weight > 0.0:
                distance += self.config.map_weight * self.proposal.distance(states, goal)
            return distance[:, -1] + self.config.running_weight * distance.mean(1)

        starts = torch.stack([self._normalised(block + 1 + i) for i in range(self.config.horizon)]).unsqueeze(0)
        if self.proposal is not None:
            starts = torch.cat([starts, self._propose(z, past, goal)])
        plan = self.solver.optimise(cost, starts, self._generator)
        blocks = self._keep_known(plan.blocks.unsqueeze(0), begin)[0]
        return Decision(block + 1, self.action_space.denormalise(blocks.cpu().numpy()), plan.cost)

    def adopt(self, decision: Decision, first_free: int) -> None:
        """Schedule a decision from block `first_free` on: blocks before it have begun and stay as they are."""
        kept = {k: actions for k, actions in self._schedule.items() if first_free - self._history <= k < first_free}
        planned = {decision.block + i: actions for i, actions in enumerate(decision.actions)}
        self._schedule = kept | {k: actions for k, actions in planned.items() if k >= first_free}

    def _keep_known(self, plans: Tensor, begin: NDArray[np.float64] | None) -> Tensor:
        """Plans (S, T, A) with every joint stopped at the edge of what the training data visited."""
        space = self.action_space
        if begin is None or not space.known_low:
            return plans
        start, mean, std, low, high = (
            self._tensor(np.asarray(v)) for v in (begin, space.mean, space.std, space.known_low, space.known_high)
        )
        steps = plans.unflatten(-1, (space.action_block, ACTION_DIM)).flatten(1, 2) * std + mean  # (S, T * block, 7)
        positions = (start + steps.cumsum(1)).clamp(low, high)
        steps = torch.diff(positions, dim=1, prepend=start.expand(len(plans), 1, -1))
        return ((steps - mean) / std).unflatten(1, (-1, space.action_block)).flatten(2)

    def _propose(self, z: Tensor, past: Tensor, goal: Tensor) -> Tensor:
        """Starts of the search (P, T, A): the proposal followed through the model, for several times of arrival."""
        left = torch.tensor(PROPOSED_ARRIVALS, device=self.device)
        goals = goal.expand(len(left), -1)
        z, past = z.expand(len(left), -1, -1), past.expand(len(left), -1, -1)
        blocks, (low, high) = [], self._bounds
        for step in range(self.config.horizon):
            block = self.proposal(z[:, -1], goals, (left - step).clamp_min(1)).clamp(low, high)  # (P, A)
            blocks.append(block)
            after = self._rollout(z, past, block[:, None, None])[:, 0]  # (P, 1, D)
            z, past = self._shift(z, past, after, block.unsqueeze(1))
        return torch.stack(blocks, dim=1)

    def _shift(self, z: Tensor, past: Tensor, after: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """The history one block later: embeddings (P, H, D) and the blocks between them (P, H-1, A)."""
        z = torch.cat([z, after], dim=1)[:, -self._history :]
        past = torch.cat([past, block], dim=1)
        return z, past[:, past.shape[1] - z.shape[1] + 1 :]

    def _rollout(self, z: Tensor, past: Tensor, plans: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.model.rollout(z, past, plans).float()

    def _normalised(self, block: int) -> Tensor:
        """The scheduled block as a z-scored vector (A,)."""
        return self._tensor(self.action_space.normalise(self.actions(block)))

    def _tensor(self, array: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)
