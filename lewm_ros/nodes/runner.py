"""How nodes start and end: any number of them in one process, on one executor."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from lewm_ros.nodes.managed_node import USER_ERRORS, ManagedNode

BAD_INPUT = 2
LOOK_S = 0.2
"""How often a plain node looks whether it was interrupted."""
SWITCH_INTERVAL_S = 5e-5
"""After which a thread hands the interpreter over to one that waits. With Python's 5 ms, a frame that has come waits
while the executor gets ready for the next one, and a command that is due waits for a plan."""


def run(nodes: Mapping[str, Callable[[], ManagedNode]], args: Sequence[str] | None = None) -> int:
    """Run managed nodes until SIGINT or SIGTERM, in whatever states they are; returns the exit status.

    What the user gave wrongly to one of them (parameters, checkpoint) ends all, with one line on stderr and status 2,
    if the node was to start by itself.

    Args:
        nodes: what makes each node, by the names for error messages; they end in reverse order.
        args: the command line; None: the process' own.
    """
    # The signals end the loop between two callbacks, with ROS still up, so that nodes can say goodbye. No time-out is
    # needed for that: the timers of the diagnostics wake the loop.
    stop = threading.Event()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with contextlib.ExitStack() as at_end:
        at_end.enter_context(_told_by_signals(stop))
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:
            return refuse(" and ".join(nodes), str(error))
        at_end.callback(rclpy.try_shutdown)
        executor = SingleThreadedExecutor()
        made: dict[str, ManagedNode] = {}
        try:
            for name, make_node in nodes.items():
                made[name] = make_node()
                at_end.callback(made[name].destroy_node)
                executor.add_node(made[name])
            for name, node in made.items():
                if not stop.is_set() and node.autostart() and not node.start():
                    return refuse(name, node.failure)
        except USER_ERRORS as error:
            return refuse(name, str(error))
        while rclpy.ok() and not stop.is_set():
            executor.spin_once()
    return 0


def spin_until_interrupted(node: Node) -> None:
    """Serve one plain node until SIGINT or SIGTERM.

    ROS must have been initialised without handlers of its own, which would take it down while the node is being served.
    """
    stop = threading.Event()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with _told_by_signals(stop):
        while rclpy.ok() and not stop.is_set():
            executor.spin_once(LOOK_S)


@contextlib.contextmanager
def _told_by_signals(stop: threading.Event) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM set the event."""
    with contextlib.ExitStack() as at_end:
        for number in (signal.SIGINT, signal.SIGTERM):
            at_end.callback(signal.signal, number, signal.signal(number, lambda *_: stop.set()))
        yield


def refuse(name: str, reason: str) -> int:
    """Say in one line why a command ends, and return its exit status."""
    sys.stderr.write(f"{name}: {' '.join(reason.split())}\n")
    return BAD_INPUT
