"""Times of messages, in nanoseconds since the epoch."""

from __future__ import annotations

from typing import Protocol

NS_PER_S = 1_000_000_000


class Stamp(Protocol):
    """builtin_interfaces/Time or Duration."""

    sec: int
    nanosec: int


class Header(Protocol):
    """std_msgs/Header."""

    stamp: Stamp
    frame_id: str


def stamp_to_ns(stamp: Stamp) -> int:
    """Nanoseconds since the epoch; of a duration, its nanoseconds."""
    return stamp.sec * NS_PER_S + stamp.nanosec
