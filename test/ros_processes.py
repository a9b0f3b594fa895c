"""Nodes as real processes over DDS, and a probe that talks to them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.runner import run

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 120.0
ASK_AGAIN_S = 15.0

SMALL_SEARCH = {
    "planner__solver": "cem",
    "planner__samples": 16,
    "planner__elites": 4,
    "planner__iterations": 2,
    "planner__horizon": 4,
}
"""Parameters of a search that takes next to no time."""


def node_command(name: str, **parameters: object) -> list[str]:
    """The command line of a node with its shipped parameter file and some parameters of the test's own."""
    return nodes_command({name: parameters})


def nodes_command(parameters: dict[str, dict[str, object]]) -> list[str]:
    """The command line of one process for several nodes, each with its shipped file and parameters of its own."""
    arguments = []
    for name, own in parameters.items():
        arguments += ["--params-file", str(ROOT / "config" / f"{name.removesuffix('_node')}.yaml")]
        for key, value in own.items():
            arguments += ["-p", f"{name}:{key.replace('__', '.')}:={value}"]
    return [sys.executable, "-m", "lewm_ros.nodes", *parameters, "--ros-args", *arguments]


def refusal(nodes: Mapping[str, type[ManagedNode]], capfd: pytest.CaptureFixture[str], *given: str) -> str:
    """The one line in which nodes, in this process, refuse parameters, `NAME:=VALUE` each; ROS itself may say more."""
    assert run(nodes, ["--ros-args", *(word for parameter in given for word in ("-p", parameter))]) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    (line,) = (line for line in said.splitlines() if line.startswith(tuple(f"{name}: " for name in nodes)))
    return line


class Processes:
    """Starts processes and ends them."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        self.running.append(process)
        return process

    def assert_running(self) -> None:
        """Fail with the last words of a process that has ended by itself."""
        for process in self.running:
            assert process.poll() is None, f"{process.args[3]} has ended: {process.communicate()[1][-2000:]}"

    def interrupt(self) -> list[tuple[int, str]]:
        """Send SIGINT to all; returns exit status and stderr of each."""
        for process in self.running:
            process.send_signal(signal.SIGINT)
        ends = []
        for process in self.running:
            try:
                _, stderr = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                _, stderr = process.communicate()
            ends.append((process.returncode, stderr))
        self.running = []
        return ends


class Probe:
    """A node of the test's own: keeps what it hears, publishes, calls services; waits only while `processes` run."""

    def __init__(self, processes: Processes | None = None) -> None:
        self.processes = processes or Processes()
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self.node = Node("probe", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.status: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def close(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, message: type, topic: str, qos: Any = 10) -> list[Any]:
        """The list that the topic's messages are appended to."""
        self.node.create_subscription(message, topic, self.heard[topic].append, qos)
        return self.heard[topic]

    def spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._executor.spin_once(0.02)

    def wait(self, holds: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not holds():
            self.processes.assert_running()
            assert time.monotonic() < end_s, f"waited in vain for {what}; diagnostics: {self.messages()}"
            self._executor.spin_once(0.02)

    def messages(self) -> dict[str, str]:
        return {name: status.message for name, status in self.status.items()}

    def value(self, name: str, key: str) -> str:
        """A value of a node's newest diagnostics, which is waited for if it did not come yet."""
        values: dict[str, str] = {}

        def has_come() -> bool:
            values.update({v.key: v.value for v in self.status[name].values} if name in self.status else {})
            return key in values

        self.wait(has_come, f"{key} in the diagnostics of {name}")
        return values[key]

    def ask(self, kind: type, service: str, request: Any) -> Any:
        """The answer of a service of this kind.

        On a machine that is very busy, DDS may lose a request that comes before the server has discovered the client:
        what is not answered is asked again.
        """
        client = self.node.create_client(kind, service)
        self.wait(client.service_is_ready, service)
        asked: list[tuple[float, Any]] = []

        def answered() -> bool:
            if not asked or time.monotonic() - asked[-1][0] > ASK_AGAIN_S:
                asked.append((time.monotonic(), client.call_async(request)))
            return any(future.done() for _, future in asked)

        self.wait(answered, f"an answer of {service}")
        self.node.destroy_client(client)
        return next(future.result() for _, future in asked if future.done())

    def call(self, service: str, request: SetBool.Request | None = None) -> Any:
        """The answer of a switch, or of a trigger without a request."""
        return self.ask(SetBool, service, request) if request else self.ask(Trigger, service, Trigger.Request())

    def enable(self) -> Any:
        return self.call("planner_node/enable", SetBool.Request(data=True))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.status.update({status.name: status for status in message.status})
