"""Starts one node, or several in one process, for example `python -m lewm_ros.nodes encoder_node planner_node`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from functools import partial
from importlib import import_module

NODES = {
    "encoder_node": "EncoderNode",
    "planner_node": "PlannerNode",
    "sim_node": "SimNode",
    "environment_node": "EnvironmentNode",
    "view_node": "ViewNode",
}
"""Modules of nodes and their classes."""


def main(*names: str) -> int:
    """Run the nodes named here and on the command line; returns the exit status."""
    # What follows takes seconds to import. Until nodes are there, nothing needs to be wound up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    from rclpy.utilities import remove_ros_args

    parser = argparse.ArgumentParser(prog="lewm_ros.nodes", description="Start nodes, all in one process.")
    parser.add_argument("nodes", nargs="+", choices=NODES, help="what to start")
    chosen = parser.parse_args([*names, *remove_ros_args(sys.argv)[1:]]).nodes
    from lewm_ros.nodes.runner import run

    return run({name: getattr(import_module(f"lewm_ros.nodes.{name}"), NODES[name]) for name in chosen})


encoder_node = partial(main, "encoder_node")
planner_node = partial(main, "planner_node")
sim_node = partial(main, "sim_node")
environment_node = partial(main, "environment_node")
view_node = partial(main, "view_node")
encoder_and_planner = partial(main, "encoder_node", "planner_node")


if __name__ == "__main__":
    sys.exit(main())
