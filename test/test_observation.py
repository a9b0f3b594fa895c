"""Messages to arrays, and topics to samples at a fixed rate: recorded messages here, live ones in test_conversions."""

from __future__ import annotations

import math
import struct
import zlib

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="recordings need the extra: pip install -e '.[rosbag]'")

from recordings import header, make, numbers, seconds, trajectory, twist

from lewm_ros.observation.command_messages import JointPath, joint_command, twist_command
from lewm_ros.observation.images import ENCODINGS, compressed_to_rgb, image_to_rgb
from lewm_ros.observation.timeline import ClockJump, Held, Rule, Sample, Timeline
from lewm_ros.robot.arm import PANDA

# Images


def image(encoding: str, rows: np.ndarray, width: int, bigendian: int = 0) -> object:
    """An image from the bytes of its rows, with three bytes of padding after each."""
    padded = np.pad(rows.view(np.uint8).reshape(len(rows), -1), ((0, 0), (0, 3)), constant_values=99)
    fields = {"height": len(rows), "width": width, "encoding": encoding, "is_bigendian": bigendian}
    return make("sensor_msgs/Image", header=header(0), step=padded.shape[1], data=padded.reshape(-1), **fields)


@pytest.mark.parametrize("bigendian", [0, 1])
def test_sixteen_bits_become_eight(bigendian: int) -> None:
    # v / 257, rounded: white stays white, 128 * 257 + 128 is just below the half.
    values = np.array([[[0, 65535, 257], [128 * 257 + 128, 128 * 257 + 129, 256]]], dtype=">u2" if bigendian else "<u2")
    expected = [[[0, 255, 1], [128, 129, 1]]]
    np.testing.assert_array_equal(image_to_rgb(image("rgb16", values, 2, bigendian)), expected)
    swapped = np.ascontiguousarray(values[..., ::-1])
    np.testing.assert_array_equal(image_to_rgb(image("bgr16", swapped, 2, bigendian)), expected)
    grey = np.ascontiguousarray(values[..., 1:2])
    np.testing.assert_array_equal(image_to_rgb(image("mono16", grey, 2, bigendian)), [[[255] * 3, [129] * 3]])


RGB = (200, 100, 50)
"""Of a picture that is of one colour all over; in 16 bits each is 257 times as large."""


def mosaic(pattern: str, dtype: type = np.uint8) -> np.ndarray:
    """What a Bayer sensor of 8 x 8 pixels sees of it."""
    tile = np.array([RGB["rgb".index(letter)] for letter in pattern], dtype=dtype).reshape(2, 2)
    return np.tile(tile, (4, 4))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_name_the_upper_left_pixels(pattern: str) -> None:
    expected = np.broadcast_to(RGB, (8, 8, 3))
    np.testing.assert_array_equal(image_to_rgb(image(f"bayer_{pattern}8", mosaic(pattern), 8)), expected)
    wide = mosaic(pattern, np.uint16) * 257
    np.testing.assert_array_equal(image_to_rgb(image(f"bayer_{pattern}16", wide, 8)), expected)


def test_yuv_422() -> None:
    # Black and white have no colour: U and V are 128, Y runs from 16 to 235.
    yuyv = np.array([[16, 128, 235, 128]], dtype=np.uint8)
    for encoding, rows in {"yuyv": yuyv, "yuv422_yuy2": yuyv, "uyvy": yuyv[:, [1, 0, 3, 2]]}.items():
        np.testing.assert_array_equal(image_to_rgb(image(encoding, rows, 2)), [[[0] * 3, [255] * 3]])
    with pytest.raises(ValueError, match="width must be even"):
        image_to_rgb(image("uyvy", yuyv[:, :2], 1))


