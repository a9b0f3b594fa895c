"""The simulator on its own: goals by the clock, and a planner for the hand that commands twists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from conftest import random_model
from geometry_msgs.msg import PoseStamped, TwistStamped
from ros_processes import SMALL_SEARCH, Probe, Processes, node_command, refusal
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64

from lewm_ros.config import ConfigError
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.nodes.conversions import matrix_to_image
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.nodes.sim.commands_since import was_published_before
from lewm_ros.nodes.sim_node import SimNode, ticks_per_image
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.stamps import stamp_to_ns
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import ee_delta


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """A simulator with a new goal every half second, and a planner that commands twists."""
    space = replace(ee_delta((0.005,) * 6, control_hz=20.0), action_block=5)
    hand = Checkpoint(random_model(), space)
    path = save_checkpoint(hand, tmp_path_factory.mktemp("checkpoint") / "hand")
    planner = {"checkpoint": path, "device": "cpu", "command_interface": "twist", "use_sim_time": True}
    processes = Processes()
    probe = Probe(processes)
    processes.start(node_command("sim_node", image_size=32, goal_period_s=0.5))
    processes.start(node_command("planner_node", **planner, **SMALL_SEARCH))
    for message, topic in (
        (Image, "image"),
        (JointState, "joint_states"),
        (PoseStamped, "sim_node/tcp_pose"),
        (TwistStamped, "twist"),
        (Float64, "gripper"),
    ):
        probe.listen(message, topic)
    probe.listen(Image, "goal_image", LATCHED)
    try:
        yield probe
    finally:
        processes.interrupt()
        probe.close()


def test_only_commands_published_before_a_reset_are_too_old() -> None:
    def is_old(published_ns: int, received_ns: int) -> bool:
        return was_published_before({"source_timestamp": published_ns, "received_timestamp": received_ns}, 1000)

    assert is_old(999, 1001)
    assert not is_old(1000, 1001)
    # Some middleware does not know when a message was published, and some not even when it was received.
    assert is_old(0, 999)
    assert not is_old(0, 1001)
    assert not is_old(0, 0)


@pytest.mark.parametrize(
    ("tick_hz", "image_hz", "ticks"), [(40.0, 20.0, 2), (60.0, 30.0, 2), (30.0, 30.0, 1), (50.0, 0.1, 500)]
)
def test_a_frame_takes_whole_ticks(tick_hz: float, image_hz: float, ticks: int) -> None:
    assert ticks_per_image(tick_hz, image_hz) == ticks


@pytest.mark.parametrize("image_hz", [30.0, 41.0, 100.0, 39.9])
def test_a_camera_between_ticks_is_refused(image_hz: float) -> None:
    with pytest.raises(ConfigError, match=f"image_hz: must divide tick_hz 40, got {image_hz:g}"):
        ticks_per_image(40.0, image_hz)


def test_goals_come_by_the_clock_without_moving_the_arm(probe: Probe) -> None:
    goals = probe.heard["goal_image"]
    probe.wait(lambda: len(goals) >= 3, "goal images")
    stamps_ns = [stamp_to_ns(goal.header.stamp) for goal in goals]
    assert np.all(np.diff(stamps_ns) == 500_000_000)
    assert bytes(goals[-1].data) != bytes(goals[-2].data)
    joints = np.array([joint_positions(message, PANDA.joint_names) for message in probe.heard["joint_states"]])
    np.testing.assert_allclose(joints, np.tile(PANDA.home_rad, (len(joints), 1)), atol=0.02)


def test_twists_move_the_hand(probe: Probe) -> None:
    embedding = probe.node.create_publisher(Image, "embedding", 1)
    goal = probe.node.create_publisher(Image, "goal_embedding", LATCHED)
    # The encoder's part: any embedding will do for a random model, but not always the same one.
    random = np.random.default_rng(0)
    probe.node.create_subscription(
        Image, "image", lambda m: embedding.publish(matrix_to_image(random.random((1, 16), np.float32), m.header)), 1
    )
    probe.wait(lambda: probe.heard["joint_states"], "joint states")
    goal.publish(matrix_to_image(np.ones((1, 16), np.float32), probe.heard["joint_states"][-1].header))
    probe.wait(lambda: probe.enable().success, "the planner to be enabled")
    before = joint_positions(probe.heard["joint_states"][-1], PANDA.joint_names)
    twists, grippers = probe.heard["twist"], probe.heard["gripper"]
    probe.wait(lambda: len(twists) >= 40, "twists")
    assert probe.call("planner_node/stop").success
    linear = np.array([[t.twist.linear.x, t.twist.linear.y, t.twist.linear.z] for t in twists])
    assert np.abs(linear).max() > 0.0
    assert np.abs(linear).max() <= 0.005 * 20 + 1e-9, "the limit per control step, per second"
    assert all(abs(gripper.data) <= 1.0 for gripper in grippers)
    after = joint_positions(probe.heard["joint_states"][-1], PANDA.joint_names)
    assert np.abs(after - before).max() > 0.01


def test_every_camera_and_the_finger_of_a_cube_task() -> None:
    processes = Processes()
    own = Probe(processes)
    topics = [f"{camera}/{topic}" for camera in ("scene", "wrist") for topic in ("image", "goal_image")]
    for topic in topics:
        own.listen(Image, f"two/{topic}", LATCHED if topic.endswith("goal_image") else 10)
    states, solved = own.listen(JointState, "two/joint_states"), own.listen(Bool, "two/sim_node/solved")
    gripper = own.node.create_publisher(Float64, "two/gripper", 1)
    parameters = ("task:=pick_place", "cameras:=[scene,wrist]", "image_size:=32")
    given = [word for parameter in parameters for word in ("-p", parameter)]
    processes.start([*node_command("sim_node"), *given, "-r", "__ns:=/two"])
    try:
        answer = json.loads(own.call("two/sim_node/reset").message)
        assert answer["budget_s"] == 10.0
        own.wait(lambda: all(own.heard[f"two/{topic}"] for topic in topics), "frames and goals of both cameras")
        newest = {topic: own.heard[f"two/{topic}"][-1] for topic in topics}
        assert bytes(newest["scene/image"].data) != bytes(newest["wrist/image"].data)
        for camera in ("scene", "wrist"):
            assert newest[f"{camera}/image"].header.frame_id == f"{camera}_camera"
            assert stamp_to_ns(newest[f"{camera}/goal_image"].header.stamp) == answer["goal_stamp_ns"]
        own.wait(lambda: states and solved, "joint states and the score")
        assert not solved[-1].data

        def opening_m() -> float:
            return states[-1].position[states[-1].name.index("panda_finger_joint1")]

        assert opening_m() == pytest.approx(0.04, abs=0.002)
        gripper.publish(Float64(data=1.0))
        own.wait(lambda: opening_m() < 0.01, "the gripper to close")
    finally:
        processes.interrupt()
        own.close()


@pytest.mark.parametrize(
    ("cameras", "words"), [("[scene,ceiling]", "has scene, wrist, not 'ceiling'"), ("[wrist,wrist]", "each only once")]
)
def test_cameras_that_are_not_there_are_one_line(cameras: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    line = refusal({"sim_node": SimNode}, capfd, f"cameras:={cameras}")
    assert line.startswith("sim_node: cameras: ")
    assert words in line
