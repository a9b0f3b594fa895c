"""A stand-in for a camera: publishes a moving test picture, to measure what arrives of it.

    python -m lewm_ros.nodes.tools.camera --frames 180 --rate-hz 20 [--reliable] [--compressed]

The first frame is sent when somebody listens. It ends after the last one, or at SIGINT.
"""

from __future__ import annotations

import argparse
import sys
import time
from array import array

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lewm_ros.nodes.qos import NEWEST, NEWEST_FRAME
from lewm_ros.nodes.runner import refuse

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
PICTURES = 16
LISTENER_TIMEOUT_S = 60.0
SETTLE_S = 0.5
"""The camera knows its listener a little earlier than the other way round."""


class CameraNode(Node):
    """Publishes the pictures in turn, with the time of sending as stamp; compressed ones are compressed then.

    Args:
        width: of the frames, pixels.
        height: of the frames, pixels.
        encoding: of raw frames, one of `CHANNELS`.
        reliable: reliable delivery, else best effort.
        compressed: JPEGs on `image/compressed`, as image_transport sends them, instead of raw frames on `image`.
    """

    def __init__(self, width: int, height: int, encoding: str, reliable: bool, compressed: bool) -> None:
        super().__init__("camera")
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._publisher = self.create_publisher(kind, topic, NEWEST if reliable else NEWEST_FRAME)
        self._compressed = compressed
        self._pictures = [test_picture(width, height, CHANNELS[encoding], k) for k in range(PICTURES)]
        # Messages are made beforehand, so that the camera's own work does not count in what is measured.
        self._messages = [
            Image(
                width=width,
                height=height,
                encoding=encoding,
                step=width * CHANNELS[encoding],
                data=array("B", picture.tobytes()),
            )
            for picture in self._pictures
        ]
        self.sent = 0

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return self._publisher.get_subscription_count() > 0

    def send(self) -> None:
        """Publish the next picture."""
        k = self.sent % PICTURES
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id="camera")
        if self._compressed:
            _, data = cv2.imencode(".jpg", self._pictures[k])
            message = CompressedImage(header=header, format="jpeg", data=array("B", data.tobytes()))
        else:
            message = self._messages[k]
            message.header = header
        self._publisher.publish(message)
        self.sent += 1


def test_picture(width: int, height: int, channels: int, index: int) -> NDArray[np.uint8]:
    """A bar on shaded ground, at another place for every index, with noise: (height, width, channels)."""
    y, x = np.mgrid[0:height, 0:width]
    shade = 60.0 + 90.0 * (x / width)[..., np.newaxis] * np.linspace(1.0, 0.5, channels)
    shade[np.abs(x - y - (index - PICTURES / 2) * width / PICTURES) < width / 16] += 80.0
    noise = np.random.default_rng(index).normal(0.0, 3.0, shade.shape)
    return np.clip(shade + noise, 0, 255).astype(np.uint8)


def main(args: list[str] | None = None) -> int:
    """Run the camera; returns the exit status."""
    parser = argparse.ArgumentParser(prog="camera", description="Publish a moving test picture.")
    parser.add_argument("--width", type=int, default=640, help="pixels (default 640)")
    parser.add_argument("--height", type=int, default=480, help="pixels (default 480)")
    parser.add_argument("--encoding", choices=list(CHANNELS), default="rgb8", help="of raw frames (default rgb8)")
    parser.add_argument("--rate-hz", type=float, default=20.0, help="frames per second (default 20)")
    parser.add_argument("--frames", type=int, default=0, help="how many; 0, the default: until it is interrupted")
    parser.add_argument("--reliable", action="store_true", help="reliable delivery (default: best effort)")
    parser.add_argument("--compressed", action="store_true", help="JPEGs on image/compressed (default: raw on image)")
    options = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    rclpy.init(args=args)
    try:
        node = CameraNode(options.width, options.height, options.encoding, options.reliable, options.compressed)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        deadline_s = time.monotonic() + LISTENER_TIMEOUT_S
        while not node.is_heard:
            if time.monotonic() > deadline_s:
                return refuse("camera", f"nobody listened for {LISTENER_TIMEOUT_S:g} s")
            executor.spin_once(0.05)
        time.sleep(SETTLE_S)
        node.create_timer(1.0 / options.rate_hz, node.send)
        while not options.frames or node.sent < options.frames:
            executor.spin_once()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
