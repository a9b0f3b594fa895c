"""Recordings for tests, written with `rosbags`: no ROS needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.robot.arm import PANDA

TYPES = get_typestore(Stores.ROS2_JAZZY)
BEGIN_NS = 1_763_000_000 * NS_PER_S
LATENCY_NS = 3_000_000

Message = tuple[str, int, Any]
"""Topic, time of reception (ns) and message."""


def seconds(time_s: float) -> int:
    """A time of the recordings, ns."""
    return BEGIN_NS + round(time_s * NS_PER_S)


def make(kind: str, **fields: Any) -> Any:
    """A message of the type PACKAGE/NAME."""
    return TYPES.types[kind.replace("/", "/msg/")](**fields)


def header(time_ns: int, frame: str = "") -> Any:
    stamp = make("builtin_interfaces/Time", sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)
    return make("std_msgs/Header", stamp=stamp, frame_id=frame)


def image(time_ns: int, rgb: NDArray[np.uint8]) -> Any:
    height, width, _ = rgb.shape
    return make(
        "sensor_msgs/Image",
        header=header(time_ns),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=rgb.reshape(-1),
    )


def compressed(time_ns: int, rgb: NDArray[np.uint8], kind: str = "png") -> Any:
    data = cv2.imencode(f".{kind}", rgb[..., ::-1])[1].reshape(-1)
    return make("sensor_msgs/CompressedImage", header=header(time_ns), format=kind, data=data)


def joint_state(
    time_ns: int, positions: Sequence[float], names: Sequence[str] = PANDA.joint_names, order: Sequence[int] = ()
) -> Any:
    """Joint states, in another order of the joints if one is given."""
    order = order or range(len(names))
    return make(
        "sensor_msgs/JointState",
        header=header(time_ns),
        name=[names[index] for index in order],
        position=np.array([positions[index] for index in order], dtype=np.float64),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )


def numbers(values: Sequence[float]) -> Any:
    layout = make("std_msgs/MultiArrayLayout", dim=[], data_offset=0)
    return make("std_msgs/Float64MultiArray", layout=layout, data=np.array(values, dtype=np.float64))


def trajectory(
    time_ns: int | None,
    points: Sequence[tuple[float, Sequence[float]]],
    names: Sequence[str] = PANDA.joint_names,
    velocities: Sequence[Sequence[float]] = (),
) -> Any:
    """Points (s from start, positions), with velocities if they are given; no time: to be started at once."""
    empty = np.zeros(0)
    return make(
        "trajectory_msgs/JointTrajectory",
        header=header(time_ns or 0),
        joint_names=list(names),
        points=[
            make(
                "trajectory_msgs/JointTrajectoryPoint",
                positions=np.array(positions, dtype=np.float64),
                velocities=np.array(velocities[index]) if velocities else empty,
                accelerations=empty,
                effort=empty,
                time_from_start=make(
                    "builtin_interfaces/Duration", sec=int(time_s), nanosec=round(time_s % 1 * NS_PER_S)
                ),
            )
            for index, (time_s, positions) in enumerate(points)
        ],
    )


def twist(time_ns: int, values: Sequence[float], frame: str = "panda_link0") -> Any:
    linear, angular = (
        make("geometry_msgs/Vector3", x=x, y=y, z=z) for x, y, z in (tuple(values[:3]), tuple(values[3:]))
    )
    return make(
        "geometry_msgs/TwistStamped",
        header=header(time_ns, frame),
        twist=make("geometry_msgs/Twist", linear=linear, angular=angular),
    )


def number(value: float) -> Any:
    return make("std_msgs/Float64", data=value)


def write_bag(
    path: Path,
    messages: Iterable[Message],
    sqlite: bool = False,
    compression: tuple[CompressionMode, CompressionFormat] | None = None,
) -> Path:
    """Write a rosbag2 folder; messages lie in it in the order of their reception."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3 if sqlite else StoragePlugin.MCAP)
    if compression:
        writer.set_compression(*compression)
    with writer:
        connections: dict[str, Any] = {}
        for topic, received_ns, message in sorted(messages, key=lambda entry: entry[1]):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], received_ns, TYPES.serialize_cdr(message, kind))
    return path