def test_depth_is_no_colour() -> None:
    with pytest.raises(ValueError, match=r"'32FC1' is unknown; readable: rgb8") as error:
        image_to_rgb(image("32FC1", np.zeros((1, 8), np.uint8), 2))
    assert all(encoding in str(error.value) for encoding in ENCODINGS)
    with pytest.raises(ValueError, match=r"'16UC1' does not say its colours, and depth has none; .*: mono16, bayer"):
        image_to_rgb(image("16UC1", np.zeros((1, 4), np.uint8), 2))


def test_an_image_of_a_bare_type_is_what_it_is_said_to_be() -> None:
    pixel = np.array([[[1, 2, 3, 4]]], np.uint8)
    for said, bare, expected in (
        ("8UC3", "bgr8", [3, 2, 1]),
        ("8UC3", "rgb8", [1, 2, 3]),
        ("8UC4", "bgra8", [3, 2, 1]),
        ("8UC1", "mono8", [1, 1, 1]),
        ("rgb8", "bgr8", [1, 2, 3]),  # it says so itself
    ):
        samples = np.ascontiguousarray(pixel[..., : ENCODINGS[bare].channels])
        np.testing.assert_array_equal(image_to_rgb(image(said, samples, 1), bare), [[expected]])
    with pytest.raises(ValueError, match=r"'8UC3' does not say its colours.* image_encoding: rgb8, bgr8$"):
        image_to_rgb(image("8UC3", pixel[..., :3].copy(), 1), bare="mono8")


def compressed(text: str, samples: np.ndarray, codec: str) -> object:
    """A compressed image of this format; OpenCV's encoder takes the samples for BGR whatever they are."""
    data = cv2.imencode(f".{codec}", samples)[1].reshape(-1)
    return make("sensor_msgs/CompressedImage", header=header(0), format=text, data=data)


def test_jpeg_is_decoded_as_opencv_does() -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    message = compressed("bgr8; jpeg compressed bgr8", bgr, "jpg")
    np.testing.assert_array_equal(compressed_to_rgb(message), cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1])


GREY = (100, 100, 100)


@pytest.mark.parametrize(
    ("text", "codec", "pixel", "rgb"),
    [
        ("jpeg", "jpg", RGB[::-1], RGB),
        ("png", "png", (*RGB[::-1], 9), RGB),
        ("png", "png", (100,), GREY),
        ("", "png", RGB[::-1], RGB),
        ("rgb8; jpeg compressed bgr8", "jpg", RGB[::-1], RGB),
        ("bgr8; png compressed bgr8", "png", RGB[::-1], RGB),
        ("rgba8; png compressed bgr8", "png", RGB[::-1], RGB),
        ("bgra8; png compressed bgra8", "png", (*RGB[::-1], 9), RGB),
        ("bgra8; jpeg compressed bgra8", "jpg", (*RGB[::-1], 9), RGB),  # JPEG has no alpha
        ("rgb8; tiff compressed ", "tiff", RGB, RGB),  # not converted for the codec
        ("yuv422_yuy2; jpeg compressed bgr8", "jpg", RGB[::-1], RGB),
        ("mono8; jpeg compressed ", "jpg", (100,), GREY),
        ("mono16; jpeg compressed mono8", "jpg", (100,), GREY),
        ("bayer_rggb8; jpeg compressed mono8", "jpg", (100,), GREY),  # image_transport has made grey of it
    ],
)
def test_the_format_of_a_compressed_image_says_its_colours(
    text: str, codec: str, pixel: tuple[int, ...], rgb: tuple[int, ...]
) -> None:
    samples = np.tile(np.array(pixel, np.uint8), (8, 8, 1))
    tolerance = 3 if codec == "jpg" else 0
    np.testing.assert_allclose(compressed_to_rgb(compressed(text, samples, codec)), [[rgb] * 8] * 8, atol=tolerance)
    if codec != "jpg":
        wide, text16 = samples.astype(np.uint16) * 257, text.replace("8;", "16;").replace("bgr8", "bgr16")
        if text16 != text:
            np.testing.assert_array_equal(compressed_to_rgb(compressed(text16, wide, codec)), [[rgb] * 8] * 8)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_compressed_mosaics_are_read_as_raw_ones(pattern: str) -> None:
    name, samples = f"bayer_{pattern}", mosaic(pattern)
    expected = np.broadcast_to(RGB, (8, 8, 3))
    for message in (
        compressed(f"{name}8; png compressed ", samples, "png"),
        compressed(f"{name}16; png compressed ", samples.astype(np.uint16) * 257, "png"),
        compressed(f"{name}8", samples, "png"),
    ):
        np.testing.assert_array_equal(compressed_to_rgb(message), expected)
    for text in (f"{name}8; jpeg compressed ", f"{name}8; jpeg compressed {name}8"):
        np.testing.assert_allclose(compressed_to_rgb(compressed(text, samples, "jpg")), expected, atol=8)


