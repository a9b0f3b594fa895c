"""What every simulated world publishes: clock, joints, hand, camera frames, goal, score; times are simulated ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64, Header, String

from lewm_ros.environments import Score
from lewm_ros.nodes.conversions import ns_to_stamp, rgb_to_image
from lewm_ros.nodes.image_transport import camera_topics
from lewm_ros.nodes.qos import LATCHED, NEWEST
from lewm_ros.observation.observation import Frame
from lewm_ros.robot.arm import Array

BASE_FRAME = "panda_link0"


class WorldOutputs:
    """Publishers of a world with these cameras."""

    def __init__(self, node: LifecycleNode, cameras: Sequence[str]) -> None:
        self._create, self._names = node.create_lifecycle_publisher, cameras
        self._clock = self._create(Clock, "/clock", NEWEST)
        self._joint_states = self._create(JointState, "joint_states", NEWEST)
        self._images = self._of_cameras(Image, "image", NEWEST)
        self._goal_images = self._of_cameras(Image, "goal_image", LATCHED)
        self._tcp_pose = self._create(PoseStamped, "~/tcp_pose", NEWEST)
        self._distance = self._create(Float64, "~/distance", NEWEST)
        self._solved = self._create(Bool, "~/solved", NEWEST)
        self._stages = self._create(String, "~/stages", NEWEST)
        self._cost = self._create(Float64, "~/cost", NEWEST)
        self._over = self._create(Bool, "~/over", NEWEST)

    def show_time(self, time_ns: int) -> None:
        """The clock that nodes with `use_sim_time` follow."""
        self._clock.publish(Clock(clock=ns_to_stamp(time_ns)))

    def show_joints(self, positions: Mapping[str, float], velocities: Mapping[str, float], time_ns: int) -> None:
        """Joints by name; without velocities, none are told."""
        told = [velocities.get(name, 0.0) for name in positions] if velocities else []
        self._joint_states.publish(
            JointState(
                header=header(BASE_FRAME, time_ns), name=[*positions], position=[*positions.values()], velocity=told
            )
        )

    def show_hand(self, position_m: Array, quaternion_wxyz: Array, time_ns: int) -> None:
        """The end effector in the base frame."""
        self._tcp_pose.publish(pose(position_m, quaternion_wxyz, time_ns))

    def show_score(self, score: Score) -> None:
        """How far the present state is from the goal, whether that counts as solved, the stages, as JSON, and so on."""
        self._distance.publish(Float64(data=score.value))
        self._solved.publish(Bool(data=score.success))
        self._stages.publish(String(data=json.dumps(dict(score.stages))))
        self._cost.publish(Float64(data=score.cost))
        self._over.publish(Bool(data=score.over))

    def show_frames(self, frames: Mapping[str, Frame], time_ns: int) -> None:
        """What every camera sees."""
        for camera, frame in frames.items():
            self._images[camera].publish(rgb_to_image(frame, header(frame_id(camera), time_ns)))

    def show_goal_frames(self, frames: Mapping[str, Frame], time_ns: int) -> None:
        """What to bring about, as every camera would see it; its stamp identifies it."""
        for camera, frame in frames.items():
            self._goal_images[camera].publish(rgb_to_image(frame, header(frame_id(camera), time_ns)))

    def _of_cameras(self, kind: type, topic: str, qos: QoSProfile) -> dict[str, LifecyclePublisher]:
        return {name: self._create(kind, own, qos) for name, own in camera_topics(self._names, topic).items()}


def frame_id(camera: str) -> str:
    """The frame of a camera."""
    return f"{camera}_camera"


def header(frame: str, time_ns: int) -> Header:
    """Of something in this frame at this time."""
    return Header(stamp=ns_to_stamp(time_ns), frame_id=frame)


def pose(position_m: Array, quaternion_wxyz: Array, time_ns: int) -> PoseStamped:
    """A pose in the base frame."""
    message = PoseStamped(header=header(BASE_FRAME, time_ns))
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = position_m.tolist()
    orientation.w, orientation.x, orientation.y, orientation.z = quaternion_wxyz.tolist()
    return message
