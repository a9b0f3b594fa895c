"""A goal-conditioned guess of the next action block, on frozen states.

It tells the planner where to begin its search: far from the goal the latent distance is nearly flat, and sampling alone
seldom finds the way. Like GC-IDM (arXiv 2605.08732) it learns from actions alone what leads from one state to another.
What adds up, an action's deltas, is read from a map: a state is put on coordinates in which these channels add up, so
that what was learned inside episodes also holds between states that no episode has joined. Other channels, such as a
gripper's command, do not add up: they are predicted as what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lewm_ros.config import ProposalConfig
from lewm_ros.robot.action_space import ActionSpace


class Proposal(nn.Module):
    """An MLP from states to places on the map, and one from two states to the channels that do not add up.

    States are given as vectors (..., Z), all tokens that a goal has side by side.

    Args:
        config: sizes.
        state_dim: Z.
        space: whose deltas the map adds up.
    """

    scale: Tensor
    _order: Tensor

    def __init__(self, config: ProposalConfig, state_dim: int, space: ActionSpace) -> None:
        super().__init__()
        self.config, self.action_block = config, space.action_block
        self._deltas, self._others = space.places("delta"), space.places("absolute", "velocity")
        self.map = mlp(state_dim, config, len(self._deltas)) if self._deltas else None
        self.others = mlp(2 * state_dim, config, len(self._others)) if self._others else None
        self.register_buffer("scale", torch.ones(len(self._deltas)))
        # Where guesses go: from channels in the order deltas, others to that of an action.
        order = torch.tensor([*self._deltas, *self._others]).argsort()
        self.register_buffer("_order", order, persistent=False)

    @property
    def deltas(self) -> list[int]:
        """Where the channels that add up stand in an action."""
        return self._deltas

    def way(self, z: Tensor, goal: Tensor) -> Tensor:
        """The sum (..., deltas) of z-scored actions that leads from states (..., Z) to goals (..., Z)."""
        return (self.map(goal) - self.map(z)) * self.scale

    def displacement(self, z: Tensor, goal: Tensor) -> Tensor:
        """From goals (..., Z) to states (..., Z) on the map (..., deltas); its square is the mean over coordinates."""
        return (self.map(z) - self.map(goal)) * len(self._deltas) ** -0.5

    def other(self, z: Tensor, goal: Tensor) -> Tensor:
        """The z-scored channels (..., others) that do not add up, in the block after states (..., Z)."""
        return self.others(torch.cat([z, goal.expand_as(z)], dim=-1))

    def forward(self, z: Tensor, goal: Tensor, blocks_left: Tensor) -> Tensor:
        """States (..., Z), goals (..., Z), blocks left (...,) -> z-scored blocks (..., A), one even step each."""
        guesses = []
        if self._deltas:
            guesses.append(self.way(z, goal) / (blocks_left * self.action_block).unsqueeze(-1))
        if self._others:
            guesses.append(self.other(z, goal))
        step = torch.cat(guesses, dim=-1).index_select(-1, self._order)
        return step.repeat(*[1] * (step.ndim - 1), self.action_block)


def mlp(inputs: int, config: ProposalConfig, outputs: int) -> nn.Sequential:
    """Layers of one width with LayerNorm and GELU between them."""
    width = config.width
    hidden = (layer for _ in range(config.depth) for layer in (nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)))
    return nn.Sequential(nn.Linear(inputs, width), *hidden, nn.LayerNorm(width), nn.GELU(), nn.Linear(width, outputs))
