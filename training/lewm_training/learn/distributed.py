"""Data-parallel training: what the processes of a `torchrun` share, so that their batches count as one.

Every process holds the whole model and a share of each batch. Its loss is its share of the global one: shares, and so
their gradients, add up to what a single process with the global batch would get.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lewm_ros.model import SIGReg

TIMEOUT = timedelta(hours=2)
"""How long the others wait for the first process, which alone validates and writes."""

Rows = TypeVar("Rows", bound=np.generic)


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is. The default is the only one."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, batch: NDArray[Rows]) -> NDArray[Rows]:
        """This process's part of a batch; parts differ by one at most."""
        return np.array_split(batch, self.world)[self.rank]

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, without gradients."""
        values = values.detach().clone()
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def read_by_first(self, path: Path, device: torch.device) -> Any | None:
        """The tensors of a file that only the first process needs to see; None in every process if it is missing."""
        content = [path.read_bytes() if self.is_first and path.exists() else None]
        if self.world > 1:
            dist.broadcast_object_list(content, src=0)
        return None if content[0] is None else torch.load(io.BytesIO(content[0]), device, weights_only=True)


def rank_of_environment() -> int:
    """The rank that `torchrun` gave this process, 0 without it."""
    return int(os.environ.get("RANK", 0))


@contextmanager
def joined_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the processes that `torchrun` started (none without it); gives the ranks and this process's device."""
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(), device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


class _SumOverRanks(torch.autograd.Function):
    """The sum over processes. Each has a share of the loss, so that gradients are summed on the way back too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


@torch.compiler.disable
def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, with gradients."""
    return _SumOverRanks.apply(x)


class GlobalSIGReg(SIGReg):
    """SIGReg of the global batch: characteristic functions are sums, and sums can be pooled."""

    def pool(self, sums: Tensor) -> Tensor:
        return sum_over_ranks(sums)


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm over the batches of all processes, whose sizes may differ, on any device.

    Takes the place of `norm` with its parameters and buffers (and the activation that timm fuses into it), under the
    same names. In evaluation mode, or where running statistics are not tracked, nothing is exchanged.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.after = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.track_running_stats):
            return self.after(super().forward(x))
        over = [0, *range(2, x.ndim)]
        per_channel = [1, -1] + [1] * (x.ndim - 2)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count = values.new_tensor([float(x.numel() // x.shape[1])])
        sums = sum_over_ranks(torch.cat([values.sum(over), count]))
        mean, count = sums[:-1] / sums[-1].detach(), sums[-1].detach()
        centred = values - mean.view(per_channel)
        variance = sum_over_ranks(centred.square().sum(over)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1.0))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return self.after((centred * scale.view(per_channel) + self.bias.view(per_channel)).to(x.dtype))

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions after the channels."""


def share_batch_norm(module: nn.Module) -> None:
    """Put `GlobalBatchNorm` in the place of every BatchNorm inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, GlobalBatchNorm(child))
        else:
            share_batch_norm(child)
