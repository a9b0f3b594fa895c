"""Rollouts of the patch-token baseline for planning: the numbers of `PatchWorldModel.rollout`, with less work.

What `lewm_ros.model.rollout` spares LeWorldModel is spared here too: modulations once per (plan, step), the frames that
all plans share once, keys and values reused as long as the window grows, the last layer for the newest frame alone,
merged layers. Attention is torch's fused kernel. Plans are rolled out in groups, so that what a layer needs in memory
does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm_ros.model.merged_layers import ActionModulation, Affine, Layer, after_norm, norm
from lewm_ros.model.patch import PatchWorldModel

Memory = list[list[tuple[Tensor, Tensor]]]
"""For each layer, keys and values (S or 1, N, heads, head_dim) of the frames seen so far, oldest first."""

TOKENS_AT_ONCE = 1 << 15
"""Of a group of plans, over a full history."""


class PatchRollout:
    """A frozen copy of a model's predictor, prepared for planning.

    Args:
        model: in evaluation mode; what it learns later is not seen.
        precision: `fp32` or `bf16`, of the matmuls. The residual stream stays fp32.
    """

    def __init__(self, model: PatchWorldModel, precision: str = "fp32") -> None:
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._heads = model.config.predictor.heads
        self.history, self.tokens = model.config.history, model.config.tokens
        predictor = model.predictor
        with torch.no_grad():
            self._into = Affine.of(predictor.into.weight, predictor.into.bias, self._dtype)
            self._token_positions = predictor.token_positions.detach()  # (N, width)
            self._frame_positions = predictor.frame_positions.detach()  # (history, 1, width)
            self._layers = [Layer.of(block, self._dtype) for block in predictor.blocks]
            self.modulate = ActionModulation(model.action_encoder, self._layers, self._dtype)
            self._out = Affine.of(*after_norm(predictor.norm, predictor.out.weight, predictor.out.bias), self._dtype)

    def start(self, z: Tensor, past_actions: Tensor) -> Callable[[Tensor], Tensor]:
        """Prepare for plans that begin at the newest of some frames.

        Args:
            z: embeddings (B, H, D) of the newest frames, oldest first; H at most the model's history.
            past_actions: z-scored blocks (B, H-1, A) executed between them.

        Returns:
            from z-scored blocks (B, S, T, A) to embeddings (B, S, T, D) after each block of each plan.
        """
        frames = self.embed(z.float().unflatten(-1, (self.tokens, -1)))  # (B, H, N, width)
        problems = [PatchImagination(self, *problem) for problem in zip(frames, past_actions, strict=True)]

        def imagine(plans: Tensor) -> Tensor:
            return torch.stack([problem(mine) for problem, mine in zip(problems, plans, strict=True)])

        return imagine

    def embed(self, tokens: Tensor) -> Tensor:
        """Patch tokens (..., N, features) -> the predictor's input (..., N, width), but for the frame's position."""
        return self._into(tokens).float() + self._token_positions

    def advance(self, frames: Tensor, position: int, modulations: list[Tensor], memory: Memory) -> Tensor:
        """Predict the tokens after the newest frame, and remember keys and values of the frames given.

        Args:
            frames: embedded (n, S, N, width), those that follow the ones in `memory`.
            position: of the first of them in the window.
            modulations: of their actions, each layer's (6, n, S, width).
            memory: of the frames before; extended.

        Returns:
            (S, N, features)
        """
        x = frames + self._frame_positions[position : position + len(frames), None]
        for depth, (layer, modulation, seen) in enumerate(zip(self._layers, modulations, memory, strict=True)):
            shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unsqueeze(-2).unbind(0)
            y = norm(torch.addcmul(shift_a, norm(x, 1e-6).to(self._dtype), scale_a), 1e-5)
            if depth == len(self._layers) - 1 and len(x) > 1:
                queries = self._split(layer.query(y[-1:]), 1)[0]
                keys, values = self._split(layer.key_value(y), 2)
                x, gate_a, shift_m, scale_m, gate_m = (t[-1:] for t in (x, gate_a, shift_m, scale_m, gate_m))
            else:
                queries, keys, values = self._split(layer.query_key_value(y), 3)
            seen.extend(zip(keys.unbind(0), values.unbind(0), strict=True))
            x = x + gate_a * layer.attention_out(self._attend(queries, seen))
            y = norm(torch.addcmul(shift_m, norm(x, 1e-6).to(self._dtype), scale_m), 1e-5)
            x = x + gate_m * layer.mlp_out(F.gelu(layer.mlp_in(y)))
        return norm(self._out(norm(x[-1], 1e-5)).float(), 1e-5)

    def _split(self, x: Tensor, parts: int) -> Tensor:
        """(n, S, N, parts * heads * head_dim) -> (parts, n, S, N, heads, head_dim)."""
        return x.unflatten(-1, (parts, self._heads, -1)).movedim(-3, 0)

    def _attend(self, queries: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Scaled queries (n, S, N, heads, head_dim) of the newest frames over all tokens up to theirs.

        Returns:
            (n, S, N, heads * head_dim)
        """
        samples = queries.shape[1]
        keys, values = (
            torch.cat([frame.expand(samples, -1, -1, -1) for frame in frames], dim=1).transpose(1, 2)
            for frames in zip(*seen, strict=True)
        )  # (S, heads, m * N, head_dim)
        mixed = []
        for number, query in enumerate(queries, len(seen) - len(queries) + 1):
            known = number * self.tokens
            mixed.append(
                F.scaled_dot_product_attention(
                    query.transpose(1, 2), keys[:, :, :known], values[:, :, :known], scale=1.0
                )
            )
        return torch.stack(mixed).transpose(2, 3).flatten(3)

    def empty_memory(self) -> Memory:
        """A memory in which no frame has been seen."""
        return [[] for _ in self._layers]


