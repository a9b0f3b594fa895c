"""Videos that every browser plays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CODEC, PIXEL_FORMAT = "libx264", "yuv420p"


def write_video(frames: Iterable[NDArray[np.uint8]], rate_hz: float, path: Path) -> None:
    """Write an MP4 beside `path`, then rename it there.

    Args:
        frames: RGB, all (H, W, 3) with even H and W.
        rate_hz: frames per second.
        path: the file.
    """
    beside = path.with_name(f"{path.name}.writing")
    try:
        # Browsers begin to play before all is there only if the index stands in front.
        with av.open(str(beside), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream(CODEC, Fraction(rate_hz).limit_denominator(1000))
            stream.pix_fmt = PIXEL_FORMAT
            for frame in frames:
                if not stream.codec_context.is_open:
                    stream.height, stream.width = frame.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
