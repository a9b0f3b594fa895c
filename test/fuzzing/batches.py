"""Mutants in processes of their own: one that crashes or hangs is seen, and the next goes on after it."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from fuzzing.mutation import Format, Source
from fuzzing.trial import Result, attempt, clear, draw

BATCH = 50
TIMEOUT_S = 20.0
MEMORY_BYTES = 4 << 30
"""More than that a mutant of a few kilobytes may not take."""

FORK = multiprocessing.get_context("fork")


def run_mutants(
    form: Format, sources: Sequence[Source], seed: int, numbers: Sequence[int], folder: Path
) -> Iterator[Result]:
    """The results of the mutants, in their order."""
    remaining = list(numbers)
    while remaining:
        receiver, sender = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_work, args=(form, sources, seed, remaining[:BATCH], folder, sender))
        process.start()
        sender.close()
        for number in remaining[:BATCH]:
            result = _receive(receiver, process)
            remaining.pop(0)
            if isinstance(result, Result):
                yield result
                continue
            source, mutation, skip_bad, _ = draw(form, sources, seed, number)
            yield Result(form.name, seed, number, source.name, mutation.kind, skip_bad, None, "", result)
            break
        process.join()
        receiver.close()


def _receive(receiver: Connection, process: multiprocessing.process.BaseProcess) -> Result | str:
    """The next result, or what became of the process instead."""
    if not receiver.poll(TIMEOUT_S):
        process.kill()
        return f"hangs: nothing in {TIMEOUT_S:g} s"
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return f"crash: the process ended with {process.exitcode}"


def _work(
    form: Format, sources: Sequence[Source], seed: int, numbers: Sequence[int], folder: Path, sender: Connection
) -> None:
    in_use_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use_bytes + MEMORY_BYTES, resource.RLIM_INFINITY))
    for number in numbers:
        clear(folder)
        sender.send(attempt(form, sources, seed, number, folder)[0])
