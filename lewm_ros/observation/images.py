"""Camera messages to RGB frames. A message that cannot be used raises ValueError with one line that says why."""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import Header


class ImageMessage(Protocol):
    """sensor_msgs/Image; `data` is whatever numpy reads bytes from."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImageMessage(Protocol):
    """sensor_msgs/CompressedImage."""

    header: Header
    format: str
    data: Any


SAMPLES = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
}
"""Numbers per pixel, with 8 or 16 bits each, and what makes RGB of them."""

BAYER = {
    "bayer_rggb8": cv2.COLOR_BayerRGGB2RGB,
    "bayer_bggr8": cv2.COLOR_BayerBGGR2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGBRG2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGRBG2RGB,
}

YUV_422 = {
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
}

ENCODINGS = (*(f"{name}{bits}" for bits in (8, 16) for name in SAMPLES), *BAYER, *YUV_422)


def image_to_rgb(message: ImageMessage) -> NDArray[np.uint8]:
    """An image of any colour encoding as RGB (height, width, 3); of rgb8 it is the message's own memory.

    Raises:
        ValueError: the encoding is unknown, or the sizes contradict each other.
    """
    encoding, width = message.encoding, message.width
    if encoding not in ENCODINGS:
        raise ValueError(f"image encoding '{encoding}' is unknown; readable: {', '.join(ENCODINGS)}")
    if encoding in BAYER:
        return cv2.cvtColor(pixel_rows(message, width), BAYER[encoding])
    if encoding in YUV_422:
        if width % 2:
            raise ValueError(f"{encoding} image of {width} x {message.height}: the width must be even")
        return cv2.cvtColor(pixel_rows(message, 2 * width).reshape(-1, width, 2), YUV_422[encoding])
    wide = encoding.endswith("16")
    depth, to_rgb = SAMPLES[encoding.rstrip("0123456789")]
    rows = pixel_rows(message, width * depth * (2 if wide else 1))
    if wide:
        values = rows.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16, copy=False)
        rows = cv2.convertScaleAbs(values, alpha=1.0 / 257.0)
    pixels = rows.reshape(-1, width, depth)
    return pixels if to_rgb is None else cv2.cvtColor(pixels, to_rgb)


def compressed_to_rgb(message: CompressedImageMessage) -> NDArray[np.uint8]:
    """A JPEG or PNG as RGB (height, width, 3).

    Raises:
        ValueError: the data is not an image.
    """
    data = np.frombuffer(message.data, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if pixels is None:
        raise ValueError(f"compressed image of format '{message.format}': {data.size} bytes are no JPEG or PNG")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def pixel_rows(message: ImageMessage, row_bytes: int) -> NDArray[np.uint8]:
    """The pixel bytes (height, row_bytes) of an image, without the padding at the end of each row.

    Raises:
        ValueError: the image is empty, or its sizes contradict each other.
    """
    size = f"{message.encoding} image of {message.width} x {message.height}"
    if not (message.width and message.height):
        raise ValueError(f"{size} is empty")
    if message.step < row_bytes:
        raise ValueError(f"{size}: step is {message.step} bytes, expected at least {row_bytes}")
    data = np.frombuffer(message.data, np.uint8)
    if data.size != message.step * message.height:
        raise ValueError(f"{size}: holds {data.size} bytes, expected {message.step * message.height} (step x height)")
    return data.reshape(message.height, message.step)[:, :row_bytes]
