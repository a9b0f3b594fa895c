"""The /diagnostics of the nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node

PERIOD_S = 1.0
REFRESH_S = 0.1


class Status(NamedTuple):
    """How a node is doing: one of DiagnosticStatus's levels, and why. Numbers that change belong to the values."""

    level: bytes
    message: str

    @classmethod
    def ok(cls, message: str) -> Status:
        return cls(DiagnosticStatus.OK, message)

    @classmethod
    def warn(cls, message: str) -> Status:
        return cls(DiagnosticStatus.WARN, message)

    @classmethod
    def error(cls, message: str) -> Status:
        return cls(DiagnosticStatus.ERROR, message)


class Diagnostics:
    """Publishes a node's status and values once per second, and at once when the status has changed.

    Args:
        node: its name becomes the status' name.
        status: called in the executor's thread; cheap, since it is asked often.
        values: called in the executor's thread for every message.
    """

    def __init__(self, node: Node, status: Callable[[], Status], values: Callable[[], dict[str, Any]]) -> None:
        self._node, self._status, self._values = node, status, values
        self.hardware_id = ""
        self._last: Status | None = None
        silent = PublisherEventCallbacks(use_default_callbacks=False)  # see ManagedNode.create_lifecycle_publisher
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10, event_callbacks=silent)
        # A steady clock, so that a report comes even if simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, self.publish, clock=steady)
        node.create_timer(REFRESH_S, self.refresh, clock=steady)

    def refresh(self) -> None:
        """Publish if the status is another one than last time."""
        if self._status() != self._last:
            self.publish()

    def publish(self) -> None:
        self._last = self._status()
        status = DiagnosticStatus(
            level=self._last.level,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message=self._last.message,
            hardware_id=self.hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in self._values().items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def percentiles(name: str, seconds: Iterable[float]) -> dict[str, str]:
    """Median and 95th percentile of durations, as diagnostics values; "none" without any."""
    measured = list(seconds)
    return {
        f"{name}_p{percent}_s": f"{np.percentile(measured, percent):.4f}" if measured else "none"
        for percent in (50, 95)
    }
