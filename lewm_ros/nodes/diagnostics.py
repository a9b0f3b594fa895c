"""The /diagnostics of the nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

PERIOD_S = 1.0


@dataclass(frozen=True)
class Report:
    """How a node is doing. `level` is one of DiagnosticStatus's."""

    level: bytes
    message: str
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def ok(cls, message: str, values: dict[str, Any]) -> Report:
        return cls(DiagnosticStatus.OK, message, values)

    @classmethod
    def warn(cls, message: str, values: dict[str, Any]) -> Report:
        return cls(DiagnosticStatus.WARN, message, values)

    @classmethod
    def error(cls, message: str, values: dict[str, Any]) -> Report:
        return cls(DiagnosticStatus.ERROR, message, values)


class Diagnostics:
    """Publishes a node's report once per second, and at once when `publish` is called.

    Args:
        node: its name becomes the status' name.
        hardware_id: what the report is about, such as the checkpoint's identity.
        report: called in the executor's thread.
    """

    def __init__(self, node: Node, hardware_id: str, report: Callable[[], Report]) -> None:
        self._node, self._hardware_id, self._report = node, hardware_id, report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A steady clock, so that a report comes even if simulated time stands still.
        node.create_timer(PERIOD_S, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        report = self._report()
        status = DiagnosticStatus(
            level=report.level,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message=report.message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in report.values.items()],
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
