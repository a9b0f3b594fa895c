"""Rollouts for planning: the numbers of `LeWorldModel.rollout`, with only the work that reaches them.

Many candidate plans start from one history, and only the newest token of each step is used. So here

- action embeddings and AdaLN modulations are computed once per (plan, step), as one matmul per layer;
- the tokens of the history that all plans share are computed once, and only their keys and values are kept;
- keys and values are reused as long as the window grows (when it slides, positions move and tokens change);
- the last layer computes only the last token;
- attention over a handful of tokens is sums of products (for one token it is its value): general attention kernels
  spend most of their time on layout at this size;
- layers without a nonlinearity between them are merged: the two of the action encoder, LayerNorm's gain and bias with
  the layer after it, BatchNorm with the layer before it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.merged_layers import ActionModulation, Affine, Layer, after_norm, norm

Memory = list[list[tuple[Tensor, Tensor]]]
"""For each layer, keys and values (B, S or 1, heads, head_dim) of the tokens seen so far, oldest first."""


class Rollout:
    """A frozen copy of a model's predictor, prepared for planning.

    Args:
        model: in evaluation mode; what it learns later is not seen.
        precision: `fp32` or `bf16`, of the matmuls. The residual stream stays fp32.
    """

    def __init__(self, model: LeWorldModel, precision: str = "fp32") -> None:
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._history = model.config.history
        self._heads = model.config.predictor.heads
        self._width = model.config.embedding_dim
        with torch.no_grad():
            self._positions = model.predictor.positions[0].detach()  # (history, D)
            self._layers = [Layer.of(block, self._dtype) for block in model.predictor.blocks]
            self.modulate = ActionModulation(model.action_encoder, self._layers, self._dtype)
            into, batch_norm, _, out = model.prediction_projector
            gain = batch_norm.weight * torch.rsqrt(batch_norm.running_var + batch_norm.eps)
            into_bias = (into.bias - batch_norm.running_mean) * gain + batch_norm.bias
            self._project_in = Affine.of(
                *after_norm(model.predictor.norm, into.weight * gain[:, None], into_bias), self._dtype
            )
            self._project_out = Affine.of(out.weight, out.bias, self._dtype)
            self._final_eps = model.predictor.norm.eps

    def start(self, z: Tensor, past_actions: Tensor) -> Imagination:
        """Prepare for plans that begin at the newest of some frames.

        Args:
            z: embeddings (B, H, D) of the newest frames, oldest first; H at most the model's history.
            past_actions: z-scored blocks (B, H-1, A) executed between them.
        """
        return Imagination(self, z.float(), self.modulate(past_actions.transpose(0, 1).unsqueeze(2)))

    def advance(self, z: Tensor, position: int, modulations: list[Tensor], memory: Memory) -> Tensor:
        """Predict the embedding after the newest token, and remember keys and values of the tokens given.

        Args:
            z: embeddings (n, B, S, D) of the tokens that follow those in `memory`.
            position: of the first of them in the window.
            modulations: of their actions, each layer's (6, n, B, S, D).
            memory: of the tokens before; extended.

        Returns:
            (B, S, D)
        """
        x = z + self._positions[position : position + len(z), None, None]
        for depth, (layer, modulation, seen) in enumerate(zip(self._layers, modulations, memory, strict=True)):
            shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unbind(0)
            y = norm(torch.addcmul(shift_a, norm(x, 1e-6).to(self._dtype), scale_a), 1e-5)
            if depth == len(self._layers) - 1 and len(x) > 1:
                queries = self._split(layer.query(y[-1:]))
                keys, values = self._split(layer.key_value(y), 2)
                x, gate_a, shift_m, scale_m, gate_m = (t[-1:] for t in (x, gate_a, shift_m, scale_m, gate_m))
            else:
                queries, keys, values = self._split(layer.query_key_value(y), 3)
            seen.extend(zip(keys.unbind(0), values.unbind(0), strict=True))
            mixed = [
                _attend(query, seen[: len(seen) - len(queries) + 1 + index]) for index, query in enumerate(queries)
            ]
            x = x + gate_a * layer.attention_out(torch.stack(mixed).flatten(-2))
            y = norm(torch.addcmul(shift_m, norm(x, 1e-6).to(self._dtype), scale_m), 1e-5)
            x = x + gate_m * layer.mlp_out(F.gelu(layer.mlp_in(y)))
        return self._project_out(F.gelu(self._project_in(norm(x[-1], self._final_eps)))).float()

    def _split(self, x: Tensor, parts: int = 1) -> Tensor:
        """(n, B, S, parts * heads * head_dim) -> (parts, n, B, S, heads, head_dim), without `parts` if it is 1."""
        if parts == 1:
            return x.unflatten(-1, (self._heads, -1))
        return x.unflatten(-1, (parts, self._heads, -1)).movedim(-3, 0)

    def empty_memory(self) -> Memory:
        """A memory in which no token has been seen."""
        return [[] for _ in self._layers]


class Imagination:
    """What plans from one history lead to. Made by `Rollout.start`; call it as often as there are plans to try."""

    def __init__(self, rollout: Rollout, z: Tensor, past_modulations: list[Tensor]) -> None:
        self._rollout = rollout
        tokens = z.transpose(0, 1).unsqueeze(2)  # (H, B, 1, D)
        self._shared, self._newest = tokens[:-1], tokens[-1:]
        self._past_modulations = past_modulations
        self._memories: dict[int, Memory] = {}

    def __call__(self, plans: Tensor) -> Tensor:
        """Z-scored blocks (B, S, T, A) -> embeddings (B, S, T, D) after each block of each plan."""
        rollout, history = self._rollout, self._rollout._history
        _, samples, steps, _ = plans.shape
        modulations = rollout.modulate(plans.permute(2, 0, 1, 3))
        tokens = self._newest.expand(-1, -1, samples, -1)  # (1, B, S, D), grows by one each step
        shared, oldest, memory = len(self._shared), -1, rollout.empty_memory()
        for step in range(steps):
            begin = max(0, shared + step + 1 - history)
            first = step  # the first token to compute
            if begin != oldest:
                oldest, first = begin, max(0, begin - shared)
                memory = [list(seen) for seen in self._remember(begin)]
            after = rollout.advance(
                tokens[first:], shared + first - begin, [m[:, first : step + 1] for m in modulations], memory
            )
            tokens = torch.cat([tokens, after.unsqueeze(0)])
        return tokens[1:].permute(1, 2, 0, 3)

    def _remember(self, begin: int) -> Memory:
        """Keys and values of the shared tokens from number `begin` on, which stand at positions 0, 1, ..."""
        if begin not in self._memories:
            memory = self._rollout.empty_memory()
            if begin < len(self._shared):
                modulations = [m[:, begin:] for m in self._past_modulations]
                self._rollout.advance(self._shared[begin:], 0, modulations, memory)
            self._memories[begin] = memory
        return self._memories[begin]


def _attend(query: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Scaled queries (B, S, heads, head_dim) over the keys and values of a few tokens -> (B, S, heads, head_dim)."""
    if len(seen) == 1:
        return seen[0][1].expand_as(query)
    scores = torch.stack([torch.linalg.vecdot(query, key.expand_as(query)) for key, _ in seen]).float()
    shares = scores.softmax(0).to(query.dtype).unsqueeze(-1)  # (n, B, S, heads, 1)
    mixed = shares[0] * seen[0][1]
    for share, (_, value) in zip(shares[1:], seen[1:], strict=True):
        mixed = torch.addcmul(mixed, share, value)
    return mixed
