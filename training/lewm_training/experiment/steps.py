"""How a cell of an experiment is made: the project's own commands one after the other, each with a file at its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lewm_ros.config import UserError
from lewm_training.experiment.design import Cell, ExperimentConfig

FIGURES = ("train", "probe", "eval", "bench inference")
"""Steps that leave figures."""

SIDE_BY_SIDE = ("train", "train-policy", "probe", "eval")
"""Steps of which several cells may be at one at the same time; recordings take all cores, timings want them idle."""


INTERRUPTED = 130
"""Exit status of a command that was."""


class StepFailed(UserError):
    """A command of an experiment that failed; the message says which, and its last words."""


@dataclass(frozen=True)
class Step:
    """One command; it is done when its `product` is there."""

    name: str
    arguments: tuple[str, ...]
    product: Path

    @property
    def command(self) -> str:
        """As one would type it."""
        return " ".join(["lewm", *(f"'{word}'" if set(word) & set(" []{}") else word for word in self.arguments)])


def steps_of(config: ExperimentConfig, cell: Cell, out: Path, device: str, seed: int) -> list[Step]:
    """The steps of a cell in order; cells that are recorded alike share a dataset."""
    folder, drawn = out / cell.folder, ("--seed", str(seed))
    recorded = f"{config.task} {' '.join(cell.collect)}".encode()
    dataset = str(out / "data" / f"{zlib.crc32(recorded):08x}.h5")
    run, policy = folder / "run", folder / "policy.json"
    where = ("--device", device)

    def step(name: str, *arguments: str) -> Step:
        """One whose figures are its product."""
        product = folder / f"{name.replace(' ', '_')}.json"
        return Step(name, (*name.split(), *arguments, *drawn, "--json", str(product)), product)

    collect = Step(
        "collect", ("collect", "--task", config.task, *cell.collect, *drawn, "--out", dataset), Path(dataset)
    )
    train = ("train", "--dataset", dataset, "--config", config.recipe, *_sets(cell.train), *where, "--out", str(run))
    learned, picture = ("--checkpoint", str(run / "model.json")), ("--figure", str(folder / "probe.png"))
    made = [collect, step(*train)]
    if cell.policy is not None:
        afterwards = ("--dataset", dataset, *_sets(cell.policy), "--out", str(policy))
        made.append(step("train-policy", *learned, *afterwards))
        learned = ("--checkpoint", str(policy))
    return [
        *made,
        step("probe", *learned, "--dataset", dataset, "--frames", str(config.probe_frames), *where, *picture),
        step("eval", *learned, "--task", config.task, "--episodes", str(config.episodes), "--alone", *where),
        step("bench inference", *learned, *where),
    ]


def run_in_process(step: Step, log: Path, threads: int | None = None) -> None:
    """Run a step in a process of its own; what it says goes to a log, so that only the experiment's progress is seen.

    Args:
        step: to run.
        log: file for its words.
        threads: of its networks on the CPU; None: as many as PyTorch takes.

    Raises:
        StepFailed: it did; the message ends with its last line.
    """
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "lewm_training", *step.arguments]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False)
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").strip().splitlines()
        raise StepFailed(f"{step.command}: {said[-1] if said else f'exit status {done.returncode}'}; see {log}")


def run_cells(
    config: ExperimentConfig,
    out: Path,
    device: str,
    seed: int,
    processes: int = 1,
    run: Callable[[Step, Path], None] = run_in_process,
) -> dict[str, dict[str, Any]]:
    """Make what is not there yet of every cell: first all recordings, then cells side by side, then what is timed.

    Args:
        config: the experiment.
        out: folder of everything.
        device: of the networks.
        seed: of everything; the problems that are evaluated have a stream of their own.
        processes: cells that are made side by side.
        run: runs a step, given where to write what it says.

    Returns:
        by folder of the cell, its `factor`, `level`, `commands`, and the figures of each of `FIGURES`.

    Raises:
        StepFailed: a command failed, or what is there was made by another one; what came before is kept.
    """
    planned = {cell: steps_of(config, cell, out, device, seed) for cell in config.cells()}
    failed = threading.Event()
    with tqdm(total=sum(map(len, planned.values())), desc="experiment", unit="step") as bar:

        def make(cell: Cell, names: Container[str]) -> None:
            for step in planned[cell]:
                if step.name in names and not failed.is_set():
                    bar.set_postfix_str(f"{cell.folder}: {step.name}")
                    try:
                        _make(step, out / cell.folder, run)
                    except BaseException:
                        failed.set()
                        raise
                    bar.update()

        for cell in planned:
            make(cell, ("collect",))
        with ThreadPoolExecutor(processes) as pool:
            for done in as_completed([pool.submit(make, cell, SIDE_BY_SIDE) for cell in planned]):
                done.result()
        for cell in planned:
            make(cell, ("bench inference",))
    return {
        cell.folder: {"factor": cell.factor, "level": cell.level, "commands": [step.command for step in steps]}
        | {step.name: json.loads(step.product.read_text()) for step in steps if step.name in FIGURES}
        for cell, steps in planned.items()
    }


def _make(step: Step, folder: Path, run: Callable[[Step, Path], None]) -> None:
    """Run a step unless its product is there, made by the same command."""
    maker = step.product.with_suffix(".command")
    if step.product.exists():
        made_by = maker.read_text(encoding="utf-8") if maker.exists() else "another command"
        if made_by != step.command:
            raise StepFailed(f"{step.product}: made by '{made_by}', not '{step.command}'; choose another --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    step.product.parent.mkdir(parents=True, exist_ok=True)
    maker.write_text(step.command, encoding="utf-8")
    run(step, folder / f"{step.name.replace(' ', '_')}.log")


def _sets(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]
