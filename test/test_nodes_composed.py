"""Encoder and planner in one process: each with its own life, and one end for both."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from conftest import joint_delta_space, random_patch_model
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from ros_processes import ROOT, SMALL_SEARCH, TIMEOUT_S, Probe, Processes, node_command, nodes_command, refusal
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.nodes.encoder_node import EncoderNode
from lewm_ros.nodes.planner_node import PlannerNode


@pytest.fixture(scope="module")
def probe(checkpoint_path: Path) -> Iterator[Probe]:
    yield from run_composed(checkpoint_path)


@pytest.fixture
def patch_probe(tmp_path: Path) -> Iterator[Probe]:
    yield from run_composed(save_checkpoint(Checkpoint(random_patch_model(), joint_delta_space()), tmp_path / "patch"))


def run_composed(checkpoint: Path) -> Iterator[Probe]:
    """A simulator that shows goals, and encoder and planner in one process."""
    processes = Processes()
    probe = Probe(processes)
    shared = {"checkpoint": checkpoint, "device": "cpu", "use_sim_time": True}
    processes.start(node_command("sim_node", image_size=32, goal_period_s=1.0))
    processes.start(nodes_command({"encoder_node": shared, "planner_node": shared | SMALL_SEARCH}))
    for message, topic in ((Image, "embedding"), (JointTrajectory, "joint_trajectory")):
        probe.listen(message, topic)
    try:
        yield probe
    finally:
        processes.interrupt()
        probe.close()


def change(probe: Probe, name: str, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return probe.ask(ChangeState, f"{name}/change_state", request).success


def state(probe: Probe, name: str) -> int:
    return probe.ask(GetState, f"{name}/get_state", GetState.Request()).current_state.id


def plan_and_command(probe: Probe) -> None:
    probe.wait(lambda: {"encoder_node", "planner_node"} <= probe.status.keys(), "diagnostics of both")
    probe.wait(lambda: probe.enable().success, "the planner to be enabled")
    probe.wait(lambda: len(probe.heard["joint_trajectory"]) >= 20, "commands")
    probe.wait(lambda: int(probe.value("planner_node", "plans")) >= 2, "plans")


def test_they_plan_and_command(probe: Probe) -> None:
    plan_and_command(probe)


def test_each_has_a_lifecycle_of_its_own(probe: Probe) -> None:
    assert change(probe, "encoder_node", Transition.TRANSITION_DEACTIVATE)
    assert state(probe, "encoder_node") == State.PRIMARY_STATE_INACTIVE
    assert state(probe, "planner_node") == State.PRIMARY_STATE_ACTIVE
    probe.wait(lambda: "embedding: nothing new" in probe.messages()["planner_node"], "the planner to miss the encoder")
    assert change(probe, "encoder_node", Transition.TRANSITION_ACTIVATE)
    probe.wait(lambda: probe.messages()["planner_node"] == "moving", "the planner to go on")


def test_sigint_during_motion_stops_the_arm_and_ends_both(probe: Probe) -> None:
    ends = probe.processes.interrupt()
    assert [status for status, _ in ends] == [0, 0]
    assert all(line.startswith("[INFO]") for _, stderr in ends for line in stderr.splitlines()), ends
    probe.spin(0.3)
    positions = np.array([point.positions for point in probe.heard["joint_trajectory"][-1].points])
    np.testing.assert_allclose(positions, positions[[0] * len(positions)], atol=1e-9)


def test_patch_tokens_close_the_loop_too(patch_probe: Probe) -> None:
    plan_and_command(patch_probe)
    newest = patch_probe.heard["embedding"][-1]
    assert (newest.height, newest.width) == (16, 32), "16 tokens of 32 numbers"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("library", ["rclpy", "torch"])
def test_a_signal_during_the_imports_ends_quietly(library: str, number: signal.Signals) -> None:
    command = nodes_command({"encoder_node": {"autostart": False}, "planner_node": {"autostart": False}})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("planner_node:ramp_s:=-1.0", "planner_node: "),
        ("encoder_node:checkpoint:=/nowhere/model", "encoder_node: checkpoint"),
        ("ramp_s:=0.5", "encoder_node: parameter 'ramp_s' is unknown"),
    ],
)
def test_one_that_cannot_start_ends_both_with_one_line(
    given: str, right: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert refusal({"encoder_node": EncoderNode, "planner_node": PlannerNode}, capfd, given).startswith(right)


def test_an_unknown_node_is_refused() -> None:
    command = [sys.executable, "-m", "lewm_ros.nodes", "encodr_node"]
    end = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT)
    assert end.returncode == 2
    assert "invalid choice: 'encodr_node'" in end.stderr