DEPTH = np.full((8, 8), 1500, np.uint16)


@pytest.mark.parametrize(
    ("text", "samples", "reason"),
    [
        ("16UC1; png compressed ", DEPTH, "'16UC1' does not say its colours"),
        ("16UC1; compressedDepth", DEPTH, "'16UC1' does not say its colours"),
        ("32FC1; compressedDepth png", DEPTH, "'32FC1' is unknown"),
        ("16UC1", DEPTH, "'16UC1' does not say its colours"),
        ("png", DEPTH, "'16UC1' does not say its colours"),
        ("8UC3; png compressed ", np.zeros((8, 8, 3), np.uint8), "image_encoding: rgb8, bgr8"),
        ("bayer_rggb12", np.zeros((8, 8), np.uint8), "'bayer_rggb12' is unknown"),
        ("nv21; png compressed ", np.zeros((8, 8), np.uint8), "'nv21' is unknown; readable: rgb8"),
        ("tiff", np.zeros((8, 8, 3), np.float32), "pixels are 3 x float32, expected 1, 3 or 4 of 8 or 16 bits"),
    ],
)
def test_compressed_images_without_colours_are_refused(text: str, samples: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        compressed_to_rgb(compressed(text, samples, "tiff" if text == "tiff" else "png"))
    assert f"format '{text}'" in str(error.value)


def test_compressed_images_of_a_bare_type_are_what_they_are_said_to_be() -> None:
    samples = np.tile(np.array(RGB, np.uint8), (8, 8, 1))
    for bare, rgb in (("rgb8", RGB), ("bgr8", RGB[::-1])):
        read = compressed_to_rgb(compressed("8UC3; png compressed ", samples, "png"), bare)
        np.testing.assert_array_equal(read, [[rgb] * 8] * 8)
    read = compressed_to_rgb(compressed("16UC1; png compressed ", DEPTH, "png"), "mono16")
    np.testing.assert_array_equal(read, np.full((8, 8, 3), round(1500 / 257)))


def test_what_is_no_picture_is_refused() -> None:
    size = struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0)
    header_of_png = b"IHDR" + size
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header_of_png + struct.pack(">I", zlib.crc32(header_of_png))
    for text, data in {"h264": b"\0\0\0\1gB", "jpeg": b"", "png": huge}.items():
        fields = {"header": header(0), "format": text, "data": np.frombuffer(data, np.uint8)}
        with pytest.raises(ValueError, match=f"format '{text}': {len(data)} bytes are no JPEG or PNG"):
            compressed_to_rgb(make("sensor_msgs/CompressedImage", **fields))


# Commands


def test_commands() -> None:
    np.testing.assert_array_equal(joint_command(numbers(range(7)), 7), np.arange(7.0))
    np.testing.assert_array_equal(twist_command(twist(0, range(6))), np.arange(6.0))
    with pytest.raises(ValueError, match="not finite"):
        twist_command(twist(0, [math.nan] * 6))


