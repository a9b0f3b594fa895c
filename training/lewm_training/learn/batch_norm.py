"""BatchNorm between training and evaluation: statistics of the batch, and running ones that stand in for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from lewm_ros.model import LeWorldModel
from lewm_ros.model.inputs import Inputs


def batch_norms(model: LeWorldModel) -> list[_BatchNorm]:
    """Every BatchNorm of the model that learns; those of a frozen encoder stay as they are."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.weight.requires_grad]


@torch.no_grad()
def settle_batch_norm(model: LeWorldModel, batches: Iterable[tuple[Inputs, Tensor]]) -> None:
    """Recompute running statistics as plain averages over `batches` (precise BN: Wu and Johnson, 2105.07576).

    The moving averages of training trail the weights and carry the anchored share of its batches; evaluation in their
    place would inflate the validation loss.

    Args:
        model: what is settled; left in evaluation mode.
        batches: normalised windows of H+1 frames, by name, and z-scored blocks (B, H, A), on the model's device.
    """
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
        norm.train()
    if norms:
        for inputs, actions in batches:
            model.predict(model.encode_windows(inputs)[:, :-1], actions)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


@contextmanager
def batch_statistics(model: LeWorldModel) -> Iterator[None]:
    """Inside, BatchNorm normalises by the batch at hand, as in training, and no running statistics change."""
    norms = batch_norms(model)
    for norm in norms:
        norm.train()
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.eval()
            norm.track_running_stats = True
