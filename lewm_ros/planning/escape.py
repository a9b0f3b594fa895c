"""Out of a standstill: a policy that gets nowhere does for a moment what it might as well have done.

A policy says the median of what demonstrators did. Where some of them went down onto an object that lay a little aside,
and others up for another attempt, the median is to stand still, and the robot then stands there for good. What is drawn
from the policy's distribution leads out of there, in the directions in which demonstrators differed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.config import setting
from lewm_ros.observation.stamps import NS_PER_S

Array = NDArray[np.float64]

STANDSTILL = 0.3
"""Standard deviations of the actions: a robot whose every channel moved less than that on average gets nowhere."""

MOST = 2.0
"""Mean absolute deviations by which what is drawn may differ from the median."""


@dataclass(frozen=True)
class EscapeSettings:
    """When a policy has got stuck, and for how long it then does something else."""

    stuck_s: float = setting(
        1.0, "a policy that gets nowhere for so long, away from the goal, draws what to do; 0: never", "s", 0.0, 1e3
    )
    escape_s: float = setting(0.4, "so long it does what was drawn", "s", 0.01, 60.0)
    stuck_steps: float = setting(
        40.0, "with fewer steps left to the goal, standing still is being there", "control steps", 0.0, 1_000.0
    )


class Escape:
    """Watches the actions of a policy, and draws others when they lead nowhere.

    Args:
        settings: when and for how long.
        moving: which channels (dim,) move the robot; the others are never drawn.
        generator: for the draws.
    """

    def __init__(self, settings: EscapeSettings, moving: Array, generator: torch.Generator) -> None:
        self._stuck_ns, self._escape_ns = (round(s * NS_PER_S) for s in (settings.stuck_s, settings.escape_s))
        self._stuck_steps, self._moving, self._generator = settings.stuck_steps, moving, generator
        self.forget()

    @property
    def watched_ns(self) -> int:
        """How far back the actions must be known; 0: it is switched off."""
        return self._stuck_ns

    def forget(self) -> None:
        """Begin anew: the robot stands still, as it should."""
        self._since_ns: int | None = None
        self._until_ns: int | None = None
        self._drawn: Tensor | None = None

    def saw(self, stamp_ns: int, actions: Array, left: Callable[[], float]) -> Tensor | None:
        """What to add to the policy's medians, in its mean absolute deviations (dim,); None: nothing.

        Args:
            stamp_ns: of the frame.
            actions: z-scored (n, dim), executed in the last `watched_ns`.
            left: tells the control steps left to the goal; asked only of a robot that stands still.
        """
        if self._until_ns is not None and stamp_ns < self._until_ns:
            return self._drawn
        if self._drawn is not None or self._since_ns is None:
            self._drawn, self._since_ns = None, stamp_ns
        stands = stamp_ns - self._since_ns >= self._stuck_ns and self._stands(actions)
        if stands and left() > self._stuck_steps:
            self._until_ns, self._drawn = stamp_ns + self._escape_ns, self._draw()
        return self._drawn

    def _stands(self, actions: Array) -> bool:
        return bool((np.abs(actions[:, self._moving].mean(0)) < STANDSTILL).all())

    def _draw(self) -> Tensor:
        drawn = laplace((len(self._moving),), self._generator).clamp(-MOST, MOST)
        return torch.where(torch.as_tensor(self._moving, device=drawn.device), drawn, 0.0)


def laplace(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws of a Laplace distribution around 0 of scale 1."""
    chance = torch.rand(shape, generator=generator, device=generator.device) - 0.5
    return -chance.sign() * torch.log1p(-2.0 * chance.abs().clamp_max(0.499999))