def test_trajectory_begins_at_its_stamp_and_rests_at_its_end() -> None:
    path = JointPath(trajectory(seconds(1.0), [(1.0, [0.2] * 7)]), PANDA.joint_names, seconds(1.0), np.zeros((3, 7)))
    positions = [path.at(seconds(time_s))[0] for time_s in (0.5, 1.0, 1.5, 2.0, 9.0)]
    np.testing.assert_allclose(positions, [0.0, 0.0, 0.1, 0.2, 0.2])
    assert path.end_ns == seconds(2.0)
    unknown_start = JointPath(trajectory(0, [(1.0, [0.2] * 7)]), PANDA.joint_names, seconds(1.0))
    np.testing.assert_allclose(unknown_start.at(seconds(1.5)), [0.2] * 7)


def test_trajectories_are_interpolated_as_their_points_allow() -> None:
    # Joint 1 goes from 0 to 1 rad in 1 s, then rests; the others stand still.
    given_and_expected = (
        ((), 0.25, 1.0),  # a straight line
        (("velocities",), 0.15625, 1.125),  # 3 u^2 - 2 u^3
        (("velocities", "accelerations"), 0.103515625, 1.0546875),  # 10 u^3 - 15 u^4 + 6 u^5
    )
    for given, position, speed in given_and_expected:
        message = trajectory(0, [(1.0, [1.0, *[0.0] * 6])])
        for name in given:
            setattr(message.points[0], name, np.zeros(7))
        path = JointPath(message, PANDA.joint_names, seconds(1.0), np.zeros((3, 7)))
        motion = path.motion([seconds(1.25)])[:, 0, 0]
        np.testing.assert_allclose(motion[:2], [position, speed])
        assert path.state(seconds(3.0)).tolist() == [[1.0, *[0.0] * 6], [0.0] * 7, [0.0] * 7]


def test_a_trajectory_goes_on_from_the_state_on_arrival_to_the_first_point() -> None:
    state = np.zeros((3, 7))
    state[:, 0] = 0.1, 1.0, 2.0  # position, velocity, acceleration
    message = trajectory(seconds(5.0), [(0.0, [0.3] * 7), (1.0, [0.3] * 7)], velocities=[[0.0] * 7] * 2)
    for point in message.points:
        point.accelerations = np.zeros(7)
    path = JointPath(message, PANDA.joint_names, seconds(4.0), state)
    np.testing.assert_allclose(path.state(seconds(4.0)), state)
    np.testing.assert_allclose(path.state(seconds(5.0)), [[0.3] * 7, [0.0] * 7, [0.0] * 7], atol=1e-12)


def test_points_that_have_passed_count_for_nothing_but_their_segment() -> None:
    state = np.full((3, 7), 9.0)
    message = trajectory(seconds(1.0), [(0.0, [0.0] * 7), (1.0, [1.0] * 7), (2.0, [0.0] * 7)])
    path = JointPath(message, PANDA.joint_names, seconds(2.5), state)
    np.testing.assert_allclose(path.at(seconds(2.5)), 0.5)
    np.testing.assert_allclose(path.at(seconds(2.75)), 0.25)
    with pytest.raises(ValueError, match=r"the trajectory ended 0\.500 s before it came"):
        JointPath(message, PANDA.joint_names, seconds(3.5), state)


# Timeline

REGULAR = Rule(max_age_s=0.2, gap_s=0.2)


def play(timeline: Timeline, *messages: tuple[str, float, str]) -> list[Sample]:
    """Push messages (topic, stamp s, value), then finish."""
    samples: list[Sample] = []
    for name, time_s, value in messages:
        samples += timeline.push(name, Held(seconds(time_s), seconds(time_s), value))
    return [*samples, *timeline.finish()]


def summary(samples: list[Sample]) -> list[tuple[float, int, str]]:
    """Time (s), segment and the values that were held, joined."""
    return [
        (round((sample.time_ns - seconds(0)) / 1e9, 3), sample.segment, "".join(h.value for h in sample.held.values()))
        for sample in samples
    ]


