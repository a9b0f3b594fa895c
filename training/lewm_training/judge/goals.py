"""Goals that are driven over ROS, by nodes whose parameters suit the checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from lewm_ros.config import ConfigError
from lewm_ros.environments import task_names
from lewm_ros.environments.panda.tasks import TASKS
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm_actions import ArmChannels
from lewm_training.judge.evaluate import environment_for
from lewm_training.judge.processes import (
    STOP_S,
    ProcessError,
    last_words,
    planner_parameters,
    run_nodes,
    start,
    stop,
)

SIMULATED_ARM = "sim_node"

TICKS_PER_STEP = 2
"""Of the simulator, so that joint states come more often than they are needed."""
SLOW_S = 20.0
"""An environment that takes so long for a step is slow; after that it is a fault."""
STEPS_WITHOUT_INPUT, BLOCKS_WITHOUT_PLAN = 6, 4
"""So many control steps without an input, or blocks without a plan, are not yet a fault."""


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
        task: one of the simulated arm's, or one whose actions are twists and whose distances are in m.
        goals: how many.
        seed: of the goals and of the planner.
        planner: sizes of its search.
        device: where the networks run.
        record: folder for frames of all cameras, one file per goal; none are kept if None.

    Returns:
        what `lewm_ros.nodes.tools.episode_runner` reports of each goal, as it is over.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: see `simulator_parameters`.
        ProcessError: a node ended or did not answer.
    """
    loaded = load_checkpoint(checkpoint)
    search = {f"planner.{key}": value for key, value in vars(planner).items()}
    # On a machine that falls behind, simulated time does too; nodes that follow /clock still see fresh stamps.
    shared = {"checkpoint": checkpoint, "device": device, "use_sim_time": True}
    simulator = simulator_node(task)
    # How old an input is counts in wall time, too.
    patience = {} if simulator == SIMULATED_ARM else {"max_input_age_s": SLOW_S, "max_plan_age_s": SLOW_S}
    planner_node = shared | planner_parameters_for(loaded.action_space) | {"seed": seed} | search | patience
    parameters = {
        "encoder_node": shared | {name: age for name, age in patience.items() if name == "max_input_age_s"},
        "planner_node": planner_node,
        simulator: simulator_parameters(loaded, task) | {"seed": seed},
    }
    return _drive(parameters, simulator, goals, record)


def _drive(
    parameters: dict[str, dict[str, Any]], simulator: str, goals: int, record: Path | None
) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with run_nodes(parameters, folder, list(parameters)) as nodes:
            report = folder / "episodes.jsonl"
            command = [sys.executable, "-m", "lewm_ros.nodes.tools.episode_runner"]
            command += ["--goals", str(goals), "--out", str(report), "--simulator", simulator]
            command += ["--cameras", *parameters[simulator]["cameras"]]
            command += ["--record", str(record)] if record else []
            runner = start(command, nodes.environment, folder / "runner.log")
            try:
                yield from _follow(report, runner, nodes.processes.values(), goals)
            finally:
                stop(runner)
            if runner.returncode:
                raise ProcessError(last_words(folder))


def simulator_node(task: str) -> str:
    """The node that stands in for the arm in a task."""
    return SIMULATED_ARM if task in TASKS else "environment_node"


def simulator_parameters(checkpoint: Checkpoint, task: str) -> dict[str, Any]:
    """Parameters by which `simulator_node` runs a task with the cameras and rates of a checkpoint.

    Raises:
        ConfigError: no arm stands in the task, or the checkpoint's cameras or actions are not the task's.
    """
    if task in task_names() and task not in TASKS:
        raise ConfigError(f"task '{task}': over ROS there are {', '.join(TASKS)}, and others in which an arm acts")
    environment = environment_for(checkpoint, task)
    environment.close()
    parameters = {
        "task": task,
        "cameras": list(environment.cameras),
        "image_size": checkpoint.inputs.recorded_size,
    }
    if task not in TASKS:
        return parameters
    control_hz = float(checkpoint.action_space.control_hz)
    return parameters | {"image_hz": control_hz, "tick_hz": TICKS_PER_STEP * control_hz}


def planner_parameters_for(space: ActionSpace) -> dict[str, Any]:
    """Parameters by which planner_node suits an action space.

    Inputs and plans may be as old as shipped, or older where actions are slow; twists are commanded as such.
    """
    shipped = planner_parameters()
    return {
        "command_interface": "twist" if ArmChannels.of(space).twist else shipped["command_interface"],
        "max_input_age_s": max(shipped["max_input_age_s"], STEPS_WITHOUT_INPUT / space.control_hz),
        "max_plan_age_s": max(shipped["max_plan_age_s"], BLOCKS_WITHOUT_PLAN * space.block_s),
    }


def _follow(
    report: Path, runner: subprocess.Popen[bytes], nodes: Collection[subprocess.Popen[bytes]], goals: int
) -> Iterator[dict[str, Any]]:
    """The report's lines as they are written, until all are there or a process has ended."""
    seen = 0
    while seen < goals:
        ended = any(process.poll() is not None for process in (runner, *nodes))
        lines = report.read_text().splitlines(keepends=True) if report.exists() else []
        for line in lines[seen:]:
            if line.endswith("\n"):
                seen += 1
                yield json.loads(line)
        if ended:
            return
        time.sleep(0.1)
    runner.wait(timeout=STOP_S)
