"""What a long run of the closed loop is judged by."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lewm_training.bench.soak import report


def test_report_of_a_toy_run() -> None:
    def planner(message: str, state: str, cycles: int, missed: int) -> dict:
        values = {"state": state, "cycles": str(cycles), "missed_cycles": str(missed), "clamps": "7"}
        return {"name": "planner_node", "message": message, "values": values}

    def sim(problem: int, solved: bool, slipped_s: float) -> dict:
        values = {"problem": str(problem), "solved": str(solved), "slipped_s": str(slipped_s)}
        return {"name": "sim_node", "message": "simulating", "values": values}

    lines = [
        planner("moving", "moving", 20, 0),
        sim(0, True, 0.1),
        sim(1, False, 0.1),
        sim(1, True, 0.1),
        planner("camera stopped", "stopping", 30, 1),
        planner("camera stopped", "waiting", 30, 1),
        planner("moving", "moving", 1000, 2),
        sim(2, True, 0.1),
        sim(2, False, 0.35),
        sim(3, True, 0.35),
    ]
    # Ten samples: a fifth of them is warm-up, so growth is from 100 to 103 MB.
    memory_mb = {"planner_node": [50.0, 90.0, 100.0, 101.0, 103.0, 102.0, 102.0, 102.0, 102.0, 102.0]}
    trace = {"plans": [[0.01, 0.02, 0.1, 0.25], [0.01, 0.02, 0.1, 0.27]], "seconds_since_image": {}}

    figures = report(lines, memory_mb, trace, minutes=1.0)

    assert (figures["cycles"], figures["missed_cycles"], figures["missed_fraction"]) == (1000, 2, 0.002)
    assert figures["stops"] == ["camera stopped"], "one stop, although two lines speak of it"
    assert figures["memory_growth_percent"] == {"planner_node": 3.0}
    assert figures["longest_image_to_command_s"] == 0.27
    assert (figures["goals"], figures["goals_reached"]) == (2, 1), "goals 1 and 2 were seen whole; 2 was left again"
    assert figures["simulated_time_slipped_s"] == pytest.approx(0.25)


def test_trajectories_are_judged(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")
    from ros_processes import Probe, Processes
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    from lewm_ros.robot.arm import PANDA

    still = [0.0] * 7
    point = JointTrajectoryPoint(positions=PANDA.home_rad.tolist(), velocities=still, accelerations=still)
    message = JointTrajectory(joint_names=PANDA.joint_names, points=[point])
    processes, out = Processes(), tmp_path / "judged.json"
    processes.start([sys.executable, "-m", "lewm_ros.nodes.tools.trajectory_listener", "--out", str(out)])
    probe = Probe(processes)
    publisher = probe.node.create_publisher(JointTrajectory, "joint_trajectory", 10)
    try:
        probe.wait(publisher.get_subscription_count, "the listener")
        publisher.publish(message)
        message.points[0].positions = (PANDA.home_rad + 0.5).tolist()
        message.points[0].time_from_start.nanosec = 1_000_000
        publisher.publish(message)
        probe.spin(0.5)
    finally:
        probe.close()
        ends = processes.interrupt()
    assert ends == [(0, "")]
    judged = json.loads(out.read_text())
    assert judged["messages"] == 2
    assert judged["samples_beyond_velocity"] > 0, "0.5 rad in 1 ms"
    assert judged["samples_beyond_position"] == 0
    assert "beyond velocity" in judged["faults"][0]


def test_diagnostics_are_logged(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")
    from ros_processes import Probe, Processes, node_command

    processes, log = Processes(), tmp_path / "diagnostics.jsonl"
    processes.start([sys.executable, "-m", "lewm_ros.nodes.tools.diagnostics_log", "--out", str(log)])
    processes.start(node_command("sim_node", autostart=False))
    probe = Probe(processes)
    try:
        probe.wait(lambda: log.exists() and log.read_text().count("\n") >= 2, "two lines")
    finally:
        probe.close()
        ends = processes.interrupt()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {(line["name"], line["level"], line["message"]) for line in lines} == {("sim_node", 0, "unconfigured")}
    assert lines[0]["values"] == {"lifecycle": "unconfigured"}
    assert lines[0]["time_s"] < lines[1]["time_s"]
    assert ends[0] == (0, "")