def test_samples_hold_the_newest_values_of_the_past() -> None:
    timeline = Timeline({"image": REGULAR, "joints": REGULAR}, "image", control_hz=10.0)
    samples = play(
        timeline,
        ("image", 0.0, "A"),  # no joints yet: nothing begins here
        ("joints", 0.05, "a"),
        ("image", 0.1, "B"),
        ("joints", 0.19, "b"),
        ("joints", 0.21, "c"),  # after the sample at 0.2
        ("image", 0.25, "C"),
        ("joints", 0.31, "d"),
    )
    assert summary(samples) == [(0.1, 0, "Ba"), (0.2, 0, "Bb")]
    figures = timeline.tracks["image"].figures
    assert figures.dropped == {"without joints": 1}
    assert (figures.received, figures.used) == (3, 1)
    assert figures.largest_gap_s == pytest.approx(0.15)
    assert figures.largest_age_s == pytest.approx(0.1)


def test_order_of_arrival_does_not_matter() -> None:
    images = [("image", 0.1 * k, chr(65 + k)) for k in range(5)]
    joints = [("joints", 0.1 * k - 0.01, chr(97 + k)) for k in range(6)]
    expected = [(round(0.1 * k, 3), 0, f"{chr(65 + k)}{chr(97 + k)}") for k in range(5)]
    for messages in (images + joints, joints + images):
        timeline = Timeline({"image": REGULAR, "joints": REGULAR}, "image", control_hz=10.0)
        assert summary(play(timeline, *messages)) == expected


def test_a_pause_ends_the_segment_where_it_begins() -> None:
    timeline = Timeline({"image": REGULAR, "joints": REGULAR}, "image", control_hz=10.0)
    joints = [("joints", 0.1 * k, "j") for k in range(31)]
    images = [("image", 0.1 * k, "i") for k in (*range(4), *range(20, 24))]
    samples = play(timeline, *sorted(joints + images, key=lambda message: message[1]))
    # Nothing is sampled in the pause from 0.3 to 2.0 s, though 0.4 and 0.5 s would be within the largest age.
    first, second = [0.0, 0.1, 0.2, 0.3], [2.0, 2.1, 2.2, 2.3]
    assert [entry[:2] for entry in summary(samples)] == [(t, 0) for t in first] + [(t, 1) for t in second]
    assert [reason for _, reason in timeline.ends] == ["image: a pause of more than 0.2 s"]


def test_a_pause_that_is_allowed_is_bridged_up_to_the_largest_age() -> None:
    rule = Rule(max_age_s=0.2, gap_s=1.0)
    timeline = Timeline({"image": rule}, "image", control_hz=10.0)
    samples = play(timeline, ("image", 0.0, "A"), ("image", 0.5, "B"), ("image", 0.6, "C"))
    assert summary(samples) == [(0.0, 0, "A"), (0.1, 0, "A"), (0.2, 0, "A"), (0.5, 1, "B"), (0.6, 1, "C")]
    assert timeline.tracks["image"].figures.largest_age_s == pytest.approx(0.2)


def test_a_topic_that_falls_silent_does_not_hold_up_the_others_for_ever() -> None:
    timeline = Timeline({"image": REGULAR, "joints": REGULAR}, "image", control_hz=10.0, patience_s=1.0)
    messages = [("image", 0.1 * k, "i") for k in range(14)]
    samples = play(timeline, ("joints", 0.0, "j"), *messages)
    assert summary(samples) == [(0.0, 0, "ij")]
    # At 1.3 s nothing from before 0.3 s is waited for any more: the segment has ended.
    assert [reason for _, reason in timeline.ends] == ["joints: a pause of more than 0.2 s"]


def test_what_is_in_force_until_replaced_neither_ages_nor_holds_up_the_end() -> None:
    rules = {"image": REGULAR, "gripper": Rule(math.inf, math.inf)}
    messages = [("image", 0.1 * k, "i") for k in range(21)]
    samples = play(Timeline(rules, "image", control_hz=1.0), ("gripper", -9.0, "g"), *messages)
    assert summary(samples) == [(0.0, 0, "ig"), (1.0, 0, "ig"), (2.0, 0, "ig")]


