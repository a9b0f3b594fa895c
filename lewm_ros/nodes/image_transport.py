"""How cameras' frames come: on which topics, as they are or compressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from lewm_ros.nodes.conversions import CameraMessage, message_to_rgb
from lewm_ros.nodes.parameters import Parameters
from lewm_ros.observation.images import ENCODINGS

TRANSPORTS: dict[str, tuple[type[CameraMessage], str]] = {
    "raw": (Image, ""),
    "compressed": (CompressedImage, "/compressed"),
}
"""The type of a camera's messages, and what follows its topic's name."""
AS_THE_MESSAGE_SAYS = "message"


def camera_topics(cameras: Sequence[str], topic: str = "image") -> dict[str, str]:
    """The topic of every camera, by its name: the only camera's is `topic`, of several each has it under its name."""
    return {name: topic if len(cameras) == 1 else f"{name}/{topic}" for name in cameras}


class Transport(NamedTuple):
    """The type of cameras' messages, what follows their topics, and what makes RGB (height, width, 3) of a message."""

    kind: type[CameraMessage]
    suffix: str
    to_rgb: Callable[[CameraMessage], NDArray[np.uint8]]

    def topics(self, cameras: Sequence[str]) -> dict[str, str]:
        """The topic of every camera, by its name."""
        return {name: f"{topic}{self.suffix}" for name, topic in camera_topics(cameras).items()}


def declare_transport(parameters: Parameters) -> Callable[[], Transport]:
    """Declare `image_transport` and `image_encoding`; returns what gives the transport that they name."""
    name = parameters.declare(
        "image_transport",
        "raw",
        "raw: topics image; compressed: topics image/compressed",
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
