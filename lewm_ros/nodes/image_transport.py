"""How a camera's frames come: as they are, or compressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from lewm_ros.nodes.parameters import Parameters
from lewm_ros.observation.images import compressed_to_rgb, image_to_rgb

CameraMessage = Image | CompressedImage


class Transport(NamedTuple):
    """The type of a camera's messages, their topic, and what makes RGB (height, width, 3) of them."""

    kind: type[CameraMessage]
    topic: str
    to_rgb: Callable[[CameraMessage], NDArray[np.uint8]]


TRANSPORTS = {
    "raw": Transport(Image, "image", image_to_rgb),
    "compressed": Transport(CompressedImage, "image/compressed", compressed_to_rgb),
}


def declare_transport(parameters: Parameters) -> Callable[[], Transport]:
    """Declare the parameter `image_transport`; returns what gives the transport that it names."""
    name = parameters.declare(
        "image_transport",
        "raw",
        "raw: topic image; compressed: topic image/compressed",
        choices=tuple(TRANSPORTS),
    )
    return lambda: TRANSPORTS[name()]
