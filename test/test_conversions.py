"""Messages to arrays and back, and the line that a bad message gets."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

from lewm_ros.nodes.bridge import READ_BY_BRIDGE
from lewm_ros.nodes.conversions import matrix_to_image, message_to_rgb, ns_to_stamp, rgb_to_image
from lewm_ros.observation.embedding_images import image_to_embedding
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.stamps import stamp_to_ns

NAMES = ("a", "b", "c")


def image(encoding: str, pixels: np.ndarray, padding: int = 0) -> Image:
    height, width, depth = pixels.shape
    rows = np.pad(pixels.reshape(height, width * depth), ((0, 0), (0, padding)), constant_values=99)
    data = array("B", rows.tobytes())
    return Image(encoding=encoding, height=height, width=width, step=width * depth + padding, data=data)


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("padding", [0, 5])
def test_every_direct_encoding_gives_the_same_rgb(rgb: np.ndarray, padding: int) -> None:
    alpha = np.full((4, 6, 1), 7, np.uint8)
    for encoding, pixels in {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], axis=2),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], axis=2),
    }.items():
        np.testing.assert_array_equal(message_to_rgb(image(encoding, pixels, padding)), rgb)
    grey = message_to_rgb(image("mono8", rgb[..., :1], padding))
    np.testing.assert_array_equal(grey, rgb[..., [0, 0, 0]])
    np.testing.assert_array_equal(message_to_rgb(image("8UC3", rgb[..., ::-1], padding), bare="bgr8"), rgb)


def test_rgb_round_trip_keeps_header(rgb: np.ndarray) -> None:
    message = rgb_to_image(rgb, Header(frame_id="camera"))
    assert (message.header.frame_id, message.encoding, message.step) == ("camera", "rgb8", 18)
    np.testing.assert_array_equal(message_to_rgb(message), rgb)


def test_cv_bridge_reads_what_it_reads_right() -> None:
    pytest.importorskip("cv_bridge", reason="nodes do without it")
    assert {"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8"} <= READ_BY_BRIDGE


ANY_CV_BRIDGE = {
    "absent": "raise ImportError",
    "built for another numpy": """
class CvBridge:
    def imgmsg_to_cv2(self, message, encoding): raise ImportError("numpy.core.multiarray failed to import")
    def cv2_to_imgmsg(self, samples, encoding): raise ImportError("numpy.core.multiarray failed to import")
""",
    "wrong": """
import numpy as np
from sensor_msgs.msg import Image
class CvBridge:
    def imgmsg_to_cv2(self, message, encoding): return np.zeros((message.height, message.width, 3), np.uint8)
    def cv2_to_imgmsg(self, samples, encoding): return Image(encoding=encoding)
""",
}

THERE_AND_BACK = """
import numpy as np
from std_msgs.msg import Header
from lewm_ros.nodes.bridge import READ_BY_BRIDGE, WRITTEN_BY_BRIDGE
from lewm_ros.nodes.conversions import message_to_rgb, rgb_to_image

pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
np.testing.assert_array_equal(message_to_rgb(rgb_to_image(pixels, Header())), pixels)
assert not READ_BY_BRIDGE and not WRITTEN_BY_BRIDGE
"""


@pytest.mark.parametrize("bridge", ANY_CV_BRIDGE)
def test_nodes_work_whatever_cv_bridge_does(bridge: str, tmp_path: Path) -> None:
    (tmp_path / "cv_bridge.py").write_text(ANY_CV_BRIDGE[bridge], encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, environment = [sys.executable, "-c", THERE_AND_BACK], os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_unusable_images_get_one_line(rgb: np.ndarray) -> None:
    short = image("rgb8", rgb)
    short.data = short.data[:-1]
    narrow = image("rgb8", rgb)
    narrow.step = 17
    for message, right in {
        "unknown encoding": (image("rgb888", rgb), "'rgb888'"),
        "too few bytes": (short, "holds 71 bytes, expected 72"),
        "step below a row": (narrow, "step is 17 bytes, expected at least 18"),
        "no pixels": (Image(encoding="rgb8"), "is empty"),
    }.values():
        with pytest.raises(ValueError, match=right) as error:
            message_to_rgb(message)
        assert "\n" not in str(error.value)


def test_compressed_image(rgb: np.ndarray) -> None:
    png = cv2.imencode(".png", rgb[..., ::-1])[1]
    message = CompressedImage(format="png", data=array("B", png.tobytes()))
    np.testing.assert_array_equal(message_to_rgb(message), rgb)
    for data in (b"", b"not an image"):
        with pytest.raises(ValueError, match="no JPEG or PNG"):
            message_to_rgb(CompressedImage(format="jpeg", data=array("B", data)))


def test_embedding_round_trip_and_refusals() -> None:
    embedding = np.linspace(-1.0, 1.0, 32, dtype=np.float32).reshape(2, 16)
    header = Header(stamp=ns_to_stamp(1_500_000_001))
    message = matrix_to_image(embedding, header)
    assert (message.encoding, message.height, message.width) == ("32FC1", 2, 16)
    assert message.header == header
    np.testing.assert_array_equal(image_to_embedding(message, 2, 16), embedding)
    with pytest.raises(ValueError, match=r"expected 32FC1 of 1 x 16.*got 32FC1 of 2 x 16"):
        image_to_embedding(message, 1, 16)
    withdrawn = matrix_to_image(np.empty((0, 0), np.float32), header)
    assert (withdrawn.height, withdrawn.width, len(withdrawn.data)) == (0, 0, 0)
    embedding[1, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        image_to_embedding(matrix_to_image(embedding, header), 2, 16)


def test_joints_are_found_by_name() -> None:
    message = JointState(name=["finger", "c", "a", "b"], position=[9.0, 3.0, 1.0, 2.0])
    np.testing.assert_array_equal(joint_positions(message, NAMES), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (JointState(name=["a", "b_renamed", "c"], position=[0.0] * 3), "'b' is missing; received: a, b_renamed, c"),
        (JointState(), "none of the joints is named; received: none"),
        (JointState(name=list(NAMES), position=[0.0, 1.0]), "3 joint names but 2 positions"),
        (JointState(name=list(NAMES), position=[0.0, float("nan"), 0.0]), "'b': position is nan"),
    ],
)
def test_joint_states_without_all_joints_are_refused(message: JointState, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        joint_positions(message, NAMES)


def test_stamps_are_exact() -> None:
    time_ns = 1_763_000_000_123_456_789
    assert stamp_to_ns(ns_to_stamp(time_ns)) == time_ns
