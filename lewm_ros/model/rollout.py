"""Rollouts for planning: the numbers of `LeWorldModel.rollout`, with only the work that reaches them.

Many candidate plans start from one history, and only the newest state of each step is used. So here

- action embeddings and AdaLN modulations are computed once per (plan, step), as one matmul per layer;
- the states of the history that all plans share are computed once, and only their keys and values are kept;
- keys and values are reused as long as the window grows (when it slides, positions move and tokens change);
- the last layer computes only the newest state;
- attention over a handful of tokens is sums of products (for one token it is its value): general attention kernels
  spend most of their time on layout at this size; many tokens go through torch's fused kernel;
- layers without a nonlinearity between them are merged: the two of the action encoder, LayerNorm's gain and bias with
  the layer after it, BatchNorm with the layer before it;
- plans of many tokens are rolled out in groups, so that what a layer needs in memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.merged_layers import ActionModulation, Affine, Head, Layer, norm
from lewm_ros.model.precision import matmul_dtype

Memory = list[list[tuple[Tensor, Tensor]]]
"""For each layer, keys and values of what was seen so far, oldest first: per token (B, S or 1, 1, heads, head_dim) if
there are few tokens, per state (B, S or 1, K, heads, head_dim) if there are many."""

FEW_TOKENS = 24
"""Of a full history: up to so many, attention is spelt out."""

TOKENS_AT_ONCE = 1 << 15
"""Of a group of plans, over a full history."""


class Rollout:
    """A frozen copy of a model's predictor, prepared for planning.

    Args:
        model: in evaluation mode; what it learns later is not seen.
        precision: `fp32` or `bf16`, of the matmuls, see `matmul_dtype`. The residual stream stays fp32.
    """

    def __init__(self, model: LeWorldModel, precision: str = "fp32") -> None:
        self._dtype = matmul_dtype(precision, next(model.parameters()).device)
        self.history, self.tokens = model.config.history, model.tokens
        self._heads = model.config.predictor.heads
        self._few = self.history * self.tokens <= FEW_TOKENS
        predictor = model.predictor
        with torch.no_grad():
            linear = isinstance(predictor.into, torch.nn.Linear)
            self._into = Affine.of(predictor.into.weight, predictor.into.bias, self._dtype) if linear else None
            positions = predictor.positions[0].detach().unsqueeze(1)  # (history, 1, W)
            tokens = predictor.token_positions
            self._positions = positions if tokens is None else positions + tokens.detach()  # (history, K or 1, W)
            self._layers = [Layer.of(block, self._dtype) for block in predictor.blocks]
            self.modulate = ActionModulation(model.action_encoder, self._layers, self._dtype)
            self._head = Head(predictor.norm, model.prediction_projector, self._dtype)

    def start(self, z: Tensor, past_actions: Tensor) -> Imagination:
        """Prepare for plans that begin at the newest of some frames.

        Args:
            z: states (B, H, K, D) of the newest frames, oldest first; H at most the model's history.
            past_actions: z-scored blocks (B, H-1, A) executed between them.
        """
        return Imagination(self, z.float(), self.modulate(past_actions.transpose(0, 1).unsqueeze(2)))

    def embed(self, z: Tensor) -> Tensor:
        """States (..., K, D) -> the predictor's input (..., K, W), but for positions."""
        return z if self._into is None else self._into(z).float()

    def advance(self, x: Tensor, position: int, modulations: list[Tensor], memory: Memory) -> Tensor:
        """Predict the state after the newest one, and remember keys and values of the states given.

        Args:
            x: embedded states (n, B, S, K, W) that follow those in `memory`.
            position: of the first of them in the window.
            modulations: of their actions, each layer's (6, n, B, S, W).
            memory: of the states before; extended.

        Returns:
            (B, S, K, D)
        """
        x = x + self._positions[position : position + len(x), None, None]
        for depth, (layer, modulation, seen) in enumerate(zip(self._layers, modulations, memory, strict=True)):
            shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unsqueeze(-2).unbind(0)
            y = norm(torch.addcmul(shift_a, norm(x, 1e-6).to(self._dtype), scale_a), 1e-5)
            if depth == len(self._layers) - 1 and len(x) > 1:
                queries = self._split(layer.query(y[-1:]), 1)[0]
                keys, values = self._split(layer.key_value(y), 2)
                x, gate_a, shift_m, scale_m, gate_m = (t[-1:] for t in (x, gate_a, shift_m, scale_m, gate_m))
            else:
                queries, keys, values = self._split(layer.query_key_value(y), 3)
            mixed = (self._attend_few if self._few else self._attend_many)(queries, keys, values, seen)
            x = x + gate_a * layer.attention_out(mixed.flatten(-2))
            y = norm(torch.addcmul(shift_m, norm(x, 1e-6).to(self._dtype), scale_m), 1e-5)
            x = x + gate_m * layer.mlp_out(F.gelu(layer.mlp_in(y)))
        return self._head(x[-1])

    def empty_memory(self) -> Memory:
        """A memory in which no state has been seen."""
        return [[] for _ in self._layers]

    def _split(self, x: Tensor, parts: int) -> Tensor:
        """(n, B, S, K, parts * heads * head_dim) -> (parts, n, B, S, K, heads, head_dim)."""
        return x.unflatten(-1, (parts, self._heads, -1)).movedim(-3, 0)

    def _attend_few(self, queries: Tensor, keys: Tensor, values: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Scaled queries of the newest states over all tokens up to theirs, after remembering keys and values.

        All three are (n, B, S, K, heads, head_dim); there may be fewer queries than keys.
        """
        seen.extend(zip(_per_token(keys), _per_token(values), strict=True))
        counts = range(len(seen) - (len(queries) - 1) * self.tokens, len(seen) + 1, self.tokens)
        return torch.stack([_mix(query, seen[:known]) for query, known in zip(queries, counts, strict=True)])

    def _attend_many(self, queries: Tensor, keys: Tensor, values: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        """As `_attend_few`."""
        seen.extend(zip(keys.unbind(0), values.unbind(0), strict=True))
        batch, samples = queries.shape[1:3]
        keys, values = (
            torch.cat([state.expand(-1, samples, -1, -1, -1) for state in states], dim=2).flatten(0, 1).transpose(1, 2)
            for states in zip(*seen, strict=True)
        )  # (B * S, heads, m * K, head_dim)
        mixed = []
        for number, query in enumerate(queries, len(seen) - len(queries) + 1):
            known = number * self.tokens
            mixed.append(
                F.scaled_dot_product_attention(
                    query.flatten(0, 1).transpose(1, 2), keys[:, :, :known], values[:, :, :known], scale=1.0
                )
            )
        return torch.stack(mixed).transpose(2, 3).unflatten(1, (batch, samples))


class Imagination:
    """What plans from one history lead to. Made by `Rollout.start`; call it as often as there are plans to try.

    Args:
        rollout: the predictor.
        z: states (B, H, K, D), oldest first.
        past_modulations: of the actions between them, each layer's (6, H-1, B, 1, W).
    """

    def __init__(self, rollout: Rollout, z: Tensor, past_modulations: list[Tensor]) -> None:
        self._rollout, self._z = rollout, z
        states = rollout.embed(z).transpose(0, 1).unsqueeze(2)  # (H, B, 1, K, W)
        self._shared, self._newest = states[:-1], states[-1]
        self._past_modulations = past_modulations
        self._memories: dict[int, Memory] = {}

    def __call__(self, plans: Tensor) -> Tensor:
        """Z-scored blocks (B, S, T, A) -> states (B, S, T, K, D) after each block of each plan."""
        rollout = self._rollout
        group = max(1, TOKENS_AT_ONCE // (rollout.history * rollout.tokens * len(plans)))
        if plans.shape[1] <= group:
            return self._imagine(plans)
        return torch.cat([self._imagine(some) for some in plans.split(group, dim=1)], dim=1)

    def follow(
        self, choose: Callable[[int, Tensor], Tensor], samples: int, steps: int, to_end: bool = False
    ) -> list[Tensor]:
        """Let every block be chosen by the state before it.

        Args:
            choose: from the block's number and the states (B, S, K, D) before it to the z-scored blocks (B, S, A).
            samples: S.
            steps: T.
            to_end: whether to compute what follows the last block, too.

        Returns:
            the states (B, S, K, D) after each block, after the last one only `to_end`.
        """
        chosen: list[list[Tensor]] = []

        def modulate(step: int, z: Tensor) -> list[Tensor]:
            chosen.append(self._rollout.modulate(choose(step, z).unsqueeze(0)))
            return [torch.cat(layer, dim=1) for layer in zip(*chosen, strict=True)]

        states = self._roll(modulate, samples, steps if to_end else steps - 1)
        if not to_end:
            choose(steps - 1, states[-1])
        return states[1:]

    def _imagine(self, plans: Tensor) -> Tensor:
        _, samples, steps, _ = plans.shape
        modulations = self._rollout.modulate(plans.permute(2, 0, 1, 3))
        states = self._roll(lambda step, z: [m[:, : step + 1] for m in modulations], samples, steps)
        return torch.stack(states[1:], dim=2)

    def _roll(self, modulate: Callable[[int, Tensor], list[Tensor]], samples: int, steps: int) -> list[Tensor]:
        """The newest states (B, S, K, D) and those after each of some blocks.

        Args:
            modulate: from a block's number and the states before it to each layer's modulations (6, n, B, S, W) of all
                blocks up to it.
            samples: S.
            steps: how many blocks.
        """
        rollout, shared = self._rollout, len(self._shared)
        states = [self._z[:, -1:].expand(-1, samples, -1, -1)]
        embedded = [self._newest.expand(-1, samples, -1, -1)]
        oldest, memory = -1, rollout.empty_memory()
        for step in range(steps):
            if step:
                embedded.append(rollout.embed(states[-1]))
            begin = max(0, shared + step + 1 - rollout.history)
            first = step  # the first state to compute
            if begin != oldest:
                oldest, first = begin, max(0, begin - shared)
                memory = [list(seen) for seen in self._remember(begin)]
            newer = [m[:, first:] for m in modulate(step, states[-1])]
            states.append(rollout.advance(torch.stack(embedded[first:]), shared + first - begin, newer, memory))
        return states

    def _remember(self, begin: int) -> Memory:
        """Keys and values of the shared states from number `begin` on, which stand at positions 0, 1, ..."""
        if begin not in self._memories:
            memory = self._rollout.empty_memory()
            if begin < len(self._shared):
                modulations = [m[:, begin:] for m in self._past_modulations]
                self._rollout.advance(self._shared[begin:], 0, modulations, memory)
            self._memories[begin] = memory
        return self._memories[begin]


def _per_token(states: Tensor) -> list[Tensor]:
    """(n, B, S, K, heads, head_dim) -> n * K tokens (B, S, 1, heads, head_dim), state by state."""
    return [token for state in states for token in state.split(1, dim=2)]


def _mix(query: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Scaled queries (B, S, K, heads, head_dim) over keys and values of a few tokens, in the queries' shape."""
    if len(seen) == 1:
        return seen[0][1].expand_as(query)
    scores = torch.stack([torch.linalg.vecdot(query, key.expand_as(query)) for key, _ in seen]).float()
    shares = scores.softmax(0).to(query.dtype).unsqueeze(-1)  # (m, B, S, K, heads, 1)
    mixed = shares[0] * seen[0][1]
    for share, (_, value) in zip(shares[1:], seen[1:], strict=True):
        mixed = torch.addcmul(mixed, share, value)
    return mixed
