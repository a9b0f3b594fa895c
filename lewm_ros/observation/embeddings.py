"""Embedding messages to vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.images import ImageMessage, pixel_rows

EMBEDDING_ENCODING = "32FC1"


def image_to_embedding(message: ImageMessage, dimension: int) -> NDArray[np.float32]:
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
    embedding = pixel_rows(message, 4 * dimension)[0].view(order).astype(np.float32)
    if not np.isfinite(embedding).all():
        raise ValueError("embedding is not finite; check the camera image and the encoder")
    return embedding
