"""A goal-conditioned policy on states: what a demonstrator would do next, and how long it would take to the goal.

Like GC-IDM (arXiv 2605.08732) it learns from pairs of frames of one demonstration, with actions alone as labels; and
like it, if it is paced, what it does depends on how many steps there are to the goal. It gives a distribution, so that
a search can draw its first plans from it, and every control step of a block, so that it can be asked at any of them and
bridges the time until the next answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm_ros.config import ConfigError, PolicyConfig
from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.robot.action_space import ActionSpace

LOG_SCALE = (-4.0, 1.0)
"""Bounds of the logarithm of a scale, in standard deviations of the actions."""

SHARED = 0.1
"""Of the error, which is that of the best mode: the share that all modes have in it, so that none is left unused."""

LEVELS = 21
"""Of a channel that says where something is to be, such as a gripper: evenly from its lowest to its highest value."""


@dataclass(frozen=True)
class Guess:
    """What a demonstrator would do next.

    Attributes:
        blocks: z-scored (..., A): of what moves, the median of a Laplace distribution, of the likeliest if there are
            several modes; of an absolute channel, its likeliest level.
        scales: the mean absolute deviations (..., A) from them.
        left: (...,) the control steps to the goal.
    """

    blocks: Tensor
    scales: Tensor
    left: Tensor


class Policy(nn.Module):
    """An MLP from a state, a goal and the way between them to a `Guess`.

    Where some demonstrators went left and others right, the median of both is to stay. So there may be several modes,
    each with a median: the nearest to what was done learns it (multiple choice learning, arXiv 1606.07839), and which
    that is is learned by classification.

    States are given as vectors (..., K * D), goals (..., Kg * D): tokens side by side. A gripper is open or closed, and
    the middle between the two would drop what it holds: absolute channels are not regressed, but classified by level.

    Args:
        config: sizes.
        seen_places: where the numbers that it looks at stand in a state, K * D of them or fewer.
        goal_places: where the numbers of a goal stand in a state (Kg * D,).
        space: of the actions.
        longest: control steps that count as one in `left`'s regression.
    """

    seen_places: Tensor
    goal_places: Tensor
    levels: Tensor
    _order: Tensor

    def __init__(
        self,
        config: PolicyConfig,
        seen_places: Tensor,
        goal_places: Tensor,
        space: ActionSpace,
        longest: float = 100.0,
    ) -> None:
        super().__init__()
        self.config, self.longest = config, longest
        self.register_buffer("seen_places", seen_places, persistent=False)
        self.register_buffer("goal_places", goal_places, persistent=False)
        steps = range(0, space.block_dim, space.dim)
        self._moving = [step + place for step in steps for place in space.places("delta", "velocity")]
        self._absolute = [step + place for step in steps for place in space.places("absolute")]
        self.register_buffer("_order", torch.tensor([*self._moving, *self._absolute]).argsort(), persistent=False)
        low, high = (torch.tensor(bound, dtype=torch.float32)[self._absolute, None] for bound in space.bounds())
        self.register_buffer("levels", low + (high - low) * torch.linspace(0.0, 1.0, LEVELS), persistent=False)
        sizes = [len(seen_places) + 2 * len(goal_places), *[config.width] * config.depth]
        self.body = _body(sizes)
        self.paced_body = _body([sizes[0] + 1, *sizes[1:]]) if config.paced else None
        several = config.modes if config.modes > 1 else 0
        self._sizes = [config.modes * len(self._moving)] * 2 + [several, self.levels.numel(), 1]
        self.head = nn.Linear(config.width, sum(self._sizes))

    def forward(self, z: Tensor, goal: Tensor, pace: Tensor) -> Guess:
        """States (..., K * D) and goals (..., Kg * D) -> what follows.

        A paced one is to be there in `pace` control steps (...,).
        """
        medians, scales, modes, logits, left = self._read(z, goal, pace)
        mode = modes.argmax(-1)
        likeliest = F.one_hot(logits.argmax(-1), LEVELS) * self.levels
        levels = likeliest.sum(-1)
        deviations = (logits.softmax(-1) * (self.levels - levels[..., None]).abs()).sum(-1)
        blocks = torch.cat([_of_mode(medians, mode), levels], dim=-1)
        spreads = torch.cat([_of_mode(scales, mode), deviations], dim=-1)
        return Guess(blocks.index_select(-1, self._order), spreads.index_select(-1, self._order), left)

    def loss(self, z: Tensor, goal: Tensor, blocks: Tensor, left: Tensor) -> Tensor:
        """Mean absolute error of z-scored actions (..., A) and of the steps left, plus what teaches scales and modes.

        The scales are taught by the likelihood with the error held fixed, so that what cannot be told does not count
        less in the error itself.
        """
        medians, scales, modes, logits, guessed_left = self._read(z, goal, left)
        errors = (medians - blocks[..., None, self._moving]).abs()
        best = errors.detach().mean(-1).argmin(-1)
        error = _of_mode(errors, best)
        scale = _of_mode(scales, best)
        likelihood = error.detach() / scale + scale.log()
        loss = (1.0 - SHARED) * error.mean() + SHARED * errors.mean() + 0.1 * likelihood.mean()
        loss = loss + 0.1 * (guessed_left - left).abs().mean() / self.longest
        if self.config.modes > 1:
            loss = loss + 0.1 * F.cross_entropy(modes.flatten(0, -2), best.flatten())
        if self._absolute:
            true = (blocks[..., self._absolute, None] - self.levels).abs().argmin(-1)
            loss = loss + 0.1 * F.cross_entropy(logits.flatten(0, -2), true.flatten())
        return loss

    def _read(self, z: Tensor, goal: Tensor, pace: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Medians and scales (..., modes, moving), logits of modes and levels (..., channels, LEVELS), steps left."""
        way = goal - z.index_select(-1, self.goal_places)
        seen = z.index_select(-1, self.seen_places)
        known = torch.cat([seen, goal.expand_as(way), way], dim=-1)
        *acts, left = self.head(self.body(known)).float().split(self._sizes, dim=-1)
        if self.paced_body is not None:
            share = (pace / self.longest).to(known.dtype).expand(known.shape[:-1]).unsqueeze(-1)
            paced = torch.cat([known, share], dim=-1)
            *acts, _ = self.head(self.paced_body(paced)).float().split(self._sizes, dim=-1)
        medians, scales, modes, logits = acts
        medians, scales = (each.unflatten(-1, (self.config.modes, -1)) for each in (medians, scales))
        modes = modes if self.config.modes > 1 else torch.zeros_like(left)
        time = left[..., 0].sigmoid() * 2.0 * self.longest
        return medians, scales.clamp(*LOG_SCALE).exp(), modes, logits.unflatten(-1, self.levels.shape), time


