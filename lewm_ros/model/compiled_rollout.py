"""Rollouts compiled by torch: fewer passes over memory, and weights laid out once for the processor's matmuls."""

from __future__ import annotations

import logging
from functools import partial

import torch
from torch import Tensor, nn

from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.rollout import Imagination, Rollout

LOG = logging.getLogger(__name__)


def make_rollout(model: LeWorldModel, precision: str, compiled: bool) -> Rollout:
    """The rollout that a planner's configuration asks for."""
    return CompiledRollout(model, precision) if compiled else Rollout(model, precision)


class CompiledRollout(Rollout):
    """A `Rollout` of which whole plans go through torch.compile, once for every shape that they come in.

    On the CPU that needs a C++ compiler, and about a minute for a model of the paper's sizes; what was compiled is kept
    on disk. Where it fails there is one warning, and plans are rolled out as they are. With gradients, and where every
    block is chosen by the state before it (`Imagination.follow`), nothing is compiled.
    """

    def __init__(self, model: LeWorldModel, precision: str = "fp32") -> None:
        super().__init__(model, precision)
        from torch._inductor import config  # which takes a second, that only who compiles has to wait

        self._compiled: nn.Module | None = torch.compile(_Frozen(self), dynamic=False)
        # Weights are constants, laid out for the matmuls when these are compiled.
        self._freezing = partial(config.patch, freezing=True)

    @property
    def compiles(self) -> bool:
        """False from when it was found that it cannot."""
        return self._compiled is not None

    def start(self, z: Tensor, past_actions: Tensor) -> Imagination:
        """See `Rollout.start`."""
        return _CompiledImagination(self, z, past_actions)

    def imagine(self, z: Tensor, past_actions: Tensor, plans: Tensor) -> Tensor | None:
        """The states that plans lead to; None if they are not to be compiled, or cannot be."""
        if self._compiled is None or torch.is_grad_enabled():
            return None
        try:
            with self._freezing():
                return self._compiled(z, past_actions, plans)
        except RuntimeError as error:
            LOG.warning("rollouts cannot be compiled and run as they are: %s", str(error).splitlines()[0])
            self._compiled = None
            return None


class _CompiledImagination(Imagination):
    def __init__(self, rollout: CompiledRollout, z: Tensor, past_actions: Tensor) -> None:
        super().__init__(rollout, z, past_actions)
        self._compiled, self._begin = rollout, (z, past_actions)

    def _imagine(self, plans: Tensor) -> Tensor:
        states = self._compiled.imagine(*self._begin, plans)
        return super()._imagine(plans) if states is None else states


class _Frozen(nn.Module):
    """What is compiled, with all weights as its own: only of these does torch know that they stay as they are."""

    def __init__(self, rollout: Rollout) -> None:
        super().__init__()
        self._rollout = rollout
        for number, weight in enumerate(rollout.weights):
            self.register_buffer(f"weight_{number}", weight)

    def forward(self, z: Tensor, past_actions: Tensor, plans: Tensor) -> Tensor:
        return Imagination(self._rollout, z, past_actions)(plans)
