"""How every node starts and ends."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from lewm_ros.nodes.managed_node import USER_ERRORS, ManagedNode

BAD_INPUT = 2


def run(name: str, make_node: Callable[[], ManagedNode], args: Sequence[str] | None = None) -> int:
    """Run a managed node until SIGINT or SIGTERM, in whatever state it is; returns the exit status.

    What the user gave wrongly (parameters, checkpoint) becomes one line on stderr and status 2, if the node was to
    start by itself.
    """
    # The signals end the loop between two callbacks, with ROS still up, so that nodes can say goodbye. No time-out is
    # needed for that: the timer of the diagnostics wakes the loop every second.
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    node = None
    try:
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:
            return refuse(name, str(error))
        node = make_node()
        if node.autostart() and not node.start():
            return refuse(name, node.failure)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while rclpy.ok() and not stop.is_set():
            executor.spin_once()
    except USER_ERRORS as error:
        return refuse(name, str(error))
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
    return 0


def refuse(name: str, reason: str) -> int:
    """Say in one line why a command ends, and return its exit status."""
    sys.stderr.write(f"{name}: {' '.join(reason.split())}\n")
    return BAD_INPUT
