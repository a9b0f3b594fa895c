"""How every node starts and ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from lewm_ros.config import ConfigError
from lewm_ros.model.checkpoint import CheckpointError

BAD_INPUT = 2


def run(name: str, make_node: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM; returns the exit status.

    What the user gave wrongly (parameters, checkpoint) becomes one line on stderr and status 2.
    """
    try:
        rclpy.init(args=args)
    except RuntimeError as error:
        return _refuse(name, error)
    node = None
    executor = SingleThreadedExecutor()
    try:
        node = make_node()
        executor.add_node(node)
        executor.spin()
    except (CheckpointError, ConfigError, ParameterException) as error:
        return _refuse(name, error)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _refuse(name: str, error: Exception) -> int:
    sys.stderr.write(f"{name}: {' '.join(str(error).split())}\n")
    return BAD_INPUT
