"""What is perceived at one instant, wherever it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """Named frames and vectors of one time.

    Args:
        frames: of every camera, RGB (height, width, 3).
        vectors: such as joint positions (J,), in their own units.
        stamp_ns: when; 0 where nobody asks.
    """

    frames: Mapping[str, Frame]
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    stamp_ns: int = 0
