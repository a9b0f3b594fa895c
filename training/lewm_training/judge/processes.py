"""The nodes as separate processes, with the same parameter files that the launch files read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lewm_ros.config import ConfigError, PlannerConfig, UserError, from_mapping, read_yaml
from lewm_training.judge.domains import own_domain

NODES = ("encoder_node", "planner_node", "sim_node")
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
        if (place / "planner.yaml").is_file():
            return place
    raise ConfigError(f"planner.yaml: not found in {', '.join(str(place) for place in places)}")


def planner_config(path: Path | None = None) -> PlannerConfig:
    """The planner's search from a YAML of its own, or from the shipped parameters of planner_node.

    Raises:
        ConfigError: the file cannot be used.
    """
    if path is not None:
        return from_mapping(PlannerConfig, read_yaml(path), str(path))
    path = config_folder() / "planner.yaml"
    (node,) = read_yaml(path).values()
    return from_mapping(PlannerConfig, node["ros__parameters"]["planner"], f"{path}: planner")


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


def drive_goals(
    checkpoint: str,
    task: str,
    goals: int,
    seed: int,
    planner: PlannerConfig,
    device: str = "auto",
    record: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Close the loop over ROS topics, goal by goal.

    Args:
        checkpoint: `default` or a path.
        task: one of the simulator's tasks.
        goals: how many.
        seed: of the goals and of the planner.
        planner: sizes of its search.
        device: where the networks run.
        record: folder for camera frames, one file per goal; none are kept if None.

    Yields:
        what `lewm_ros.nodes.tools.episode_runner` reports of each goal.

    Raises:
        ProcessError: a node ended or did not answer.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        search = {f"planner.{key}": value for key, value in vars(planner).items()}
        parameters = {
            # On a machine that falls behind, simulated time does too; nodes that follow /clock still see fresh stamps.
            "encoder_node": {"checkpoint": checkpoint, "device": device, "use_sim_time": True},
            "planner_node": {"checkpoint": checkpoint, "device": device, "use_sim_time": True, "seed": seed, **search},
            "sim_node": {"task": task, "seed": seed},
        }
        with run_nodes(parameters, folder) as nodes:
            report = folder / "episodes.jsonl"
            command = [sys.executable, "-m", "lewm_ros.nodes.tools.episode_runner"]
            command += ["--task", task, "--goals", str(goals), "--out", str(report)]
            command += ["--record", str(record)] if record else []
            runner = start(command, nodes.environment, folder / "runner.log")
            try:
                yield from _follow(report, runner, goals)
            finally:
                stop(runner)
            if runner.returncode:
                raise ProcessError(last_words(folder))


def ros_environment() -> dict[str, str]:
    """The environment of ROS processes that talk to this machine only, on a domain of their own unless one is set."""
    environment = dict(os.environ)
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_DOMAIN_ID" not in environment:
        environment["ROS_DOMAIN_ID"] = str(own_domain())
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _follow(report: Path, runner: subprocess.Popen[bytes], goals: int) -> Iterator[dict[str, Any]]:
    """The report's lines as they are written, until all are there or the runner has ended."""
    seen = 0
    while seen < goals:
        ended = runner.poll() is not None
        lines = report.read_text().splitlines(keepends=True) if report.exists() else []
        for line in lines[seen:]:
            if line.endswith("\n"):
                seen += 1
                yield json.loads(line)
        if ended:
            return
        time.sleep(0.1)
    runner.wait(timeout=STOP_S)


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
    return "; ".join(words) or "a node ended without a word"
