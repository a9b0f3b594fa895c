"""A planner whose actions are motions of the hand moves the joints of the simulated arm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")
pytest.importorskip("mink", reason="needs mink: pip install 'lewm_ros[ik]'")

from conftest import random_model
from ros_processes import SMALL_SEARCH, Probe, Processes, node_command, nodes_command
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.observation.joints import joint_positions
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import ee_delta
from lewm_ros.robot.limits import load_limits

HZ = 20.0


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[Probe]:
    """A simulator with new goals, and a planner that commands its joints."""
    space = replace(ee_delta((0.005,) * 6, HZ), action_block=5)
    shared = {"checkpoint": save_checkpoint(Checkpoint(random_model(), space), tmp_path / "hand"), "device": "cpu"}
    shared["use_sim_time"] = True
    processes = Processes()
    probe = Probe(processes)
    processes.start(node_command("sim_node", image_size=32, goal_period_s=1.0))
    processes.start(nodes_command({"encoder_node": shared, "planner_node": shared | SMALL_SEARCH}))
    for message, topic in (
        (JointState, "joint_states"),
        (JointTrajectory, "joint_trajectory"),
        (JointTrajectory, "planner_node/plan"),
        (Float64, "gripper"),
    ):
        probe.listen(message, topic)
    try:
        yield probe
        assert [status for status, _ in processes.interrupt()] == [0, 0]
    finally:
        processes.interrupt()
        probe.close()


def test_motions_of_the_hand_move_the_joints(probe: Probe) -> None:
    probe.wait(lambda: probe.heard["joint_states"], "joint states")
    start = joint_positions(probe.heard["joint_states"][0], PANDA.joint_names)
    probe.wait(lambda: probe.enable().success, "the planner to be enabled")
    probe.wait(lambda: len(probe.heard["joint_trajectory"]) >= 40, "commands")
    probe.wait(lambda: len(probe.heard["planner_node/plan"]) >= 2, "plans")
    assert probe.call("planner_node/stop").success
    after = joint_positions(probe.heard["joint_states"][-1], PANDA.joint_names)
    assert np.abs(after - start).max() > 0.01
    sent = np.array([trajectory.points[0].positions for trajectory in probe.heard["joint_trajectory"]])
    assert np.all(np.abs(np.diff(sent, axis=0)) * HZ <= np.array(load_limits("panda").velocity_rad_s) + 1e-6)
    assert all(abs(gripper.data) <= 1.0 for gripper in probe.heard["gripper"])
    assert len(probe.heard["gripper"]) >= 30, "beside the trajectories"
    # Four blocks of five steps, less what was committed while the plan was made.
    assert 5 <= len(probe.heard["planner_node/plan"][-1].points) <= 20
