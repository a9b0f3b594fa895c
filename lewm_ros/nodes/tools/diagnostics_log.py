"""Writes what every node says on /diagnostics to a file, one JSON line per status.

python -m lewm_ros.nodes.tools.diagnostics_log --out diagnostics.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TextIO

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from lewm_ros.nodes.qos import RELIABLE
from lewm_ros.nodes.runner import spin_until_interrupted


class DiagnosticsLog(Node):
    """Appends to `out`; times are a steady clock's, since the stamps' clock may be the simulator's."""

    def __init__(self, out: TextIO) -> None:
        super().__init__("diagnostics_log")
        self._out = out
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            line = {
                "time_s": round(time.monotonic(), 3),
                "name": status.name,
                "level": int.from_bytes(status.level, "little"),
                "message": status.message,
                "values": {value.key: value.value for value in status.values},
            }
            self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM."""
    arguments = sys.argv[1:] if args is None else args
    parser = argparse.ArgumentParser(prog="diagnostics_log", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file to append to")
    options = parser.parse_args(remove_ros_args(arguments))
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    with options.out.open("a", encoding="utf-8") as out:
        node = DiagnosticsLog(out)
        try:
            spin_until_interrupted(node)
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
