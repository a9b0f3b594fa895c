"""One recording, two ways: message by message through the live nodes, and through the importer, to the same arrays.

The bytes of the recording are what is published, so that nothing but the two paths can differ.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")
pytest.importorskip("rosbags", reason="recordings need the extra: pip install -e '.[rosbag]'")

from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from recordings import (
    TYPES,
    Message,
    compressed,
    header,
    image,
    joint_state,
    make,
    numbers,
    seconds,
    trajectory,
    twist,
    write_bag,
)
from ros_processes import Probe, Processes, node_command
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage, Image, JointState

from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.model.inputs import observation_inputs
from lewm_ros.nodes.conversions import message_to_rgb
from lewm_ros.observation.command_messages import JointPath, joint_command, twist_command
from lewm_ros.observation.embedding_images import image_to_embedding
from lewm_ros.observation.images import ENCODINGS, compressed_to_rgb, image_to_rgb, row_bytes
from lewm_ros.observation.input_spec import fit_frame
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.observation import Observation
from lewm_ros.observation.stamps import stamp_to_ns
from lewm_ros.robot.arm import PANDA
from lewm_training.data import EpisodeDataset
from lewm_training.data.formats.rosbag import import_data

Array = NDArray[Any]

MESSAGES = {"image": Image, "image/compressed": CompressedImage, "joint_states": JointState}
STEPS = (*range(12), *range(24, 34))
"""Control steps with a frame: the camera pauses for 0.6 s."""


def view(step: int) -> NDArray[np.uint8]:
    """An arm's worth of a picture: a bright bar that turns before a shaded table, with some noise of the sensor."""
    y, x = np.mgrid[-1.0:1.0:48j, -1.3:1.3:64j]
    angle = 0.1 * step
    distance = np.abs(x * np.sin(angle) - y * np.cos(angle))
    bar = np.where(distance < 0.2, 200.0, 60.0 + 40.0 * y)
    noise = np.random.default_rng(step).normal(0.0, 5.0, (48, 64, 3))
    return np.clip(bar[..., None] * [1.0, 0.8, 0.6] + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw and JPEG frames at 20 Hz with a pause, and joint states at 100 Hz whose order of joints changes."""
    messages: list[Message] = []
    for step in STEPS:
        time_ns = seconds(0.05 * step)
        messages.append(("/image", time_ns + 9_000_000, image(time_ns, view(step))))
        messages.append(("/image/compressed", time_ns + 8_000_000, compressed(time_ns, view(step), "jpg")))
    for k in range(-5, 175):
        time_ns = seconds(0.01 * k - 0.004)
        order = list(np.random.default_rng(k + 5).permutation(7))
        state = joint_state(time_ns, PANDA.home_rad + 0.3 * np.sin(0.02 * k + np.arange(7)), order=order)
        messages.append(("/joint_states", time_ns + 1_000_000, state))
    return write_bag(tmp_path_factory.mktemp("recording") / "bag", messages)


def imported(bag: Path, folder: Path, **topics: object) -> EpisodeDataset:
    config = topics | {
        "joint_states": "/joint_states",
        "joint_names": list(PANDA.joint_names),
        "limit": [0.1] * 7,
        "image_size": 32,
        "min_episode_s": 0.2,
    }
    settings = folder / "topics.yaml"
    settings.write_text(yaml.safe_dump(config), encoding="utf-8")
    import_data(bag, folder / "data.h5", settings, skip_bad=False)
    return EpisodeDataset.open(folder / "data.h5")


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.interrupt()


@pytest.fixture
def probe(processes: Processes) -> Iterator[Probe]:
    probe = Probe(processes)
    yield probe
    probe.close()


def play(bag: Path, topic: str, probe: Probe) -> tuple[dict[int, Array], dict[int, Array]]:
    """Publish the recording; returns the embeddings and the joint positions that were heard, by stamp."""
    embeddings, states = probe.listen(Image, "embedding"), probe.listen(JointState, "joint_states")
    publishers = {f"/{name}": probe.node.create_publisher(MESSAGES[name], name, 10) for name in (topic, "joint_states")}
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            if connection.topic not in publishers:
                continue
            heard = embeddings if connection.topic == f"/{topic}" else states
            stamp = TYPES.deserialize_cdr(data, connection.msgtype).header.stamp
            send_until_heard(probe, [(publishers[connection.topic], bytes(data))], heard, stamp_to_ns(stamp))
    return (
        {stamp_to_ns(message.header.stamp): image_to_embedding(message, 1, 16) for message in embeddings},
        {stamp_to_ns(message.header.stamp): joint_positions(message, PANDA.joint_names) for message in states},
    )


def send_until_heard(
    probe: Probe, messages: Sequence[tuple[Publisher, bytes]], heard: list[Any], stamp_ns: int
) -> None:
    """Publish bytes until something with a stamp is heard: the subscriber may miss what it does not acknowledge."""
    due_s = [0.0]

    def answered() -> bool:
        if any(stamp_to_ns(message.header.stamp) == stamp_ns for message in heard):
            return True
        if time.monotonic() > due_s[0]:
            for publisher, data in messages:
                publisher.publish(data)
            due_s[0] = time.monotonic() + 1.0
        return False

    probe.wait(answered, f"an answer to {messages[0][0].topic_name}")


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_live_and_imported_arrays_are_the_same(
    bag: Path, tmp_path: Path, checkpoint_path: Path, probe: Probe, processes: Processes, transport: str
) -> None:
    topic = "image" if transport == "raw" else "image/compressed"
    processes.start(node_command("encoder_node", checkpoint=checkpoint_path, device="cpu", image_transport=transport))
    live_embeddings, live_joints = play(bag, topic, probe)

    data = imported(bag, tmp_path, image=f"/{topic}")
    # The last sample before the pause, and the last of all, have no action.
    rows = [step for step in STEPS if step not in (11, 33)]
    assert data.lengths.tolist() == [11, 9]
    stamps = data.columns["frame_stamp_ns"][:].tolist()
    assert stamps == [seconds(0.05 * step) for step in rows]

    model = load_checkpoint(str(checkpoint_path)).model
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row, stamp_ns in enumerate(stamps):
            with torch.inference_mode():
                inputs = observation_inputs(model.inputs, Observation({"camera": data.pixels[row]}))
                embedding = model.encode(inputs)[0].numpy()
            np.testing.assert_array_equal(embedding, live_embeddings[stamp_ns])
            held = live_joints[max(time_ns for time_ns in live_joints if time_ns <= stamp_ns)]
            np.testing.assert_array_equal(data.columns["proprio"][row], held.astype(np.float32))
    finally:
        torch.set_num_threads(threads)


WRIST_STAMPS_S = {step: 0.05 * step + (0.018, 0.007, 0.021)[step % 3] for step in STEPS}
"""The second camera's clock has a phase of its own, which wanders."""


@pytest.fixture(scope="module")
def bag_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of two cameras, joint states at 100 Hz and a finger at 40 Hz, on the topics that the encoder takes."""
    messages: list[Message] = []
    for step, wrist_s in WRIST_STAMPS_S.items():
        for topic, time_ns, frame in (
            ("/scene/image", seconds(0.05 * step), view(step)),
            ("/wrist/image", seconds(wrist_s), view(step + 50)[:, ::-1]),
        ):
            messages.append((topic, time_ns + 3_000_000, image(time_ns, np.ascontiguousarray(frame))))
    for k in range(-5, 180):
        time_ns = seconds(0.01 * k - 0.004)
        state = joint_state(time_ns, PANDA.home_rad + 0.3 * np.sin(0.02 * k + np.arange(7)))
        messages.append(("/joint_states", time_ns + 1_000_000, state))
    for k in range(-2, 72):
        time_ns = seconds(0.025 * k - 0.007)
        messages.append(("/joint_states", time_ns + 1_000_000, joint_state(time_ns, [0.0005 * (k + 2)], ["finger"])))
    return write_bag(tmp_path_factory.mktemp("recording") / "two", messages)


def test_two_cameras_and_two_vectors_are_joined_alike(
    bag_of_two: Path, tmp_path: Path, two_camera_path: Path, probe: Probe, processes: Processes
) -> None:
    processes.start(node_command("encoder_node", checkpoint=two_camera_path, device="cpu"))
    probe.wait(lambda: "nothing received" in probe.messages().get("encoder_node", ""), "the encoder to listen")
    live = play_views(bag_of_two, probe)

    cameras = {"scene": "/scene/image", "wrist": "/wrist/image"}
    data = imported(bag_of_two, tmp_path, cameras=cameras, vectors={"gripper": ["finger"]})
    stamps = data.columns["frame_stamp_ns"][:].tolist()
    assert stamps == [seconds(0.05 * step) for step in STEPS if step not in (11, 33)]
    model = load_checkpoint(str(two_camera_path)).model
    assert model.tokens == 3, "one of each camera, one of the vectors"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row, stamp_ns in enumerate(stamps):
            frames = {name: data.frames[name][row] for name in cameras}
            vectors = {name: data.columns[name][row] for name in ("proprio", "gripper")}
            with torch.inference_mode():
                embedding = model.encode(observation_inputs(model.inputs, Observation(frames, vectors)))[0].numpy()
            np.testing.assert_array_equal(embedding, live[stamp_ns])
    finally:
        torch.set_num_threads(threads)


def play_views(bag: Path, probe: Probe) -> dict[int, Array]:
    """Publish a recording of two cameras step by step; returns the embeddings (3, 16) by the first camera's stamp."""
    heard = probe.listen(Image, "embedding")
    kinds = {"/scene/image": Image, "/wrist/image": Image, "/joint_states": JointState}
    publishers = {topic: probe.node.create_publisher(kind, topic, 10) for topic, kind in kinds.items()}
    probe.wait(lambda: all(publisher.get_subscription_count() for publisher in publishers.values()), "the encoder")
    frames: dict[str, list[bytes]] = {"/scene/image": [], "/wrist/image": []}
    states: list[tuple[int, bytes]] = []
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            if connection.topic in frames:
                frames[connection.topic].append(bytes(data))
            else:
                stamp = TYPES.deserialize_cdr(data, connection.msgtype).header.stamp
                states.append((stamp_to_ns(stamp), bytes(data)))
    for place, step in enumerate(STEPS):
        stamp_ns = seconds(0.05 * step)
        # A view is complete when no later message can belong to it: that of each sender after the frame has come.
        while states and states[0][0] <= stamp_ns + 30_000_000:
            publishers["/joint_states"].publish(states.pop(0)[1])
            probe.spin(0.01)
        send_until_heard(probe, [(publishers[topic], frames[topic][place]) for topic in frames], heard, stamp_ns)
    return {stamp_to_ns(message.header.stamp): image_to_embedding(message, 3, 16) for message in heard}


def both_kinds(message: Any, live: type) -> tuple[Any, Any]:
    """A message as `rosbags` and as rclpy read it from the same bytes."""
    data = TYPES.serialize_cdr(message, message.__msgtype__)
    return TYPES.deserialize_cdr(data, message.__msgtype__), deserialize_message(bytes(data), live)


@pytest.mark.parametrize("bigendian", [0, 1])
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_read_alike(encoding: str, padding: int, bigendian: int) -> None:
    step = row_bytes(encoding, 8) + padding
    data = np.random.default_rng(len(encoding)).integers(0, 256, 6 * step, dtype=np.uint8)
    message = make(
        "sensor_msgs/Image",
        header=header(seconds(1.0)),
        height=6,
        width=8,
        encoding=encoding,
        is_bigendian=bigendian,
        step=step,
        data=data,
    )
    recorded, live = both_kinds(message, Image)
    frame = message_to_rgb(live)
    assert frame.shape == (6, 8, 3)
    np.testing.assert_array_equal(image_to_rgb(recorded), frame)
    np.testing.assert_array_equal(fit_frame(image_to_rgb(recorded), 4), fit_frame(frame, 4))
    assert stamp_to_ns(recorded.header.stamp) == stamp_to_ns(live.header.stamp) == seconds(1.0)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_compressed_images_are_read_alike(kind: str) -> None:
    recorded, live = both_kinds(compressed(0, view(0), kind), CompressedImage)
    np.testing.assert_array_equal(compressed_to_rgb(recorded), message_to_rgb(live))


def test_joint_states_and_commands_are_read_alike() -> None:
    from geometry_msgs.msg import TwistStamped
    from std_msgs.msg import Float64MultiArray
    from trajectory_msgs.msg import JointTrajectory

    values = np.random.default_rng(0).normal(size=7)
    recorded, live = both_kinds(joint_state(0, values, order=[6, 2, 0, 1, 3, 5, 4]), JointState)
    np.testing.assert_array_equal(joint_positions(recorded, PANDA.joint_names), values)
    np.testing.assert_array_equal(joint_positions(live, PANDA.joint_names), values)
    recorded, live = both_kinds(numbers(values), Float64MultiArray)
    np.testing.assert_array_equal(joint_command(recorded, 7), joint_command(live, 7))
    recorded, live = both_kinds(twist(0, values[:6]), TwistStamped)
    np.testing.assert_array_equal(twist_command(recorded), twist_command(live))
    recorded, live = both_kinds(trajectory(seconds(0.0), [(0.5, values), (1.5, -values)]), JointTrajectory)
    paths = [JointPath(message, PANDA.joint_names, seconds(0.0)) for message in (recorded, live)]
    for time_s in (0.2, 0.5, 1.1, 2.0):
        np.testing.assert_array_equal(paths[0].at(seconds(time_s)), paths[1].at(seconds(time_s)))
