"""One mutant: made, imported in this process, judged."""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.marks import WrongRow
from fuzzing.mutation import Format, Mutation, Source, choose, copy_source
from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset

LONGEST_LINE = 600
PROGRESS = re.compile(r"\[(\d+:)?\d\d:\d\d[<,]")
"""What every line of a progress bar holds."""

CURSOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What moves the cursor from one bar to the next."""

PICTURES = re.compile(r"libpng |Corrupt JPEG data|\[ ?(WARN|ERROR):")
"""What C libraries themselves say of a picture's bytes, which none of their callers can keep from them."""

SKIPPING = 0.3
"""Share of mutants that are imported with --skip-bad."""


@dataclass(frozen=True)
class Result:
    """What became of a mutant; `fault` says in words what should not have, or is empty."""

    format: str
    seed: int
    number: int
    source: str
    kind: str
    skip_bad: bool
    status: int | None
    said: str
    fault: str


@dataclass(frozen=True)
class Run:
    """What a command did: its status, its lines on the standard error, and the traceback if it had one."""

    status: int | None
    lines: list[str]
    trace: str


def draw(form: Format, sources: Sequence[Source], seed: int, number: int) -> tuple[Source, Mutation, bool, Any]:
    """The mutant of a number: its source, its mutation, whether bad episodes are skipped, and its random numbers."""
    rng = np.random.default_rng([seed, number])
    mutation = form.mutations[number % len(form.mutations)]
    return choose(rng, sources), mutation, bool(rng.random() < SKIPPING) and not mutation.harmless, rng


def attempt(form: Format, sources: Sequence[Source], seed: int, number: int, folder: Path) -> tuple[Result, str]:
    """Make, import and judge a mutant in the empty folder; returns the result, and all that the import said."""
    source, mutation, skip_bad, rng = draw(form, sources, seed, number)
    mutant, out = folder / source.path.name, folder / "out" / "data.h5"
    out.parent.mkdir()
    copy_source(source.path, mutant)
    mutation.apply(mutant, rng)
    command = ["import", "--from", form.name, str(mutant), "--out", str(out), "--config", str(source.config)]
    run = call([*command, "--skip-bad"] if skip_bad else command, folder)
    fault = judge(run, out, lambda dataset: form.check(dataset, mutant, not mutation.spoils_values))
    whole = form.rows[source.name]
    if not fault and mutation.harmless:
        fault = "refused: " + run.lines[0] if run.status else rows_missing(out, whole)
    if not fault and run.status:
        copy_source(source.path, mutant)
        again = call(command, folder)
        fault = judge(again, out, lambda dataset: form.check(dataset, mutant, True)) or (
            again.lines[0] if again.status else rows_missing(out, whole)
        )
        fault = fault and f"the good source, imported afterwards: {fault}"
    said = "\n".join([*run.lines, run.trace]).strip()
    result = Result(
        form.name, seed, number, source.name, mutation.kind, skip_bad, run.status, said[-LONGEST_LINE:], fault
    )
    return result, said


def judge(run: Run, out: Path, check: Any) -> str:
    """What is wrong with an import; empty: nothing."""
    if run.trace:
        return "traceback: " + run.trace.strip().splitlines()[-1][:LONGEST_LINE]
    astray = [file for file in out.parent.rglob("*") if file.suffix in (".writing", ".tmp")]
    if astray:
        return f"left behind: {astray[0].name}"
    if run.status == 2:
        if len(run.lines) != 1:
            return f"{len(run.lines)} lines on the standard error: {' | '.join(run.lines)[:LONGEST_LINE]}"
        if not run.lines[0].startswith("lewm import: "):
            return f"not said by lewm: {run.lines[0][:LONGEST_LINE]}"
        if len(run.lines[0]) > LONGEST_LINE:
            return f"a line of {len(run.lines[0])} characters: {run.lines[0][:LONGEST_LINE]}"
        return f"{out.name} is there" if out.exists() else ""
    if run.status != 0:
        return f"status {run.status}"
    if [file.name for file in out.parent.iterdir()] != [out.name]:
        return f"left beside the dataset: {', '.join(file.name for file in out.parent.iterdir())}"
    try:
        dataset = EpisodeDataset.open(out)
        for name, column in dataset.columns.items():
            if not np.isfinite(column).all():
                return f"{name} is not finite"
        check(dataset)
    except DatasetError as error:
        return f"the dataset cannot be opened: {error}"
    except WrongRow as error:
        return f"wrong row: {error}"
    return ""


def rows_missing(out: Path, right: Sequence[int]) -> str:
    """Whether a dataset that should be whole is not."""
    lengths = EpisodeDataset.open(out).lengths.tolist()
    return "" if lengths == list(right) else f"episodes of {lengths} rows, expected {list(right)}"


def call(arguments: Sequence[str], folder: Path) -> Run:
    """Run `lewm` here, with what it and the C libraries below it say caught in files."""
    caught = folder / "said"
    kept = [os.dup(1), os.dup(2)]
    streams = sys.stdout, sys.stderr
    trace, status = "", None
    with (folder / "shown").open("wb") as shown, caught.open("wb") as said:
        os.dup2(shown.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
        try:
            status = main(list(arguments))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except Exception:  # the fault that is looked for
            trace = traceback.format_exc()
        finally:
            for stream, descriptor, number in zip((sys.stdout, sys.stderr), kept, (1, 2), strict=True):
                stream.close()
                os.dup2(descriptor, number)
                os.close(descriptor)
            sys.stdout, sys.stderr = streams
    text = CURSOR.sub("", caught.read_text(encoding="utf-8", errors="replace")).replace("\r", "\n")
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not PROGRESS.search(line) and not PICTURES.match(line)]
    if status == 0:
        lines = [line for line in lines if "Traceback" in line]
    return Run(status, lines, trace)


def clear(folder: Path) -> None:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
