"""Listens to joint trajectories, and judges what a controller of 1 kHz makes of them; see `TrajectoryJudge`.

    python -m lewm_ros.nodes.tools.trajectory_listener --out report.json [--limits panda]

It ends at SIGINT, and then writes the judge's report as JSON, with its first faults.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.runner import spin_until_interrupted
from lewm_ros.observation.trajectory_judge import TrajectoryJudge
from lewm_ros.robot.limits import JointLimits, load_limits

DEPTH = 1000


class TrajectoryListener(Node):
    """Judges every message of `joint_trajectory` by when the middleware received it."""

    def __init__(self, limits: JointLimits) -> None:
        super().__init__("trajectory_listener")
        self.judge = TrajectoryJudge(limits)
        self.create_subscription(JointTrajectory, "joint_trajectory", self._on_trajectory, QoSProfile(depth=DEPTH))

    def _on_trajectory(self, message: JointTrajectory, info: dict[str, Any]) -> None:
        self.judge.saw(message, info["received_timestamp"])


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM."""
    arguments = sys.argv[1:] if args is None else args
    parser = argparse.ArgumentParser(prog="trajectory_listener", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--limits", default="panda", help="of the arm: panda, fr3 or a YAML file")
    options = parser.parse_args(remove_ros_args(arguments))
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    node = TrajectoryListener(load_limits(options.limits))
    try:
        spin_until_interrupted(node)
    finally:
        node.judge.finish()
        beside = options.out.with_name(f"{options.out.name}.writing")
        beside.write_text(json.dumps(node.judge.report() | {"faults": node.judge.faults}) + "\n", encoding="utf-8")
        os.replace(beside, options.out)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
