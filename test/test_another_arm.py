"""An arm with other joint names, whose limits, lengths and box come from its robot_description."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from ros_processes import SMALL_SEARCH, Probe, Processes, node_command
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.conversions import matrix_to_image
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.kinematics import franka_kinematics

NAMES = [f"fr3_joint{number}" for number in range(1, 8)]
SPEED_RAD_S = 0.5
HZ = 20.0
ORIGINS = (
    ("0 0 0.333", "0 0 0"),
    ("0 0 0", "-1.5707963 0 0"),
    ("0 -0.316 0", "1.5707963 0 0"),
    ("0.0825 0 0", "1.5707963 0 0"),
    ("-0.0825 0.384 0", "-1.5707963 0 0"),
    ("0 0 0", "1.5707963 0 0"),
    ("0.088 0 0", "1.5707963 0 0"),
)
"""Of an FR3's joints, as franka_description has them."""


def description() -> str:
    """A URDF of an FR3 that may move at `SPEED_RAD_S` only."""
    joints = "".join(
        f'<joint name="{name}" type="revolute"><parent link="link{i}"/><child link="link{i + 1}"/>'
        f'<origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="0 0 1"/>'
        f'<limit lower="{low}" upper="{high}" velocity="{SPEED_RAD_S}" effort="10"/></joint>'
        for i, (name, (xyz, rpy), low, high) in enumerate(
            zip(NAMES, ORIGINS, PANDA.lower_rad, PANDA.upper_rad, strict=True)
        )
    )
    tip = '<joint name="tool" type="fixed"><parent link="link7"/><child link="tip"/><origin xyz="0 0 0.2104"/></joint>'
    return f'<robot name="slow_fr3">{joints}{tip}</robot>'


class Arm(Probe):
    """An arm that is where it was last told to be, and an encoder that sees something new in every frame."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(processes)
        self.position_rad = np.array(PANDA.home_rad)
        self.path_rad = [self.position_rad]
        self.fastest_rad_s = 0.0
        self.names: list[str] = []
        self._random = np.random.default_rng(0)
        self._embeddings = self.node.create_publisher(Image, "embedding", 10)
        self._states = self.node.create_publisher(JointState, "joint_states", 10)
        self.goals = self.node.create_publisher(Image, "goal_embedding", LATCHED)
        self.descriptions = self.node.create_publisher(String, "robot_description", LATCHED)
        self.node.create_subscription(JointTrajectory, "joint_trajectory", self._on_command, 10)
        self.node.create_timer(1.0 / HZ, self._tick)

    def embedding(self) -> Image:
        header = JointState().header
        header.stamp = self.node.get_clock().now().to_msg()
        return matrix_to_image(self._random.normal(size=(1, 16)).astype(np.float32), header)

    def _tick(self) -> None:
        message = self.embedding()
        backwards = self.position_rad[::-1].tolist()
        self._states.publish(JointState(header=message.header, name=NAMES[::-1], position=backwards))
        self._embeddings.publish(message)

    def _on_command(self, message: JointTrajectory) -> None:
        self.names = list(message.joint_names)
        ahead_rad = np.array([point.positions for point in message.points])
        times_s = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points]
        speeds_rad_s = np.abs(np.diff(ahead_rad, axis=0)) / np.diff(times_s)[:, None]
        self.fastest_rad_s = speeds_rad_s.max(initial=self.fastest_rad_s)
        self.position_rad = ahead_rad[0]
        self.path_rad.append(self.position_rad)


@pytest.fixture
def arm(checkpoint_path: Path) -> Iterator[Arm]:
    processes = Processes()
    home_m = franka_kinematics().tip_positions_m(np.array(PANDA.home_rad))
    command = node_command(
        "planner_node",
        checkpoint=checkpoint_path,
        device="cpu",
        limits="robot_description",
        joint_names=str(NAMES),
        tip_link="tip",
        workspace_low_m=str((home_m - 0.03).tolist()),
        workspace_high_m=str((home_m + 0.03).tolist()),
        ramp_s=0.0,
        max_input_age_s=5.0,
        **SMALL_SEARCH,
    )
    processes.start(command)
    arm = Arm(processes)
    yield arm
    arm.close()
    assert [status for status, _ in processes.interrupt()] == [0]


def test_limits_names_and_box_come_from_the_description(arm: Arm) -> None:
    arm.goals.publish(arm.embedding())
    wanted = "refused: joint_states: no joint limits yet: nothing usable received on robot_description"
    arm.wait(lambda: arm.enable().message == wanted, "to be refused for want of limits")

    arm.descriptions.publish(String(data=description()))
    arm.wait(lambda: arm.enable().success, "the planner to be enabled")
    arm.wait(lambda: len(arm.path_rad) > 80, "80 commands")

    assert arm.names == NAMES
    path_rad = np.array(arm.path_rad)
    assert 0.0 < arm.fastest_rad_s <= SPEED_RAD_S + 1e-4, "the description's speed, a quarter of a Panda's"
    assert np.ptp(path_rad, axis=0).max() > 0.02, "it moved"
    tips_m = franka_kinematics().tip_positions_m(path_rad)
    assert np.abs(tips_m - tips_m[0]).max() <= 0.031, "inside the box, to a millimetre"
