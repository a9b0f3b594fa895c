"""What the simulated arm, its drivers and its camera publish."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64, Header

from lewm_ros.nodes.conversions import ns_to_stamp, rgb_to_image
from lewm_ros.nodes.qos import LATCHED, NEWEST
from lewm_ros.robot.arm import PANDA
from lewm_ros.sim import Problem, SimArm

Array = NDArray[np.float64]

BASE_FRAME = "panda_link0"
CAMERA_FRAME = "scene_camera"
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")


class SimOutputs:
    """Publishers of a simulated arm; times are simulated ones."""

    def __init__(self, node: LifecycleNode) -> None:
        create = node.create_lifecycle_publisher
        self._clock = create(Clock, "/clock", NEWEST)
        self._joint_states = create(JointState, "joint_states", NEWEST)
        self._image = create(Image, "image", NEWEST)
        self._camera_info = create(CameraInfo, "camera_info", NEWEST)
        self._goal_image = create(Image, "goal_image", LATCHED)
        self._tcp_pose = create(PoseStamped, "~/tcp_pose", NEWEST)
        self._goal_pose = create(PoseStamped, "~/goal_pose", LATCHED)
        self._distance = create(Float64, "~/distance", NEWEST)

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

    def show_distance(self, distance_m: float) -> None:
        """Of the present state to the goal."""
        self._distance.publish(Float64(data=distance_m))

    def show_frame(self, arm: SimArm, time_ns: int) -> None:
        """The camera's view and what kind of camera it is."""
        frame = arm.render()
        header = _header(CAMERA_FRAME, time_ns)
        self._image.publish(rgb_to_image(frame, header))
        self._camera_info.publish(_describe_camera(arm, header, *frame.shape[:2]))

    def show_goal(self, goal_arm: SimArm, problem: Problem, time_ns: int) -> None:
        """The view to bring about; its stamp identifies it."""
        self._goal_image.publish(rgb_to_image(goal_arm.render(), _header(CAMERA_FRAME, time_ns)))
        self._goal_pose.publish(_pose(problem.goal_position_m, goal_arm.tcp_quaternion, time_ns))


def _header(frame_id: str, time_ns: int) -> Header:
    return Header(stamp=ns_to_stamp(time_ns), frame_id=frame_id)


def _pose(position_m: Array, quaternion_wxyz: Array, time_ns: int) -> PoseStamped:
    message = PoseStamped(header=_header(BASE_FRAME, time_ns))
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = position_m.tolist()
    orientation.w, orientation.x, orientation.y, orientation.z = quaternion_wxyz.tolist()
    return message


def _describe_camera(arm: SimArm, header: Header, height: int, width: int) -> CameraInfo:
    """A pinhole without distortion."""
    fovy_rad = np.deg2rad(arm.model.camera(arm.cameras[0]).fovy[0])
    focal_px = height / 2.0 / np.tan(fovy_rad / 2.0)
    k = np.array([[focal_px, 0.0, width / 2.0], [0.0, focal_px, height / 2.0], [0.0, 0.0, 1.0]])
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )
