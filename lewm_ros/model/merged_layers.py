"""The predictor's layers as planning computes them: those without a nonlinearity between them are merged.

That is the two of the action encoder, LayerNorm's gain and bias with the layer after it, and BatchNorm with the layer
before it. They are frozen copies: what the model learns later is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm_ros.model.predictor import ActionEncoder, ConditionalBlock


@dataclass(frozen=True)
class Affine:
    """y = x W^T + b, in the precision of the rollout."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Affine:
        """A copy of `weight` (out, in) and `bias` (out,)."""
        return cls(weight.to(dtype).contiguous(), bias.to(dtype).contiguous())

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True)
class Layer:
    """One ConditionalBlock. The attention's scale is part of `query`, and scales come with their 1 added."""

    modulation: Affine
    query: Affine
    key_value: Affine
    query_key_value: Affine
    attention_out: Affine
    mlp_in: Affine
    mlp_out: Affine

    @classmethod
    def of(cls, block: ConditionalBlock, dtype: torch.dtype) -> Layer:
        """The block, merged."""
        attention, mlp = block.attention, block.mlp
        weight, bias = after_norm(attention.norm, attention.qkv.weight, None)
        inner = weight.shape[0] // 3
        scale = torch.ones_like(bias)
        scale[:inner] = (inner // attention.heads) ** -0.5
        weight, bias = weight * scale[:, None], bias * scale
        modulation = block.modulation[-1]
        ones = torch.zeros_like(modulation.bias).view(6, -1)
        ones[[1, 4]] = 1.0
        return cls(
            modulation=Affine.of(modulation.weight, modulation.bias + ones.flatten(), dtype),
            query=Affine.of(weight[:inner], bias[:inner], dtype),
            key_value=Affine.of(weight[inner:], bias[inner:], dtype),
            query_key_value=Affine.of(weight, bias, dtype),
            attention_out=Affine.of(attention.out[0].weight, attention.out[0].bias, dtype),
            mlp_in=Affine.of(*after_norm(mlp[0], mlp[1].weight, mlp[1].bias), dtype),
            mlp_out=Affine.of(mlp[4].weight, mlp[4].bias, dtype),
        )


class ActionModulation:
    """From actions to every layer's AdaLN modulation, as one matmul per layer for all actions."""

    def __init__(self, encoder: ActionEncoder, layers: Iterable[Layer], dtype: torch.dtype) -> None:
        first, second, _, third = encoder.layers
        self._into = Affine.of(second.weight @ first.weight, second.weight @ first.bias + second.bias, dtype)
        self._out = Affine.of(third.weight, third.bias, dtype)
        self._layers = list(layers)

    @property
    def affines(self) -> tuple[Affine, Affine]:
        """Its own layers, those of the action encoder."""
        return self._into, self._out

    def __call__(self, actions: Tensor) -> list[Tensor]:
        """Z-scored blocks (..., A) -> each layer's modulations (6, ..., D), scales with their 1 added."""
        condition = F.silu(self._out(F.silu(self._into(actions))))
        return [layer.modulation(condition).unflatten(-1, (6, -1)).movedim(-2, 0) for layer in self._layers]


class Head:
    """The predictor's last norm and what makes a state of its tokens: a projector, or a linear layer and a norm."""

    def __init__(self, before: nn.LayerNorm, head: nn.Sequential, dtype: torch.dtype) -> None:
        self._before_eps = before.eps
        self._out: Affine | None = None
        self.affines: tuple[Affine, ...]
        self._after: nn.LayerNorm | None = None
        if len(head) == 2:
            linear, self._after = head
            self._into = Affine.of(*after_norm(before, linear.weight, linear.bias), dtype)
            self.affines = (self._into,)
            return
        into, batch_norm, _, out = head
        gain = batch_norm.weight * torch.rsqrt(batch_norm.running_var + batch_norm.eps)
        bias = (into.bias - batch_norm.running_mean) * gain + batch_norm.bias
        self._into = Affine.of(*after_norm(before, into.weight * gain[:, None], bias), dtype)
        self._out = Affine.of(out.weight, out.bias, dtype)
        self.affines = (self._into, self._out)

    def __call__(self, x: Tensor) -> Tensor:
        """Tokens (..., W) -> (..., D)."""
        y = self._into(norm(x, self._before_eps))
        return self._out(F.gelu(y)).float() if self._out else norm(y.float(), self._after.eps)


def norm(x: Tensor, eps: float) -> Tensor:
    """LayerNorm without gain and bias."""
    return F.layer_norm(x, (x.shape[-1],), eps=eps)


def after_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer that takes in the gain and bias of the LayerNorm before it."""
    merged = weight @ norm.bias
    return weight * norm.weight, merged if bias is None else merged + bias
