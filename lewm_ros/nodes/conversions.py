"""ROS messages to arrays and back. Every message that cannot be used raises ValueError with one line that says why."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

RGB_CHANNELS = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
}
"""Bytes per pixel, and which of them are red, green and blue."""

EMBEDDING_ENCODING = "32FC1"
NS_PER_S = 1_000_000_000


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def ns_to_stamp(time_ns: int) -> Time:
    """The stamp of a time in nanoseconds since the epoch."""
    return Time(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)


def image_to_rgb(message: Image) -> NDArray[np.uint8]:
    """An image of any colour encoding as RGB (height, width, 3).

    Raises:
        ValueError: the encoding is unknown, or the sizes contradict each other.
    """
    if message.encoding not in RGB_CHANNELS:
        return _through_cv_bridge(message)
    depth, channels = RGB_CHANNELS[message.encoding]
    rows = _rows(message, message.width * depth)
    pixels = rows.reshape(message.height, message.width, depth)
    return np.ascontiguousarray(pixels[..., channels])


def _rows(message: Image, row_bytes: int) -> NDArray[np.uint8]:
    """The pixel bytes (height, row_bytes) of an image, without the padding at the end of each row."""
    size = f"{message.encoding} image of {message.width} x {message.height}"
    if not (message.width and message.height):
        raise ValueError(f"{size} is empty")
    if message.step < row_bytes:
        raise ValueError(f"{size}: step is {message.step} bytes, expected at least {row_bytes}")
    data = np.frombuffer(message.data, np.uint8)
    if data.size != message.step * message.height:
        raise ValueError(f"{size}: holds {data.size} bytes, expected {message.step * message.height} (step x height)")
    return data.reshape(message.height, message.step)[:, :row_bytes]


def _through_cv_bridge(message: Image) -> NDArray[np.uint8]:
    known = ", ".join(RGB_CHANNELS)
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise ValueError(
            f"image encoding '{message.encoding}' needs cv_bridge, which is not installed; without it: {known}"
        ) from None
    try:
        return CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (CvBridgeError, cv2.error, KeyError, TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"image encoding '{message.encoding}' is unknown to cv_bridge as a colour image; always readable: {known}"
        ) from None


def compressed_to_rgb(message: CompressedImage) -> NDArray[np.uint8]:
    """A JPEG or PNG as RGB (height, width, 3).

    Raises:
        ValueError: the data is not an image.
    """
    data = np.frombuffer(message.data, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if pixels is None:
        raise ValueError(f"compressed image of format '{message.format}': {data.size} bytes are no JPEG or PNG")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def rgb_to_image(pixels: NDArray[np.uint8], header: Header) -> Image:
    """RGB (height, width, 3) as an rgb8 image."""
    height, width, _ = pixels.shape
    data = array("B", pixels.tobytes())
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def matrix_to_image(matrix: NDArray[np.float32], header: Header) -> Image:
    """A matrix (rows, columns) of floats as a 32FC1 image."""
    rows, columns = matrix.shape
    data = array("B", np.ascontiguousarray(matrix, "<f4").tobytes())
    return Image(header=header, height=rows, width=columns, encoding=EMBEDDING_ENCODING, step=4 * columns, data=data)


def embedding_to_image(embedding: NDArray[np.float32], header: Header) -> Image:
    """An embedding (D,) as a 32FC1 image of one row."""
    return matrix_to_image(embedding[np.newaxis], header)


def image_to_embedding(message: Image, dimension: int) -> NDArray[np.float32]:
    """The embedding (D,) in a 32FC1 image of one row.

    Raises:
        ValueError: it is another kind of image, has another dimension or is not finite.
    """
    if message.encoding != EMBEDDING_ENCODING or message.height != 1 or message.width != dimension:
        raise ValueError(
            f"expected {EMBEDDING_ENCODING} of 1 x {dimension} as this checkpoint's embedding, "
            f"got {message.encoding} of {message.height} x {message.width}"
        )
    order = ">f4" if message.is_bigendian else "<f4"
    embedding = _rows(message, 4 * dimension)[0].view(order).astype(np.float32)
    if not np.isfinite(embedding).all():
        raise ValueError("embedding is not finite; check the camera image and the encoder")
    return embedding


def joint_positions(message: JointState, names: Sequence[str]) -> NDArray[np.float64]:
    """Positions (J,) in the order of `names`; other joints in the message are ignored.

    Raises:
        ValueError: a joint is missing, or a position is missing or not finite.
    """
    received = list(message.name)
    if len(message.position) != len(received):
        raise ValueError(f"{len(received)} joint names but {len(message.position)} positions")
    missing = [name for name in names if name not in received]
    if missing:
        raise ValueError(f"joint '{missing[0]}' is missing; received: {', '.join(received) or 'none'}")
    positions = np.array([message.position[received.index(name)] for name in names], dtype=np.float64)
    for name, position in zip(names, positions, strict=True):
        if not np.isfinite(position):
            raise ValueError(f"joint '{name}': position is {position}")
    return positions
