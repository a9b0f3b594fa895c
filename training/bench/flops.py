"""Floating-point operations of a plan: matrix products and attention, two for each multiplication and addition.

What is left out (norms, activations, residuals, costs) is linear in the width and well below one in a hundred. Counted
is the search: samples x iterations rollouts over the horizon, and once what all candidates share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lewm_ros.config import ModelConfig, PatchConfig

ACTION_MLP_RATIO = 4
"""Of the action encoder: its hidden width over its width."""


@dataclass(frozen=True)
class Flops:
    """Of matrix products with weights, and of attention between tokens."""

    matmul: int
    attention: int

    @property
    def total(self) -> int:
        return self.matmul + self.attention

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.matmul + other.matmul, self.attention + other.attention)

    def __mul__(self, times: int) -> Flops:
        return Flops(times * self.matmul, times * self.attention)


def flops_per_plan(
    config: ModelConfig | PatchConfig, samples: int, iterations: int, horizon: int, known: int | None = None
) -> Flops:
    """What `Rollout` or `PatchRollout` executes for one plan.

    Args:
        config: of the model, whose kind says which of the two.
        samples, iterations, horizon: of the search.
        known: frames that it starts from; the model's history if None.
    """
    known = known or config.history
    return shared_flops(config, known, horizon) + candidate_flops(config, known, horizon) * (samples * iterations)


def reference_flops(config: ModelConfig | PatchConfig, samples: int, horizon: int, known: int) -> Flops:
    """What the model's own `rollout` executes: every frame of every window, for every candidate."""
    layer = _Layer.of(config)
    actions = _reference_action_macs(config) + config.predictor.depth * layer.modulation
    total = _flops(actions * (known - 1 + horizon), 0)
    for step in range(horizon):
        window = min(config.history, known + step)
        keys = sum(range(1, window + 1)) * layer.tokens
        total += _flops(config.predictor.depth * layer.tokens * window * layer.token, 0)
        total += _flops(layer.into * window + layer.out * window ** isinstance(config, PatchConfig), 0)
        total += _flops(0, config.predictor.depth * layer.attention(keys))
    return total * samples


def candidate_flops(config: ModelConfig | PatchConfig, known: int, horizon: int) -> Flops:
    """Of one rollout of one candidate."""
    layer = _Layer.of(config)
    total = _flops(horizon * (_action_macs(config) + config.predictor.depth * layer.modulation), 0)
    for computed, seen in _windows(config.history, known, horizon):
        total += layer.predict(config.predictor.depth, computed, seen)
        total += _flops(layer.out, 0)
    return total + _flops((horizon - 1) * layer.into, 0)


def shared_flops(config: ModelConfig | PatchConfig, known: int, horizon: int) -> Flops:
    """Of what all candidates share: the frames before the newest, at each place in the window that they come to have."""
    layer = _Layer.of(config)
    past = known - 1
    total = _flops(past * (_action_macs(config) + config.predictor.depth * layer.modulation) + known * layer.into, 0)
    begins = {max(0, known + step - config.history) for step in range(horizon)}
    for begin in (begin for begin in begins if begin < past):
        total += layer.predict(config.predictor.depth, past - begin, past - begin) + _flops(layer.out, 0)
    return total
