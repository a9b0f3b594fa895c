"""Arrays to ROS messages; the other way is lewm_ros.observation."""

from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lewm_ros.observation.embeddings import EMBEDDING_ENCODING
from lewm_ros.observation.stamps import NS_PER_S


def ns_to_stamp(time_ns: int) -> Time:
    """The stamp of a time in nanoseconds since the epoch."""
    return Time(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)


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
