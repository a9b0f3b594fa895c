"""Embedding messages to arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.images import ImageMessage, pixel_rows

EMBEDDING_ENCODING = "32FC1"


def image_to_embedding(message: ImageMessage, tokens: int, dimension: int) -> NDArray[np.float32]:
    """The embedding (tokens, dimension) in a 32FC1 image of a row per token.

    Raises:
        ValueError: it is another kind of image, has another size or is not finite.
    """
    if (message.encoding, message.height, message.width) != (EMBEDDING_ENCODING, tokens, dimension):
        raise ValueError(
            f"expected {EMBEDDING_ENCODING} of {tokens} x {dimension} as this checkpoint's embedding, "
            f"got {message.encoding} of {message.height} x {message.width}"
        )
    order = ">f4" if message.is_bigendian else "<f4"
    rows = np.ascontiguousarray(pixel_rows(message, 4 * dimension))
    embedding = rows.view(order).astype(np.float32)
    if not np.isfinite(embedding).all():
        raise ValueError("embedding is not finite; check the camera image and the encoder")
    return embedding


def image_to_goals(message: ImageMessage, tokens: int, dimension: int) -> NDArray[np.float32]:
    """Goals in order (G, tokens, dimension), in a 32FC1 image that holds the rows of one below those of another.

    Raises:
        ValueError: see `image_to_embedding`; or its rows are not those of whole goals.
    """
    goals = max(1, message.height // tokens)
    return image_to_embedding(message, goals * tokens, dimension).reshape(goals, tokens, dimension)
