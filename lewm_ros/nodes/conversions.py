"""Camera messages to images, and arrays to ROS messages; the other messages are read by lewm_ros.observation."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lewm_ros.nodes.bridge import BRIDGE, READ_BY_BRIDGE, WRITTEN_BY_BRIDGE, Array, plain_image
from lewm_ros.observation.embedding_images import EMBEDDING_ENCODING
from lewm_ros.observation.images import compressed_to_rgb, image_to_rgb, pixel_rows, row_bytes
from lewm_ros.observation.stamps import NS_PER_S

CameraMessage = Image | CompressedImage


def ns_to_stamp(time_ns: int) -> Time:
    """The stamp of a time in nanoseconds since the epoch."""
    return Time(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)


def message_to_rgb(message: CameraMessage, bare: str | None = None) -> NDArray[np.uint8]:
    """A camera's message as RGB (height, width, 3); of rgb8 it may be the message's own memory.

    Args:
        message: raw or compressed.
        bare: as for `lewm_ros.observation.images.image_to_rgb`.

    Raises:
        ValueError: it cannot be read.
    """
    if isinstance(message, CompressedImage):
        # cv_bridge ignores the format: a mosaic would stay one, and depth would pass as grey.
        return compressed_to_rgb(message, bare)
    encoding = message.encoding
    # cv_bridge takes padding for pixels, and fails at the other byte order under numpy 2.
    if encoding in READ_BY_BRIDGE and message.step == row_bytes(encoding, message.width) and not message.is_bigendian:
        pixel_rows(message, message.step)  # raises if the sizes contradict each other, of which cv_bridge says nothing
        return BRIDGE.imgmsg_to_cv2(message, "rgb8")
    return image_to_rgb(message, bare)


def rgb_to_image(pixels: NDArray[np.uint8], header: Header) -> Image:
    """RGB (height, width, 3) as an rgb8 image."""
    return array_to_image(pixels, "rgb8", header)


def matrix_to_image(matrix: NDArray[np.float32], header: Header) -> Image:
    """A matrix (rows, columns) of floats, such as an embedding of a token per row, as a 32FC1 image."""
    return array_to_image(np.ascontiguousarray(matrix, "<f4"), EMBEDDING_ENCODING, header)


def array_to_image(samples: Array, encoding: str, header: Header) -> Image:
    """Samples (height, width) or (height, width, channels) of this encoding as an image."""
    # cv_bridge divides by the height, which is 0 in the message that withdraws a goal.
    by_bridge = encoding in WRITTEN_BY_BRIDGE and samples.size
    image = BRIDGE.cv2_to_imgmsg(samples, encoding) if by_bridge else plain_image(samples, encoding)
    image.header = header
    return image
