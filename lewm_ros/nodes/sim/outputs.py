"""What the simulated arm, its drivers and its cameras publish."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from lewm_ros.environments.panda import PandaEnvironment, SimArm
from lewm_ros.environments.panda.environment import FINGER
from lewm_ros.nodes.qos import LATCHED, NEWEST
from lewm_ros.nodes.sim.world_outputs import WorldOutputs, frame_id, header, pose
from lewm_ros.robot.arm import PANDA

FINGERS = (FINGER, "panda_finger_joint2")


class SimOutputs(WorldOutputs):
    """Publishers of a simulated arm with these cameras."""

    def __init__(self, node: LifecycleNode, cameras: Sequence[str]) -> None:
        super().__init__(node, cameras)
        self._camera_infos = self._of_cameras(CameraInfo, "camera_info", NEWEST)
        self._goal_pose = node.create_lifecycle_publisher(PoseStamped, "~/goal_pose", LATCHED)

    def show_state(self, arm: SimArm, time_ns: int) -> None:
        """Clock, joints and end effector."""
        self.show_time(time_ns)
        joints = dict(zip(PANDA.joint_names, arm.positions_rad.tolist(), strict=True))
        velocities = dict(zip(PANDA.joint_names, arm.velocities_rad_s.tolist(), strict=True))
        self.show_joints(joints | dict.fromkeys(FINGERS, arm.gripper_m), velocities, time_ns)
        self.show_hand(arm.tcp_position_m, arm.tcp_quaternion, time_ns)

    def show_views(self, arm: SimArm, time_ns: int) -> None:
        """Every camera's view and what kind of camera it is."""
        self.show_frames(arm.frames(), time_ns)
        for camera, publisher in self._camera_infos.items():
            publisher.publish(_describe_camera(arm, camera, header(frame_id(camera), time_ns)))

    def show_goal(self, environment: PandaEnvironment, time_ns: int) -> None:
        """What to bring about: images, and where the end effector is in them."""
        with environment.at_goal():
            arm = environment.arm
            self.show_goal_frames(arm.frames(), time_ns)
            self._goal_pose.publish(pose(arm.tcp_position_m, arm.tcp_quaternion, time_ns))


def _describe_camera(arm: SimArm, camera: str, head: Header) -> CameraInfo:
    """A pinhole without distortion."""
    fovy_rad, half_px = np.deg2rad(arm.model.camera(camera).fovy[0]), arm.image_size / 2.0
    focal_px = half_px / np.tan(fovy_rad / 2.0)
    k = np.array([[focal_px, 0.0, half_px], [0.0, focal_px, half_px], [0.0, 0.0, 1.0]])
    return CameraInfo(
        header=head,
        height=arm.image_size,
        width=arm.image_size,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )
