"""Rollouts for planning: the numbers of `LeWorldModel.rollout`, with only the work that reaches them.

Many candidate plans start from one history, and only the newest state of each step is used. So here

- action embeddings and AdaLN modulations are computed once per (plan, step), as one matmul per layer;
- the states of the history that all plans share are computed once, and only their keys and values are kept;
- keys and values are reused as long as the window grows (when it slides, positions move and tokens change);
- the last layer computes only the newest state, and a token that attends to nothing but itself needs no query;
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
"""For each layer, keys and values (m, B, S or 1, K, heads, head_dim) of the states seen so far, oldest first, as they
came."""

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

    @property
    def weights(self) -> list[Tensor]:
        """Of all matmuls, with their biases."""
        layers = [affine for layer in self._layers for affine in vars(layer).values()]
        affines = [self._into, *layers, *self.modulate.affines, *self._head.affines]
        return [part for affine in affines if affine is not None for part in (affine.weight, affine.bias)]

    def start(self, z: Tensor, past_actions: Tensor) -> Imagination:
        """Prepare for plans that begin at the newest of some frames.

        Args:
            z: states (B, H, K, D) of the newest frames, oldest first; H at most the model's history.
            past_actions: z-scored blocks (B, H-1, A) executed between them.
        """
        return Imagination(self, z, past_actions)

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
            first = len(x) - 1 if depth == len(self._layers) - 1 else 0  # that is asked for
            asks = max(first, 1) if self.tokens == 1 and not seen else first  # that attends to more than itself
            if asks:
                keys, values = self._split(layer.key_value(y), 2)
                queries = self._split(layer.query(y[asks:]), 1)[0] if asks < len(x) else None
            else:
                queries, keys, values = self._split(layer.query_key_value(y), 3)
            mixed = values[first:asks]
            seen.append((keys, values))
            if queries is not None:
                keys, values = (_joined(states, queries.shape[2]) for states in zip(*seen, strict=True))
                attended = (_attend_few if self._few else _attend_many)(queries, keys, values)
                mixed = torch.cat([mixed, attended]) if len(mixed) else attended
            if first:
                x, gate_a, shift_m, scale_m, gate_m = (t[first:] for t in (x, gate_a, shift_m, scale_m, gate_m))
            x = torch.addcmul(x, gate_a, layer.attention_out(mixed.flatten(-2)))
            y = norm(torch.addcmul(shift_m, norm(x, 1e-6).to(self._dtype), scale_m), 1e-5)
            x = torch.addcmul(x, gate_m, layer.mlp_out(F.gelu(layer.mlp_in(y))))
        return self._head(x[-1])

    def empty_memory(self) -> Memory:
        """A memory in which no state has been seen."""
        return [[] for _ in self._layers]

    def _split(self, x: Tensor, parts: int) -> Tensor:
        """(n, B, S, K, parts * heads * head_dim) -> (parts, n, B, S, K, heads, head_dim)."""
        return x.unflatten(-1, (parts, self._heads, -1)).movedim(-3, 0)


class Imagination:
    """What plans from one history lead to. Made by `Rollout.start`; call it as often as there are plans to try.

    Args:
        rollout: the predictor.
        z, past_actions: see there.
    """

    def __init__(self, rollout: Rollout, z: Tensor, past_actions: Tensor) -> None:
        self._rollout, self._z = rollout, z.float()
        states = rollout.embed(self._z).transpose(0, 1).unsqueeze(2)  # (H, B, 1, K, W)
        self._shared, self._newest = states[:-1], states[-1]
        self._past_modulations = rollout.modulate(past_actions.transpose(0, 1).unsqueeze(2))  # (6, H-1, B, 1, W) each
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


def _joined(states: tuple[Tensor, ...], samples: int) -> Tensor:
    """States (m, B, S or 1, ...), those that all S plans share repeated, one after another."""
    if len(states) == 1:
        return states[0]
    return torch.cat([some.expand(-1, -1, samples, -1, -1, -1) for some in states])


def _attend_few(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled queries (n, B, S, K, heads, head_dim) of the newest states over all tokens up to theirs.

    Keys and values are (m, B, S, K, heads, head_dim); there may be fewer queries. In the queries' shape.
    """
    tokens = queries.shape[3]
    keys, values = (part.movedim(3, 1).flatten(0, 1).unsqueeze(3) for part in (keys, values))  # (m * K, B, S, 1, ...)
    counts = range(len(keys) - (len(queries) - 1) * tokens, len(keys) + 1, tokens)
    return torch.stack([_mix(q, keys[:known], values[:known]) for q, known in zip(queries, counts, strict=True)])


def _mix(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled queries (B, S, K, heads, head_dim) over a few keys and values (m, B, S, 1, heads, head_dim)."""
    shares = (query * keys).sum(-1, keepdim=True, dtype=torch.float32).softmax(0)  # (m, B, S, K, heads, 1)
    return (shares.to(query.dtype) * values).sum(0)


def _attend_many(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """As `_attend_few`."""
    batch, samples, tokens = queries.shape[1:4]
    keys, values = (
        part.permute(1, 2, 4, 0, 3, 5).flatten(3, 4).flatten(0, 1) for part in (keys, values)
    )  # (B * S, heads, m * K, head_dim)
    counts = range(keys.shape[2] - (len(queries) - 1) * tokens, keys.shape[2] + 1, tokens)
    mixed = [
        F.scaled_dot_product_attention(
            q.flatten(0, 1).transpose(1, 2), keys[:, :, :known], values[:, :, :known], scale=1.0
        )
        for q, known in zip(queries, counts, strict=True)
    ]
    return torch.stack(mixed).transpose(2, 3).unflatten(1, (batch, samples))
