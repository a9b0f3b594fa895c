"""Joint states to positions in a given order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import Header


class JointStateMessage(Protocol):
    """sensor_msgs/JointState."""

    header: Header
    name: Sequence[str]
    position: Sequence[float] | NDArray[np.float64]


def joint_positions(message: JointStateMessage, names: Sequence[str]) -> NDArray[np.float64]:
    """Positions (J,) in the order of `names`; other joints in the message are ignored.

    Raises:
        ValueError: a joint is missing, or a position is missing or not finite.
    """
    received = list(message.name)
    if len(message.position) != len(received):
        raise ValueError(f"{len(received)} joint names but {len(message.position)} positions")
    missing = [name for name in names if name not in received]
    if missing:
        raise ValueError(f"joint '{missing[0]}' is missing; received: {', '.join(received) or 'none'}")
    positions = np.array([message.position[received.index(name)] for name in names], dtype=np.float64)
    for name, position in zip(names, positions, strict=True):
        if not np.isfinite(position):
            raise ValueError(f"joint '{name}': position is {position}")
    return positions
