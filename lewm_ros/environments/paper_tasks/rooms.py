"""The two rooms of TwoRoom, and how a disk moves in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lewm_ros.environments.environment import Array

CONTACT_GAP = 1e-3
"""Pixels that are left between the disk and what stops it."""

SLIDES = 2
"""A step can be stopped by one wall, slide along it, and be stopped by another."""


@dataclass(frozen=True)
class Rooms:
    """Where the centre of the disk may be: in either room, and in the doorways where the whole disk fits through.

    Corners count as square, so that the disk keeps its radius from them in both directions. All in pixels.

    Args:
        low, high: of the rooms, in both directions.
        across: the direction in which the wall is passed, 0 for x and 1 for y.
        wall: where the wall begins and ends in that direction.
        solid: where it has no doorway, intervals in the other direction.
    """

    low: float
    high: float
    across: int
    wall: tuple[float, float]
    solid: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, env: Any) -> Rooms:
        """The rooms of stable-worldmodel's TwoRoom as it stands now."""
        space = env.variation_space
        radius, half = float(space["agent"]["radius"].value.item()), int(space["wall"]["thickness"].value) // 2
        count, edge = int(space["door"]["number"].value), env.BORDER_SIZE + radius
        places, sizes = (np.asarray(space["door"][key].value, float)[:count] for key in ("position", "size"))
        doors = sorted((p - s + radius, p + s - radius) for p, s in zip(places, sizes, strict=True) if s >= radius)
        ends = [0.0, *(float(end) for door in doors for end in door), float(env.IMG_SIZE)]
        return cls(
            low=edge,
            high=env.IMG_SIZE - edge,
            across=0 if int(space["wall"]["axis"].value) == 1 else 1,
            wall=(env.WALL_CENTER - half - radius, env.WALL_CENTER + half + radius),
            solid=tuple((a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b),
        )

    def side(self, position: Array) -> int:
        """-1 in the first room, 1 in the second, 0 in the wall or a doorway."""
        place = position[self.across]
        return -1 if place <= self.wall[0] else 1 if place >= self.wall[1] else 0

    def is_free(self, position: Array) -> bool:
        """Whether the whole disk is clear of everything there (2,)."""
        inside = bool((position >= self.low).all() and (position <= self.high).all())
        along = position[1 - self.across]
        return inside and (self.side(position) != 0 or not any(low < along < high for low, high in self.solid))

    def move(self, start: Array, wanted: Array) -> Array:
        """Where the disk comes to on a straight way (2,) -> (2,); what stops it, it slides along."""
        start, wanted = np.asarray(start, float), np.clip(wanted, self.low, self.high)
        for _ in range(SLIDES):
            hit = min((hit for interval in self.solid if (hit := self._hit(start, wanted, interval))), default=None)
            if hit is None:
                return wanted
            time, direction = hit
            way = wanted - start
            start = start + time * way
            start[direction] -= CONTACT_GAP * np.sign(way[direction])
            wanted[direction] = start[direction]
        return start if self._hit_any(start, wanted) else wanted

    def is_legal(self, start: Array, end: Array) -> bool:
        """Whether the disk can go straight from one place (2,) to the other."""
        return self.is_free(start) and self.is_free(end) and not self._hit_any(start, end)

    def _hit_any(self, start: Array, end: Array) -> bool:
        return any(self._hit(start, end, interval) for interval in self.solid)

    def _hit(self, start: Array, end: Array, solid: tuple[float, float]) -> tuple[float, int] | None:
        """When, as a share of the way, and in which direction a piece of the wall is run into; None: never."""
        low, high = np.empty(2), np.empty(2)
        (low[self.across], high[self.across]), (low[1 - self.across], high[1 - self.across]) = self.wall, solid
        way = np.asarray(end, float) - start
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.sort(np.stack([(low - start) / way, (high - start) / way]), axis=0)
        between = (start > low) & (start < high)
        enters = np.where(way == 0.0, np.where(between, -np.inf, np.inf), times[0])
        leaves = np.where(way == 0.0, np.where(between, np.inf, -np.inf), times[1])
        direction = int(np.argmax(enters))
        enter = enters[direction]
        return (float(enter), direction) if 0.0 <= enter < min(1.0, leaves.min()) else None


RELEASED = Rooms(low=21.0, high=203.0, across=0, wall=(100.0, 124.0), solid=((0.0, 42.0), (56.0, 224.0)))
"""Those of the released dataset: a door of 28 pixels, a disk of radius 7, a wall of 10."""
