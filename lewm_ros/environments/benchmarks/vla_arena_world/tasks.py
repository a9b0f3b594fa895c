"""Which tasks of VLA-Arena are installed: a file each, by suite and level."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = "vla-arena/tasks"
"""On the Hugging Face hub: a package of task files and assets per suite."""


def find_task(root: Path, suite: str, level: str, task: str) -> Path:
    """The BDDL file of a task.

    Args:
        root: the folder with a folder per suite.
        suite: such as safety_static_obstacles.
        level: such as level_0.
        task: its name, or a beginning of it that only one task has.

    Raises:
        ValueError: there is none, or more than one; the message names what there is, and what brings the others.
    """
    suites = _names(path for path in root.iterdir() if any(path.glob("level_*/*.bddl")))
    if suite not in suites:
        raise ValueError(f"suite '{suite}' is unknown; installed: {_listed(suites)}; {download(suite)}")
    levels = _names(path for path in (root / suite).iterdir() if any(path.glob("*.bddl")))
    if level not in levels:
        raise ValueError(f"'{level}' is no level of {suite}; installed: {_listed(levels)}; {download(suite)}")
    tasks = _names((root / suite / level).glob("*.bddl"))
    fitting = [name for name in tasks if name == task] or [name for name in tasks if task and name.startswith(task)]
    if len(fitting) != 1:
        problem, hint = ("can be more than one", "") if fitting else ("is unknown", f"; {download(suite)}")
        raise ValueError(f"task '{task}' {problem}; installed in {suite}/{level}: {_listed(fitting or tasks)}{hint}")
    return root / suite / level / f"{fitting[0]}.bddl"


def download(suite: str) -> str:
    """The words that name the benchmark's own command, which brings a suite's tasks and assets."""
    command = Path(sys.executable).with_name("vla-arena.download-tasks")
    return f"`{command} install {suite} --repo {REPOSITORY}` brings what the benchmark has of it"


def _names(paths) -> list[str]:
    return sorted(path.stem for path in paths)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
