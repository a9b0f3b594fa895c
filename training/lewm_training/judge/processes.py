"""The nodes as separate processes, with the same parameter files that the launch files read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lewm_ros.config import ConfigError, UserError, from_mapping, read_yaml
from lewm_training.judge.domains import own_domain

if TYPE_CHECKING:
    from lewm_ros.planning import PlannerConfig

NODES = ("encoder_node", "planner_node", "sim_node")
PLANNER_FILE = "planner.yaml"
STOP_S = 10.0


class RunningNodes(NamedTuple):
    """Nodes by name, and the environment in which further ROS processes meet them."""

    processes: dict[str, subprocess.Popen[bytes]]
    environment: dict[str, str]


class ProcessError(UserError):
    """A node that could not do its work; the message is what it said."""


def config_folder() -> Path:
    """Where the parameter files are: in the checkout, or where the package was installed.

    Raises:
        ConfigError: they are in none of these places.
    """
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    places = [Path(__file__).resolve().parents[3] / "config"]
    places += [Path(prefix) / "share" / "lewm_ros" / "config" for prefix in prefixes if prefix]
    for place in places:
        if (place / PLANNER_FILE).is_file():
            return place
    raise ConfigError(f"{PLANNER_FILE}: not found in {', '.join(str(place) for place in places)}")


def planner_config(path: Path | None = None) -> PlannerConfig:
    """The planner's search from a YAML of its own, or from the shipped parameters of planner_node.

    Raises:
        ConfigError: the file cannot be used.
    """
    from lewm_ros.planning import PlannerConfig  # it brings torch, which takes seconds

    if path is not None:
        return from_mapping(PlannerConfig, read_yaml(path), str(path))
    return from_mapping(PlannerConfig, planner_parameters()["planner"], f"{config_folder() / PLANNER_FILE}: planner")


def planner_parameters() -> dict[str, Any]:
    """What is shipped for planner_node."""
    (node,) = read_yaml(config_folder() / PLANNER_FILE).values()
    return node["ros__parameters"]


@contextlib.contextmanager
def run_nodes(
    parameters: dict[str, dict[str, Any]],
    log_folder: Path,
    names: Sequence[str] = NODES,
    environment: dict[str, str] | None = None,
) -> Iterator[RunningNodes]:
    """Start encoder, planner and simulated arm, or some of them; stop them at the end.

    Args:
        parameters: per node, values that replace those of its parameter file.
        log_folder: where each node's output goes.
        names: of the nodes to start.
        environment: of their processes; None: what `ros_environment` gives.
    """
    nodes, folder = RunningNodes({}, environment or ros_environment()), config_folder()
    with contextlib.ExitStack() as stack:
        for name in names:
            arguments = ["--ros-args", "--params-file", str(folder / f"{name.removesuffix('_node')}.yaml")]
            for key, value in parameters.get(name, {}).items():
                arguments += ["-p", f"{key}:={json.dumps(value)}"]
            command = [sys.executable, "-m", "lewm_ros.nodes", name, *arguments]
            nodes.processes[name] = start(command, nodes.environment, log_folder / f"{name}.log")
            stack.callback(stop, nodes.processes[name])
        yield nodes


def ros_environment() -> dict[str, str]:
    """The environment of ROS processes that talk to this machine only, on a domain of their own unless one is set."""
    environment = dict(os.environ)
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_DOMAIN_ID" not in environment:
        environment["ROS_DOMAIN_ID"] = str(own_domain())
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A process whose output goes to a file."""
    with log.open("w") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGINT, and SIGKILL to a process that takes too long to end."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_words(folder: Path) -> str:
    """The last line of each log, for an error message."""
    words = []
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(errors="replace").strip().splitlines()
        words += [f"{log.stem}: {lines[-1]}"] if lines else []
    return "; ".join(words) or "a node ended and said nothing"