class PatchImagination:
    """What plans from one history lead to.

    Args:
        rollout: the predictor.
        frames: embedded (H, N, width), oldest first.
        past_actions: z-scored blocks (H-1, A) executed between them.
    """

    def __init__(self, rollout: PatchRollout, frames: Tensor, past_actions: Tensor) -> None:
        self._rollout = rollout
        self._shared, self._newest = frames[:-1, None], frames[-1:]  # (H-1, 1, N, width), (1, N, width)
        self._past_modulations = rollout.modulate(past_actions.unsqueeze(1))  # (6, H-1, 1, width)
        self._memories: dict[int, Memory] = {}

    def __call__(self, plans: Tensor) -> Tensor:
        """Z-scored blocks (S, T, A) -> embeddings (S, T, D) after each block of each plan."""
        group = max(1, TOKENS_AT_ONCE // (self._rollout.history * self._rollout.tokens))
        return torch.cat([self._imagine(plans) for plans in plans.split(group)])

    def _imagine(self, plans: Tensor) -> Tensor:
        rollout, shared = self._rollout, len(self._shared)
        samples, steps, _ = plans.shape
        modulations = rollout.modulate(plans.transpose(0, 1))
        frames = [self._newest.expand(samples, -1, -1)]
        after, oldest, memory = [], -1, rollout.empty_memory()
        for step in range(steps):
            begin = max(0, shared + step + 1 - rollout.history)
            first = step  # the first frame to compute
            if begin != oldest:
                oldest, first = begin, max(0, begin - shared)
                memory = [list(seen) for seen in self._remember(begin)]
            newer = [m[:, first : step + 1] for m in modulations]
            after.append(rollout.advance(torch.stack(frames[first:]), shared + first - begin, newer, memory))
            if step + 1 < steps:
                frames.append(rollout.embed(after[-1]))
        return torch.stack([tokens.flatten(1) for tokens in after], dim=1)

    def _remember(self, begin: int) -> Memory:
        """Keys and values of the shared frames from number `begin` on, which stand at positions 0, 1, ..."""
        if begin not in self._memories:
            memory = self._rollout.empty_memory()
            if begin < len(self._shared):
                modulations = [m[:, begin:] for m in self._past_modulations]
                self._rollout.advance(self._shared[begin:], 0, modulations, memory)
            self._memories[begin] = memory
        return self._memories[begin]
