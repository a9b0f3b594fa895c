"""A training that has come to infinity is told to end before anything of it is written."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

from lewm_ros.config import ConfigError


def require_finite(label: str, losses: Iterable[float], model: nn.Module | None = None) -> None:
    """Raise ConfigError unless the losses, and the weights of the model if there is one, are finite.

    Args:
        label: how far the training is.
        losses: of this step or epoch.
        model: as it stands after it.
    """
    weights = model.parameters() if model else ()
    if not all(map(math.isfinite, losses)) or not all(weight.isfinite().all() for weight in weights):
        raise ConfigError(f"{label}: the loss is not finite; lower learning_rate or set precision to fp32")
