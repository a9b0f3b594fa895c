"""Which images cv_bridge converts as `lewm_ros.observation` does, which is what recordings are read by.

apt's cv_bridge reads 16 bits and some YUV; pip's does not, and misspells bayer_grbg8; one that was built for another
numpy raises ImportError for everything. So every encoding is tried once, and cv_bridge gets those that come out right.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from lewm_ros.observation.embedding_images import EMBEDDING_ENCODING
from lewm_ros.observation.images import ENCODINGS, image_to_rgb, row_bytes

try:
    from cv_bridge import CvBridge
except ImportError:
    CvBridge = None

Array = NDArray[np.uint8] | NDArray[np.float32]

BRIDGE = None if CvBridge is None else CvBridge()
TRIAL_PX = 16


def plain_image(samples: Array, encoding: str) -> Image:
    """Samples (height, width) or (height, width, channels) as an image of this encoding, without cv_bridge."""
    height, width, *_ = samples.shape
    step = samples.nbytes // height if height else 0
    return Image(height=height, width=width, encoding=encoding, step=step, data=array("B", samples.tobytes()))


def reads(encoding: str) -> bool:
    """Whether cv_bridge makes the same RGB of an image."""
    noise = np.random.default_rng(0).integers(0, 256, (TRIAL_PX, row_bytes(encoding, TRIAL_PX)), dtype=np.uint8)
    image = plain_image(noise, encoding)
    image.width = TRIAL_PX
    return succeeds(lambda: np.array_equal(BRIDGE.imgmsg_to_cv2(image, "rgb8"), image_to_rgb(image)))


def writes(samples: Array, encoding: str) -> bool:
    """Whether cv_bridge makes the same message of samples."""
    return succeeds(lambda: BRIDGE.cv2_to_imgmsg(samples, encoding) == plain_image(samples, encoding))


def succeeds(trial: Callable[[], bool]) -> bool:
    """What the trial returns, and False if it raises."""
    if BRIDGE is None:
        return False
    try:
        return trial()
    except Exception:  # CvBridgeError, KeyError, AttributeError, ImportError: cv_bridge raises what it meets
        return False


READ_BY_BRIDGE = frozenset(filter(reads, ENCODINGS))
WRITTEN_BY_BRIDGE = frozenset(
    encoding
    for encoding, samples in {
        "rgb8": np.zeros((TRIAL_PX, TRIAL_PX, 3), np.uint8),
        EMBEDDING_ENCODING: np.zeros((TRIAL_PX, TRIAL_PX), np.float32),
    }.items()
    if writes(samples, encoding)
)