def _body(sizes: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()) for a, b in pairwise(sizes)))


def _of_mode(values: Tensor, mode: Tensor) -> Tensor:
    """Of values (..., modes, n) those of a mode (...)."""
    return values.take_along_dim(mode[..., None, None], dim=-2).squeeze(-2)


def make_policy(config: PolicyConfig, model: LeWorldModel, space: ActionSpace) -> Policy:
    """A policy on the states of a model, randomly initialised.

    Raises:
        ConfigError: it is to be blind to what the model does not take in, or what a goal is told by.
    """
    own = model.tokens_of
    for name in config.blind_to:
        if name not in own:
            raise ConfigError(f"policy: blind_to: must be among {', '.join(own)}, got '{name}'")
        if set(own[name]) & set(model.goal_tokens):
            raise ConfigError(f"policy: blind_to: a goal is told by '{name}', so it cannot be left out")
    unseen = {token for name in config.blind_to for token in own[name]}
    seen = [token for token in range(model.tokens) if token not in unseen]
    return Policy(config, _places(seen, model), _places(model.goal_tokens, model), space)


def _places(tokens: Sequence[int], model: LeWorldModel) -> Tensor:
    """Where the numbers of these tokens stand in a state."""
    width = model.config.embedding_dim
    return (torch.tensor(tokens)[:, None] * width + torch.arange(width)).flatten()
