"""How a camera's frames come: as they are, or compressed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from lewm_ros.nodes.conversions import CameraMessage, message_to_rgb
from lewm_ros.nodes.parameters import Parameters
from lewm_ros.observation.images import ENCODINGS

TRANSPORTS: dict[str, tuple[type[CameraMessage], str]] = {
    "raw": (Image, "image"),
    "compressed": (CompressedImage, "image/compressed"),
}
AS_THE_MESSAGE_SAYS = "message"


class Transport(NamedTuple):
    """The type of a camera's messages, their topic, and what makes RGB (height, width, 3) of them and of goals."""

    kind: type[CameraMessage]
    topic: str
    to_rgb: Callable[[CameraMessage], NDArray[np.uint8]]


def declare_transport(parameters: Parameters) -> Callable[[], Transport]:
    """Declare `image_transport` and `image_encoding`; returns what gives the transport that they name."""
    name = parameters.declare(
        "image_transport",
        "raw",
        "raw: topic image; compressed: topic image/compressed",
        choices=tuple(TRANSPORTS),
    )
    encoding = parameters.declare(
        "image_encoding",
        AS_THE_MESSAGE_SAYS,
        "what images are that only say an OpenCV type such as 8UC3; message: such images are refused",
        choices=(AS_THE_MESSAGE_SAYS, *ENCODINGS),
    )

    def choose() -> Transport:
        bare = None if encoding() == AS_THE_MESSAGE_SAYS else encoding()
        return Transport(*TRANSPORTS[name()], partial(message_to_rgb, bare=bare))

    return choose
