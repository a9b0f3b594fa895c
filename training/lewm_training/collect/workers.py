"""The same work for many numbers, spread over local processes or over a Ray cluster.

Results come as they are finished, in any order, to the process that asked: only that one writes files.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from lewm_ros.config import UserError

Result = TypeVar("Result")

WAITING_PER_CPU = 2
"""Tasks given to Ray at a time, per CPU: enough to keep it busy, few enough for results not to pile up."""

CONNECT_S = 5.0


class SpreadError(UserError):
    """Work that could not be spread, or a worker that was lost; the message is one line for the user."""


class Spread(Protocol):
    """Where work is done."""

    def __call__(self, work: Callable[[int], Result], numbers: Sequence[int]) -> Iterator[tuple[int, Result]]:
        """Yield (number, work(number)) for every number, in any order.

        Raises:
            SpreadError: a worker was lost.
        """
        ...


def over_processes(processes: int) -> Spread:
    """Spread over new processes of this machine, which end with this one, however it ends."""

    def results(work: Callable[[int], Result], numbers: Sequence[int]) -> Iterator[tuple[int, Result]]:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_follow_parent)
        try:
            futures = {pool.submit(work, number): number for number in numbers}
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise SpreadError("a worker process was killed (out of memory?); run it again to go on") from None
        finally:
            pool.shutdown(cancel_futures=True)

    return results


def over_ray(address: str) -> Spread:
    """Spread over the Ray cluster at `address` (`auto`: the one that this machine is part of).

    This project must be installed on its machines. Ray runs the tasks of a lost machine again elsewhere.

    Raises:
        SpreadError: Ray is not installed, or no cluster is there.
    """
    try:
        import ray
    except ImportError:
        raise SpreadError("--ray needs the package `ray`: pip install 'lewm_ros[ray]'") from None
    if address != "auto" and not _answers(address.removeprefix("ray://")):
        raise SpreadError(f"--ray {address}: nothing answers there; `ray start --head` starts a cluster")
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError):
        raise SpreadError(f"--ray {address}: no Ray cluster answers there; `ray start --head` starts one") from None

    def results(work: Callable[[int], Result], numbers: Sequence[int]) -> Iterator[tuple[int, Result]]:
        task = ray.remote(_call)
        places = max(1, int(WAITING_PER_CPU * ray.cluster_resources().get("CPU", 1)))
        running: dict[Any, int] = {}
        try:
            for number in numbers:
                running[task.remote(work, number)] = number
                if len(running) >= places:
                    yield _first_done(ray, running)
            while running:
                yield _first_done(ray, running)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SpreadError(f"Ray gave a task up ({reason}); run it again to go on") from None
        finally:
            ray.shutdown()

    return results


def _answers(address: str) -> bool:
    """Whether something listens at HOST:PORT; Ray itself would try for more than a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True


def _first_done(ray: Any, running: dict[Any, int]) -> tuple[int, Any]:
    """Wait for one of the running tasks, take it out of them, and return its number and result."""
    (done,), _ = ray.wait(list(running))
    return running.pop(done), ray.get(done)


def _call(work: Callable[[int], Result], number: int) -> Result:
    return work(number)


def _follow_parent() -> None:
    """Leave interrupts to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "for worker processes only"

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
