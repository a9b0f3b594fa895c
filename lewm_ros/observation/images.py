"""Camera messages to RGB frames. A message that cannot be used raises ValueError with one line that says why."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import Header

Samples = NDArray[np.uint8] | NDArray[np.uint16]


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


class Encoding(NamedTuple):
    """How pixels are sampled, and OpenCV's code of what makes RGB of them; None if they are RGB."""

    channels: int
    bits: int
    to_rgb: int | None

    @property
    def bare_type(self) -> str:
        """The OpenCV type, which says nothing of the colours."""
        return f"{self.bits}UC{self.channels}"


COLOURS = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg": (1, cv2.COLOR_BayerGRBG2RGB),
}
"""Samples per pixel, with 8 or 16 bits each, and what makes RGB of them."""

YUV_422 = {
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
}

ENCODINGS = {
    f"{name}{bits}": Encoding(channels, bits, to_rgb)
    for bits in (8, 16)
    for name, (channels, to_rgb) in COLOURS.items()
} | {name: Encoding(2, 8, to_rgb) for name, to_rgb in YUV_422.items()}

BARE_TYPE = re.compile(r"\d+[USF](C\d+)?")
CONVERTED_TO = re.compile(r"\bcompressed +(\w+)")

FILE_ENCODINGS = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC3": "bgr16", "16UC4": "bgra16"}
"""As what OpenCV decodes files that say their own colours. 16 grey bits may as well be depth."""


def image_to_rgb(message: ImageMessage, bare: str | None = None) -> NDArray[np.uint8]:
    """An image of any colour encoding as RGB (height, width, 3); of rgb8 it is the message's own memory.

    Args:
        message: what the camera sent.
        bare: one of `ENCODINGS`, for an image that says no more than its OpenCV type, such as 8UC3; None: that is
            refused.

    Raises:
        ValueError: the encoding is unknown or says no colours, or the sizes contradict each other.
    """
    encoding = name_encoding(message.encoding, bare)
    channels, bits, _ = ENCODINGS[encoding]
    rows = pixel_rows(message, row_bytes(encoding, message.width))
    if bits == 16:
        rows = rows.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    return samples_to_rgb(rows.reshape(message.height, message.width, channels), encoding)


def compressed_to_rgb(message: CompressedImageMessage, bare: str | None = None) -> NDArray[np.uint8]:
    """A JPEG, a PNG or what else OpenCV decodes, as RGB (height, width, 3).

    Args:
        message: its `format` is a codec, or `ENCODING; CODEC compressed [ENCODING]` as image_transport writes it.
        bare: as for `image_to_rgb`.

    Raises:
        ValueError: the data is not an image, or one of an encoding that `image_to_rgb` refuses.
    """
    try:
        said = compressed_encoding(message.format, bare)
        samples = decode(np.frombuffer(message.data, np.uint8))
        return samples_to_rgb(samples, decoded_encoding(said, samples, bare))
    except ValueError as error:
        raise ValueError(f"compressed image of format '{message.format}': {error}") from None


def samples_to_rgb(samples: Samples, encoding: str) -> NDArray[np.uint8]:
    """Samples (height, width, channels) of one of the `ENCODINGS` as RGB (height, width, 3).

    Raises:
        ValueError: the colours of pairs of pixels, and an odd width.
    """
    if encoding in YUV_422 and samples.shape[1] % 2:
        raise ValueError(f"{encoding} image of {samples.shape[1]} x {samples.shape[0]}: the width must be even")
    to_rgb = ENCODINGS[encoding].to_rgb
    rgb = samples if to_rgb is None else cv2.cvtColor(samples, to_rgb)
    return rgb if rgb.dtype == np.uint8 else cv2.convertScaleAbs(rgb, alpha=1.0 / 257.0)


def name_encoding(said: str, bare: str | None) -> str:
    """The one of `ENCODINGS` that an image has: what it says, or `bare` if it says no more than that one's type.

    Raises:
        ValueError: it has none.
    """
    if said in ENCODINGS:
        return said
    if bare is not None and ENCODINGS[bare].bare_type == said:
        return bare
    fitting = [name for name, encoding in ENCODINGS.items() if encoding.bare_type == said]
    if fitting:
        raise ValueError(
            f"image encoding '{said}' does not say its colours, and depth has none; "
            f"if these are colours, name them by image_encoding: {', '.join(fitting)}"
        )
    raise ValueError(f"image encoding '{said}' is unknown; readable: {', '.join(ENCODINGS)}")


def compressed_encoding(text: str, bare: str | None) -> str | None:
    """What the format of a compressed image says of the samples that went into the codec; None if nothing.

    Before the semicolon stands the encoding of the raw image; at the end, if image_transport converted it for the
    codec, what to: `rgb8; jpeg compressed bgr8`, `bayer_rggb8; png compressed `.

    Raises:
        ValueError: `image_to_rgb` would refuse the raw image.
    """
    own, separator, rest = (part.strip() for part in text.partition(";"))
    if BARE_TYPE.fullmatch(own):
        return name_encoding(own, bare)
    if not separator and not own.startswith("bayer"):  # a codec, whose files say their own colours
        return None
    converted = CONVERTED_TO.search(rest)
    return name_encoding(converted[1] if converted else own, bare)


def decoded_encoding(said: str | None, samples: Samples, bare: str | None) -> str:
    """The encoding of decoded samples: what they mean is said by the format, how many they are by the file.

    A codec may leave out alpha, or keep 8 bits of 16.

    Raises:
        ValueError: nobody says what they mean.
    """
    channels, bits = samples.shape[2], 8 * samples.itemsize
    if said is None:
        bare_type = f"{bits}UC{channels}"
        return FILE_ENCODINGS.get(bare_type) or name_encoding(bare_type, bare)
    colours = said.rstrip("0123456789")
    if channels == 1:
        return f"{colours if colours.startswith('bayer') else 'mono'}{bits}"
    order = "rgb" if colours.startswith("rgb") else "bgr"
    return f"{order}{'a' if channels == 4 else ''}{bits}"


def decode(data: NDArray[np.uint8]) -> Samples:
    """The samples (height, width, channels) of a picture file, colours in OpenCV's order, turned as the sensor was.

    Raises:
        ValueError: it is not one, or not of 8 or 16 bits in 1, 3 or 4 channels.
    """
    try:
        samples = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:  # a header that says an impossible size
        samples = None
    if samples is None:
        raise ValueError(f"{data.size} bytes are no JPEG or PNG")
    samples = samples.reshape(*samples.shape[:2], -1)
    if samples.dtype not in (np.uint8, np.uint16) or samples.shape[2] not in (1, 3, 4):
        raise ValueError(f"its pixels are {samples.shape[2]} x {samples.dtype}, expected 1, 3 or 4 of 8 or 16 bits")
    return samples


def row_bytes(encoding: str, width: int) -> int:
    """What a row of pixels of one of the `ENCODINGS` takes, without padding."""
    channels, bits, _ = ENCODINGS[encoding]
    return width * channels * bits // 8


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
