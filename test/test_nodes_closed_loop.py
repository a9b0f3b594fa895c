"""Simulator, encoder and planner as three processes that close the loop over DDS, with a tiny random checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_processes import ROOT, SMALL_SEARCH, TIMEOUT_S, Probe, Processes, node_command
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.model.inputs import normalise_pixels
from lewm_ros.observation.embedding_images import image_to_embedding
from lewm_ros.observation.images import image_to_rgb
from lewm_ros.observation.input_spec import fit_frame
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.robot.arm import PANDA

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass
class Loop:
    """The three nodes and the one that watches them."""

    probe: Probe
    processes: Processes
    checkpoint: Path

    def joints(self) -> np.ndarray:
        """The newest measured positions."""
        before = len(self.probe.heard["joint_states"])
        self.probe.wait(lambda: len(self.probe.heard["joint_states"]) > before, "joint_states")
        return joint_positions(self.probe.heard["joint_states"][-1], PANDA.joint_names)

    def wait_sim(self, seconds: float) -> None:
        """Wait for simulated time to pass."""
        clock = self.probe.heard["/clock"]
        end_ns = stamp_to_ns(clock[-1].clock) + seconds * NS_PER_S
        self.probe.wait(lambda: stamp_to_ns(clock[-1].clock) >= end_ns, "the clock")

    def reset(self) -> dict:
        """Set up the next problem and wait until all nodes know it."""
        problem = json.loads(self.probe.call("sim_node/reset").message)
        goals = self.probe.heard["goal_embedding"]
        self.probe.wait(
            lambda: goals and stamp_to_ns(goals[-1].header.stamp) == problem["goal_stamp_ns"], "the goal's embedding"
        )
        return problem

    def enable(self) -> None:
        """Enable the planner once it has all its inputs."""
        self.probe.wait(lambda: self.probe.enable().success, "the planner to be enabled")


@pytest.fixture(scope="module")
def loop(checkpoint_path: Path) -> Iterator[Loop]:
    processes = Processes()
    probe = Probe(processes)
    shared = {"checkpoint": checkpoint_path, "device": "cpu", "use_sim_time": True}
    processes.start(node_command("sim_node", image_size=32, seed=3))
    processes.start(node_command("encoder_node", **shared))
    # A random model leads anywhere: slowly, so that the arm does not meet the table or its own limits.
    processes.start(node_command("planner_node", **shared, **SMALL_SEARCH, ramp_s=5.0))
    for message, topic in (
        (Clock, "/clock"),
        (Image, "image"),
        (Image, "embedding"),
        (CameraInfo, "camera_info"),
        (JointState, "joint_states"),
        (JointTrajectory, "joint_trajectory"),
        (JointTrajectory, "planner_node/plan"),
    ):
        probe.listen(message, topic)
    for message, topic in ((Image, "goal_image"), (Image, "goal_embedding"), (String, "model_info")):
        probe.listen(message, topic, LATCHED)
    try:
        probe.wait(lambda: seen_twice(probe) and probe.heard["/clock"], "a frame, its embedding and the clock")
        yield Loop(probe, processes, checkpoint_path)
        ends = processes.interrupt()
        assert [status for status, _ in ends] == [0, 0, 0]
        assert not any("Traceback" in stderr for _, stderr in ends)
    finally:
        processes.interrupt()
        probe.close()


def seen_twice(probe: Probe) -> list[tuple[Image, Image]]:
    """Frames with their embeddings, as far as both were heard: frames are sent best effort."""
    frames = {stamp_to_ns(m.header.stamp): m for m in probe.heard["image"]}
    embeddings = {stamp_to_ns(m.header.stamp): m for m in probe.heard["embedding"]}
    return [(frames[stamp], embeddings[stamp]) for stamp in sorted(frames.keys() & embeddings.keys())]


def test_enable_without_a_goal_is_refused(loop: Loop) -> None:
    response = loop.probe.enable()
    assert not response.success
    assert "nothing received on goal_embedding" in response.message


def test_embeddings_are_those_of_the_model_with_the_header_of_the_frame(loop: Loop) -> None:
    frame, message = seen_twice(loop.probe)[0]
    assert message.header == frame.header
    model = load_checkpoint(loop.checkpoint).model
    pixels = normalise_pixels(torch.from_numpy(fit_frame(image_to_rgb(frame), 32)))
    with torch.inference_mode():
        expected = model.encode(pixels.unsqueeze(0))[0].numpy()
    np.testing.assert_allclose(image_to_embedding(message, 1, 16), expected, atol=1e-4)
    loop.probe.wait(
        lambda: (
            "encoder_node" in loop.probe.status and loop.probe.value("encoder_node", "around_network_p50_s") != "none"
        ),
        "the time around the network",
    )
    assert float(loop.probe.value("encoder_node", "around_network_p50_s")) > 0.0
    info = json.loads(loop.probe.heard["model_info"][-1].data)
    assert info["checkpoint"] == load_checkpoint(loop.checkpoint).identity
    assert info["embedding_dim"] == 16


def test_stamps_are_exact_multiples(loop: Loop) -> None:
    loop.wait_sim(0.3)
    for topic, period_ns in (("image", 50_000_000), ("camera_info", 50_000_000), ("joint_states", 25_000_000)):
        stamps = np.unique([stamp_to_ns(m.header.stamp) for m in loop.probe.heard[topic]])
        assert np.all(np.diff(stamps) % period_ns == 0), topic
    camera = loop.probe.heard["camera_info"][-1]
    assert (camera.width, camera.height, camera.k[2], camera.k[8]) == (32, 32, 16.0, 1.0)


def test_the_arm_moves_when_enabled_and_rests_when_stopped(loop: Loop) -> None:
    problem = loop.reset()
    assert problem["index"] == 0
    assert problem["start_distance_m"] >= 0.15
    start = loop.joints()
    trajectories, plans = loop.probe.heard["joint_trajectory"], loop.probe.heard["planner_node/plan"]
    loop.enable()
    loop.probe.wait(lambda: len(trajectories) >= 28, "commands")
    moved = np.abs(loop.joints() - start).max()
    assert moved > 0.02

    assert len(trajectories) >= 20
    for trajectory in trajectories:
        assert tuple(trajectory.joint_names) == PANDA.joint_names
        times = [p.time_from_start.sec + p.time_from_start.nanosec / NS_PER_S for p in trajectory.points]
        assert np.all(np.diff(times) > 0.0)
        assert list(trajectory.points[-1].velocities) == [0.0] * 7
        positions = np.array([p.positions for p in trajectory.points])
        assert np.all((positions >= PANDA.lower_rad) & (positions <= PANDA.upper_rad))
    starts_ns = [stamp_to_ns(plan.header.stamp) for plan in plans]
    assert len(plans) >= 2
    assert np.all(np.diff(starts_ns) % 50_000_000 == 0), "plans begin control steps after frames"
    assert all(0 < len(plan.points) <= 4 * 5 for plan in plans), "four blocks, without what was committed"

    assert loop.probe.call("planner_node/stop").success
    loop.wait_sim(1.0)  # to brake from full speed, and for the arm to follow
    commands, rest = len(trajectories), loop.joints()
    loop.wait_sim(0.5)
    assert len(trajectories) == commands
    np.testing.assert_allclose(loop.joints(), rest, atol=2e-3)
    loop.probe.wait(lambda: loop.probe.value("planner_node", "state") == "idle", "the planner to be idle")
    assert int(loop.probe.value("planner_node", "cycles")) >= 20
    assert float(loop.probe.value("planner_node", "plan_latency_p50_s")) > 0.0
    assert float(loop.probe.value("planner_node", "committed_steps")) >= 1.0
    assert float(loop.probe.value("planner_node", "delay_steps")) >= 0.0  # 0: ready within a tick of simulated time


def test_reset_drops_older_commands_and_draws_the_next_problem(loop: Loop) -> None:
    first = loop.reset()
    start = loop.joints()
    commands = loop.probe.node.create_publisher(Float64MultiArray, "commands", 1)
    loop.probe.wait(lambda: commands.get_subscription_count(), "the simulator to listen")
    commands.publish(Float64MultiArray(data=PANDA.home_rad.tolist()))
    loop.wait_sim(1.0)
    assert np.abs(loop.joints() - start).max() > 0.05, "commands are followed"
    second = loop.reset()
    assert second["index"] == first["index"] + 1
    start = loop.joints()
    loop.wait_sim(0.5)
    np.testing.assert_allclose(loop.joints(), start, atol=5e-3)


def test_the_current_view_becomes_the_goal(loop: Loop) -> None:
    goals = loop.probe.heard["goal_embedding"]
    before = len(goals)
    response = loop.probe.call("encoder_node/set_goal_from_current")
    assert response.success, response.message
    loop.probe.wait(lambda: len(goals) > before, "the goal")
    stamp = goals[-1].header.stamp
    assert response.message.endswith(f"{stamp.sec}.{stamp.nanosec:09d}")


def test_episode_runner_writes_one_line_per_goal(loop: Loop, tmp_path: Path) -> None:
    out, film = tmp_path / "goals.jsonl", tmp_path / "film"
    command = [sys.executable, "-m", "lewm_ros.nodes.tools.episode_runner", "--goals", "1", "--out", str(out)]
    subprocess.run([*command, "--record", str(film)], check=True, cwd=ROOT, timeout=2 * TIMEOUT_S)
    [line] = out.read_text().splitlines()
    goal = json.loads(line)
    assert goal["start_distance_m"] >= 0.15
    assert goal["success"] == (goal["final_distance_m"] <= 0.05)
    assert goal["trace"]["time_s"][-1] == pytest.approx(6.0, abs=0.1), "120 steps at 20 Hz"
    assert goal["trace"]["distance_m"][-1] == pytest.approx(goal["final_distance_m"], abs=0.02)
    assert 0 <= goal["missed_cycles"] <= goal["cycles"]
    assert goal["plan_rate_hz"] > 0.0
    assert goal["command_rate_hz"] > 0.0
    assert 0.0 < goal["real_time_factor"] <= 1.1
    assert len(goal["plan_cost"]["value"]) >= 2
    [recorded] = film.glob("*.npz")
    with np.load(recorded) as frames:
        assert frames["frames"].shape[1:] == (1, 32, 32, 3), "of the only camera"
        assert frames["goal"].dtype == np.uint8
        assert len(frames["frames"]) >= 10
