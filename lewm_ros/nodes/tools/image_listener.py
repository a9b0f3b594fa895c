"""Listens to images, and writes down when they came: what arrives of a camera's frames, and how late.

    python -m lewm_ros.nodes.tools.image_listener --out report.json [--reliable] [--compressed]

It ends when nothing has come for a while, or at SIGINT, and then writes as JSON: `latencies_s`, from each image's stamp
to its receipt, and `diagnostics`, the newest values of every node.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from lewm_ros.nodes.qos import NEWEST, NEWEST_FRAME, RELIABLE
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns

QUIET_S = 2.0
FIRST_TIMEOUT_S = 90.0


class ImageListener(Node):
    """Keeps how late each image came, and the newest diagnostics.

    Args:
        reliable: ask for reliable delivery, else best effort.
        compressed: listen to `image/compressed` instead of `image`.
    """

    def __init__(self, reliable: bool, compressed: bool) -> None:
        super().__init__("image_listener")
        self.latencies_s: list[float] = []
        self.diagnostics: dict[str, dict[str, str]] = {}
        self._newest_s = time.monotonic()
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.create_subscription(kind, topic, self._on_image, NEWEST if reliable else NEWEST_FRAME)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return time.monotonic() - self._newest_s > (QUIET_S if self.latencies_s else FIRST_TIMEOUT_S)

    def save(self, path: Path) -> None:
        """Write what was seen."""
        beside = path.with_name(f"{path.name}.writing")
        report = {"latencies_s": self.latencies_s, "diagnostics": self.diagnostics}
        beside.write_text(json.dumps(report) + "\n", encoding="utf-8")
        os.replace(beside, path)

    def _on_image(self, message: Image | CompressedImage) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self._newest_s = time.monotonic()
        self.latencies_s.append((now_ns - stamp_to_ns(message.header.stamp)) / NS_PER_S)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {value.key: value.value for value in status.values}


def main(args: list[str] | None = None) -> int:
    """Listen; returns the exit status."""
    parser = argparse.ArgumentParser(prog="image_listener", description="Write down which images come, and how late.")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--reliable", action="store_true", help="reliable delivery (default: best effort)")
    parser.add_argument("--compressed", action="store_true", help="image/compressed (default: image)")
    options = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    rclpy.init(args=args)
    node = ImageListener(options.reliable, options.compressed)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not node.is_over:
            executor.spin_once(0.1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    node.save(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
