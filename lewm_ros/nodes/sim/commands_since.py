"""Which commands are too old: those that were published before a reset."""

from __future__ import annotations

from typing import Any


def was_published_before(info: dict[str, Any], time_ns: int) -> bool:
    """Whether a message is older than a wall time; one counts as new whose middleware tells no time.

    Args:
        info: of the message, from rclpy. Where the middleware does not know when it was published, that is 0.
        time_ns: the wall time.
    """
    return 0 < (info["source_timestamp"] or info["received_timestamp"]) < time_ns
