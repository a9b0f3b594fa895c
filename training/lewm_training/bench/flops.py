"""Floating-point operations of a plan: matrix products and attention, two for every product that is added up.

What is left out (norms, activations, modulation, costs) does not grow with the square of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lewm_ros.config import ModelConfig

ACTION_MLP_RATIO = 4
"""Hidden width of the action encoder over its width."""


@dataclass(frozen=True)
class Flops:
    """Of products with weights, and of attention: tokens with tokens."""

    matmul: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.matmul + self.attention

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.matmul + other.matmul, self.attention + other.attention)

    def __mul__(self, times: int) -> Flops:
        return Flops(times * self.matmul, times * self.attention)


def flops_per_plan(config: ModelConfig, samples: int, iterations: int, horizon: int, known: int | None = None) -> Flops:
    """What the model's fast rollout executes in a search: `samples` rollouts in each of `iterations`.

    Args:
        config: of the model; it has one camera and no vectors.
        samples: candidates per iteration.
        iterations: of the search.
        horizon: blocks of a candidate.
        known: frames that it starts from; the model's history if None.
    """
    known = known or config.history
    return shared_flops(config, known, horizon) + candidate_flops(config, known, horizon) * (samples * iterations)


def candidate_flops(config: ModelConfig, known: int, horizon: int) -> Flops:
    """One candidate in the fast rollout, from `known` frames on."""
    sizes = Sizes.of(config)
    total = Flops(2 * (horizon * (sizes.merged_action + sizes.out) + (horizon - 1) * sizes.into))
    for computed, seen in _windows(config.history, known, horizon):
        total += sizes.layers(computed, seen)
    return total


def shared_flops(config: ModelConfig, known: int, horizon: int) -> Flops:
    """What the fast rollout does once for all candidates: the frames before the newest, wherever they come to stand."""
    sizes, past = Sizes.of(config), known - 1
    total = Flops(2 * (past * sizes.merged_action + known * sizes.into))
    for begin in {max(0, known + step - config.history) for step in range(horizon)}:
        if begin < past:
            total += sizes.layers(past - begin, past - begin) + Flops(2 * sizes.out)
    return total


def reference_flops(config: ModelConfig, known: int, horizon: int) -> Flops:
    """One candidate in the model's own `rollout`: every frame of every window, in every layer."""
    sizes = Sizes.of(config)
    total = Flops(2 * (known - 1 + horizon) * sizes.action)
    for step in range(horizon):
        window = min(config.history, known + step)
        pairs = (
            window**2 if sizes.is_single else window * (window + 1) // 2
        )  # of frames; the causal kernel masks the rest
        total += Flops(2 * window * sizes.depth * sizes.frame, 2 * pairs * sizes.depth * sizes.attention)
        total += Flops(2 * (window * sizes.into + sizes.out))
    return total


@dataclass(frozen=True)
class Sizes:
    """Multiply-adds of a model's parts.

    Attributes:
        depth: layers.
        query: of one frame's queries in one layer; keys and values take as much each.
        mlp: of one frame in one layer, and the layer that follows attention.
        attention: of one frame's tokens with those of one frame, in one layer.
        into, out: of one frame before and after the layers.
        action: of one action, with the modulations of all layers.
        merged_action: the same with the action encoder's first two layers merged.
        is_single: whether a frame is one token, whose attention to itself alone costs nothing.
    """

    depth: int
    query: int
    mlp: int
    attention: int
    into: int
    out: int
    action: int
    merged_action: int
    is_single: bool

    @classmethod
    def of(cls, config: ModelConfig) -> Sizes:
        """The parts of this model."""
        predictor = config.predictor
        inner = predictor.heads * predictor.head_dim
        width, tokens, features = config.width, config.tokens_per_frame, config.action_features or config.action_dim
        into = 0 if width == config.embedding_dim else config.embedding_dim * width
        out = width * config.embedding_dim
        if config.tokens == "cls":
            out = width * config.projector_dim + config.projector_dim * config.embedding_dim
        hidden = ACTION_MLP_RATIO * width
        modulated = hidden * width + predictor.depth * 6 * width**2
        return cls(
            depth=predictor.depth,
            query=tokens * width * inner,
            mlp=tokens * width * (inner + 2 * predictor.mlp_dim),
            attention=2 * inner * tokens**2,
            into=tokens * into,
            out=tokens * out,
            action=config.action_dim * features + features * hidden + modulated,
            merged_action=config.action_dim * hidden + modulated,
            is_single=tokens == 1,
        )

    @property
    def frame(self) -> int:
        """All but attention of one frame in one layer."""
        return 3 * self.query + self.mlp

    def layers(self, computed: int, seen: int) -> Flops:
        """The newest `computed` of `seen` frames through all layers, of which the last does only the newest.

        A token that attends to nothing but itself asks for nothing.
        """
        alone = self.is_single and computed == seen
        asking = computed - alone
        inner = asking * self.query + computed * (2 * self.query + self.mlp)
        last = min(asking, 1) * self.query + 2 * computed * self.query + self.mlp
        keys = [number for number in range(seen - computed + 1, seen + 1) if number > 1 or not self.is_single]
        newest = keys[-1] if keys else 0
        return Flops(
            2 * ((self.depth - 1) * inner + last),
            2 * ((self.depth - 1) * sum(keys) + newest) * self.attention,
        )


def _windows(history: int, known: int, horizon: int) -> Iterator[tuple[int, int]]:
    """For each step, how many frames are computed and how many are seen; all anew once the window slides."""
    oldest = -1
    for step in range(horizon):
        begin = max(0, known + step - history)
        first = step if begin == oldest else max(0, begin - (known - 1))
        oldest = begin
        yield step + 1 - first, known + step - begin
