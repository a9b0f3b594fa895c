"""Joint states to positions in a given order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.selection import places
from lewm_ros.observation.stamps import Header


class JointStateMessage(Protocol):
    """sensor_msgs/JointState."""

    header: Header
    name: Sequence[str]
    position: Sequence[float] | NDArray[np.float64]


def joint_positions(message: JointStateMessage, names: Sequence[str]) -> NDArray[np.float64]:
    """Positions (J,) in the order of `names`; other joints in the message are ignored.

    Raises:
        OtherJoints: the message names none of the joints and is to be skipped.
        ValueError: a joint is missing or named twice, or a position is missing or not finite.
    """
    order = places(message.name, names)
    if len(message.position) != len(message.name):
        raise ValueError(f"{len(message.name)} joint names but {len(message.position)} positions")
    positions = np.array([message.position[place] for place in order], dtype=np.float64)
    for name, position in zip(names, positions, strict=True):
        if not np.isfinite(position):
            raise ValueError(f"joint '{name}': position is {position}")
    return positions