def test_a_message_may_be_good_for_a_time_of_its_own() -> None:
    timeline = Timeline({"image": REGULAR, "path": REGULAR}, "image", control_hz=2.0)
    timeline.push("path", Held(seconds(0.0), seconds(1.0), "p"))
    samples = play(timeline, *(("image", 0.1 * k, "i") for k in range(31)))
    assert [entry[0] for entry in summary(samples)] == [0.0, 0.5, 1.0]


def test_commands_count_before_their_step_and_frames_may_be_late() -> None:
    before = Rule(max_age_s=0.2, gap_s=0.2, ahead_ns=-1)
    late = Rule(max_age_s=0.2, gap_s=0.2, ahead_ns=20_000_000)
    timeline = Timeline({"image": late, "command": before}, "image", control_hz=10.0)
    commands = [("command", 0.1 * k, str(k)) for k in range(5)]
    # The frames C and D come 10 and 30 ms after their steps at 0.2 and 0.3 s.
    images = [("image", 0.1, "B"), ("image", 0.21, "C"), ("image", 0.33, "D"), ("image", 0.4, "E")]
    samples = play(timeline, *sorted(commands + images, key=lambda message: message[1]))
    assert summary(samples) == [(0.1, 0, "B0"), (0.2, 0, "C1"), (0.3, 0, "C2"), (0.4, 0, "E3")]


@pytest.mark.parametrize("control_hz", [30.0, 29.97, 15.0])
@pytest.mark.parametrize("rounded", [math.floor, round, math.ceil])
def test_every_frame_of_a_camera_of_the_same_rate_is_used(control_hz: float, rounded: type[int]) -> None:
    timeline = Timeline({"image": REGULAR}, "image", control_hz)
    stamps = [seconds(0.0) + rounded(k * 1e9 / control_hz) for k in range(1000)]
    samples = [sample for stamp in stamps for sample in timeline.push("image", Held(stamp, stamp, None))]
    samples += timeline.finish()
    assert [sample.held["image"].stamp_ns for sample in samples] == stamps[: len(samples)]
    assert len(samples) >= 999


def test_late_and_repeated_messages_are_dropped_and_counted() -> None:
    timeline = Timeline({"image": REGULAR}, "image", control_hz=10.0)
    messages = [
        ("image", 0.0, "A"),
        ("image", 0.1, "B"),
        ("image", 0.1, "b"),
        ("image", 0.05, "a"),
        ("image", 0.2, "C"),
    ]
    assert summary(play(timeline, *messages)) == [(0.0, 0, "A"), (0.1, 0, "B"), (0.2, 0, "C")]
    assert timeline.tracks["image"].figures.dropped == {"repeated stamp": 1, "out of order": 1}


def test_a_clock_that_jumps_back_is_named_and_a_restart_follows_it() -> None:
    timeline = Timeline({"image": REGULAR, "joints": REGULAR}, "image", control_hz=10.0)
    play(timeline, *((name, 100.0 + 0.1 * k, "x") for k in range(3) for name in ("image", "joints")))
    with pytest.raises(ClockJump, match=r"jumps back by 100\.200 s, from 1763000100\.200 to 1763000000\.000 s"):
        timeline.push("image", Held(seconds(0.0), seconds(0.0), "x"))
    timeline.restart("clock")
    samples = play(timeline, *((name, 0.1 * k, "y") for k in range(3) for name in ("image", "joints")))
    assert summary(samples) == [(0.0, 1, "yy"), (0.1, 1, "yy"), (0.2, 1, "yy")]
    assert timeline.tracks["image"].figures.dropped == {"clock jump": 1}


def test_messages_without_a_stamp_are_refused() -> None:
    with pytest.raises(ValueError, match="the stamp is zero"):
        Timeline({"image": REGULAR}, "image", 10.0).push("image", Held(0, 0, "A"))
