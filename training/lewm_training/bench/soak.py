"""The closed loop over ROS for a long time: what leaks, what is missed, how old the image behind a command is."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lewm_ros.model.checkpoint import load_checkpoint
from lewm_training.judge.goals import planner_parameters_for, simulator_parameters
from lewm_training.judge.machine import describe
from lewm_training.judge.processes import NODES, ProcessError, last_words, run_nodes, start, stop

GOAL_PERIOD_S = 15.0
SAMPLED_EVERY_S = 5.0
START_S = 60.0
WARM_UP_FRACTION, LONGEST_WARM_UP_S = 0.2, 300.0

Line = dict[str, Any]


def bench_soak(checkpoint: str, task: str, minutes: float, seed: int) -> dict[str, Any]:
    """Run simulated arm, encoder and planner in real time, with a new goal every `GOAL_PERIOD_S`.

    Args:
        checkpoint: `default` or a path.
        task: one of the simulated arm's.
        minutes: how long the arm is driven.
        seed: of goals and search.

    Returns:
        see `report`; and `trajectories`, what the judge of them says (see `TrajectoryJudge`).

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: it is no task of the simulated arm, or not one for the checkpoint.
        ProcessError: a node ended, or the arm never began to move.
    """
    loaded = load_checkpoint(checkpoint)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        log, trace, judged = folder / "diagnostics.jsonl", folder / "trace.json", folder / "judged.json"
        # Like beside a real arm, time is the system's, so that a frame has an age when it comes.
        shared = {"checkpoint": checkpoint, "use_sim_time": False}
        parameters = {
            "encoder_node": shared,
            "planner_node": shared
            | planner_parameters_for(loaded.action_space)
            | {"seed": seed, "enable_on_activate": True, "trace_file": str(trace)},
            "sim_node": simulator_parameters(loaded, task) | {"seed": seed, "goal_period_s": GOAL_PERIOD_S},
        }
        with run_nodes(parameters, folder) as nodes:
            tools = [
                start(
                    [sys.executable, "-m", f"lewm_ros.nodes.tools.{tool}", "--out", str(out)],
                    nodes.environment,
                    folder / f"{tool}.log",
                )
                for tool, out in (("diagnostics_log", log), ("trajectory_listener", judged))
            ]
            try:
                began_s = _wait_for_motion(log, folder)
                memory_mb = _watch(nodes.processes, began_s, 60.0 * minutes, folder)
            finally:
                for tool in tools:
                    stop(tool)
        lines = [line for line in map(json.loads, log.read_text().splitlines()) if line["time_s"] >= began_s]
        plans = json.loads(trace.read_text())
        trajectories = json.loads(judged.read_text())
    return {
        "task": task,
        "checkpoint": checkpoint,
        "seed": seed,
        **report(lines, memory_mb, plans, minutes),
        "trajectories": trajectories,
        **describe(torch.device("cpu")),
    }


def report(
    lines: list[Line], memory_mb: dict[str, list[float]], plans: dict[str, Any], minutes: float
) -> dict[str, Any]:
    """What the diagnostics, the samples of memory and the planner's trace say.

    Args:
        lines: of `lewm_ros.nodes.tools.diagnostics_log`, from the first motion on.
        memory_mb: resident memory per node, evenly spaced in time.
        plans: the planner's `trace_file`.
        minutes: how long it took.
    """
    planner = [line for line in lines if line["name"] == "planner_node"]
    figures = planner[-1]["values"]
    cycles, missed = int(figures["cycles"]), int(figures["missed_cycles"])
    # From where a node's memory is after the warm-up to the most that it ever is afterwards.
    warm = round(min(WARM_UP_FRACTION, LONGEST_WARM_UP_S / (60.0 * minutes)) * len(next(iter(memory_mb.values()))))
    solved = solved_at_end(line["values"] for line in lines if line["name"] == "sim_node")
    slipped = [float(line["values"]["slipped_s"]) for line in lines if line["name"] == "sim_node"]
    return {
        "minutes": minutes,
        "cycles": cycles,
        "missed_cycles": missed,
        "missed_fraction": missed / cycles if cycles else None,
        "stops": [line["message"] for before, line in pairwise(planner) if _running(before) and not _running(line)],
        "plans": len(plans["plans"]),
        "plan_rate_hz": len(plans["plans"]) / (60.0 * minutes),
        "seconds_since_image": plans["seconds_since_image"],
        "longest_image_to_command_s": max((times[-1] for times in plans["plans"]), default=None),
        "memory_after_warm_up_mb": {name: round(samples[warm], 1) for name, samples in memory_mb.items()},
        "memory_growth_percent": {
            name: round(100.0 * (max(samples[warm:]) / samples[warm] - 1.0), 2) for name, samples in memory_mb.items()
        },
        "goals": len(solved),
        "goals_reached": sum(solved),
        "simulated_time_slipped_s": slipped[-1] - slipped[0],
        "clamps": int(figures["clamps"]),
        "memory_mb": memory_mb,
        "image_to_command_s": [times[-1] for times in plans["plans"]],
    }


def solved_at_end(values: Iterable[dict[str, str]]) -> list[bool]:
    """What was last known of every goal whose whole time was seen, from the simulator's diagnostics."""
    last: dict[int, bool] = {}
    for value in values:
        last[int(value["problem"])] = value["solved"] == "True"
    return list(last.values())[1:-1]


def _running(line: Line) -> bool:
    return line["values"].get("state") == "moving"


def _wait_for_motion(log: Path, folder: Path) -> float:
    """When the arm began to move, by the steady clock."""
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        time.sleep(0.5)
        if log.exists() and any('"state": "moving"' in line for line in log.read_text().splitlines()):
            return time.monotonic()
    raise ProcessError(f"the arm did not begin to move within {START_S:g} s; {last_words(folder)}")


def _watch(processes: dict[str, Any], began_s: float, seconds: float, folder: Path) -> dict[str, list[float]]:
    """Resident memory of every node, in MB, sampled until the time is over."""
    memory_mb: dict[str, list[float]] = {name: [] for name in NODES}
    samples = round(seconds / SAMPLED_EVERY_S)
    for sample in tqdm(range(1, samples + 1), desc="soak", unit_scale=SAMPLED_EVERY_S, unit="s"):
        time.sleep(max(0.0, began_s + sample * SAMPLED_EVERY_S - time.monotonic()))
        for name, process in processes.items():
            if process.poll() is not None:
                raise ProcessError(f"{name} has ended: {last_words(folder)}")
            memory_mb[name].append(resident_mb(process.pid))
    return memory_mb


def resident_mb(pid: int) -> float:
    """Physical memory that a process holds, 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    kilobytes = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(kilobytes[1]) * 1024 / 1e6 if kilobytes else 0.0
