"""What the simulated arm, its drivers and its cameras publish."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool, Float64, Header, String

from lewm_ros.environments import Score
from lewm_ros.environments.panda import PandaEnvironment, SimArm
from lewm_ros.environments.panda.environment import FINGER
from lewm_ros.nodes.conversions import ns_to_stamp, rgb_to_image
from lewm_ros.nodes.image_transport import camera_topics
from lewm_ros.nodes.qos import LATCHED, NEWEST
from lewm_ros.robot.arm import PANDA, Array

BASE_FRAME = "panda_link0"
FINGERS = (FINGER, "panda_finger_joint2")


class SimOutputs:
    """Publishers of a simulated arm with these cameras; times are simulated ones."""

    def __init__(self, node: LifecycleNode, cameras: Sequence[str]) -> None:
        create = node.create_lifecycle_publisher

        def of_cameras(kind: type, topic: str, qos: QoSProfile) -> dict[str, LifecyclePublisher]:
            return {name: create(kind, own, qos) for name, own in camera_topics(cameras, topic).items()}

        self._clock = create(Clock, "/clock", NEWEST)
        self._joint_states = create(JointState, "joint_states", NEWEST)
        self._images = of_cameras(Image, "image", NEWEST)
        self._camera_infos = of_cameras(CameraInfo, "camera_info", NEWEST)
        self._goal_images = of_cameras(Image, "goal_image", LATCHED)
        self._tcp_pose = create(PoseStamped, "~/tcp_pose", NEWEST)
        self._goal_pose = create(PoseStamped, "~/goal_pose", LATCHED)
        self._distance = create(Float64, "~/distance", NEWEST)
        self._solved = create(Bool, "~/solved", NEWEST)
        self._stages = create(String, "~/stages", NEWEST)

    def show_state(self, arm: SimArm, time_ns: int) -> None:
        """Clock, joints and end effector."""
        header = _header(BASE_FRAME, time_ns)
        self._clock.publish(Clock(clock=header.stamp))
        self._joint_states.publish(
            JointState(
                header=header,
                name=[*PANDA.joint_names, *FINGERS],
                position=[*arm.positions_rad, arm.gripper_m, arm.gripper_m],
                velocity=[*arm.velocities_rad_s, 0.0, 0.0],
            )
        )
        self._tcp_pose.publish(_pose(arm.tcp_position_m, arm.tcp_quaternion, time_ns))

    def show_score(self, score: Score) -> None:
        """How far the present state is from the goal (m), whether that counts as solved, and the stages, as JSON."""
        self._distance.publish(Float64(data=score.value))
        self._solved.publish(Bool(data=score.success))
        self._stages.publish(String(data=json.dumps(dict(score.stages))))

    def show_frames(self, arm: SimArm, time_ns: int) -> None:
        """Every camera's view and what kind of camera it is."""
        for camera, frame in arm.frames().items():
            header = _header(_frame_id(camera), time_ns)
            self._images[camera].publish(rgb_to_image(frame, header))
            self._camera_infos[camera].publish(_describe_camera(arm, camera, header))

    def show_goal(self, environment: PandaEnvironment, time_ns: int) -> None:
        """What to bring about, as every camera would see it; its stamp identifies it."""
        arm = environment.arm
        with environment.at_goal():
            for camera, frame in arm.frames().items():
                self._goal_images[camera].publish(rgb_to_image(frame, _header(_frame_id(camera), time_ns)))
            self._goal_pose.publish(_pose(arm.tcp_position_m, arm.tcp_quaternion, time_ns))


def _frame_id(camera: str) -> str:
    return f"{camera}_camera"


def _header(frame_id: str, time_ns: int) -> Header:
    return Header(stamp=ns_to_stamp(time_ns), frame_id=frame_id)


def _pose(position_m: Array, quaternion_wxyz: Array, time_ns: int) -> PoseStamped:
    message = PoseStamped(header=_header(BASE_FRAME, time_ns))
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = position_m.tolist()
    orientation.w, orientation.x, orientation.y, orientation.z = quaternion_wxyz.tolist()
    return message


def _describe_camera(arm: SimArm, camera: str, header: Header) -> CameraInfo:
    """A pinhole without distortion."""
    fovy_rad, half_px = np.deg2rad(arm.model.camera(camera).fovy[0]), arm.image_size / 2.0
    focal_px = half_px / np.tan(fovy_rad / 2.0)
    k = np.array([[focal_px, 0.0, half_px], [0.0, focal_px, half_px], [0.0, 0.0, 1.0]])
    return CameraInfo(
        header=header,
        height=arm.image_size,
        width=arm.image_size,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )
