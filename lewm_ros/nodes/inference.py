"""Running a network beside the callbacks: one thread, and where its numbers are crunched."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from lewm_ros.config import ConfigError
from lewm_ros.nodes.parameters import Parameters

K = TypeVar("K")
V = TypeVar("V")

DEVICES = ("auto", "cpu", "cuda")
CLOSE_S = 5.0


def declare_device(parameters: Parameters) -> Callable[[], torch.device]:
    """Declare the parameters `device` and `threads`.

    Returns:
        what applies the threads and returns the device; it raises ConfigError if cuda is asked for where there is none.
    """
    device = parameters.declare("device", "auto", "where the network runs; auto: cuda if present", choices=DEVICES)
    threads = parameters.declare("threads", 1, "CPU threads of the network; 0: PyTorch's choice", low=0, high=1024)

    def choose() -> torch.device:
        if threads():
            torch.set_num_threads(threads())
        name = device()
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and not torch.cuda.is_available():
            raise ConfigError("parameter device: 'cuda' is not available here; use auto or cpu")
        return torch.device(name)

    return choose


class Worker(Generic[K, V]):
    """One thread that handles the newest item of every key; an item that is replaced before its turn is dropped.

    It computes with as many CPU threads as PyTorch was told before. If a call raises, `failure` says so until the next
    one succeeds; the traceback goes to `log`, the thread goes on.

    Args:
        handle: called in the thread with all pending items, oldest key first.
        log: called in the thread with what `handle` has raised.
    """

    def __init__(self, handle: Callable[[dict[K, V]], None], log: Callable[[str], object]) -> None:
        self._handle, self._log = handle, log
        self._pending: dict[K, V] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._busy_since_s: float | None = None
        self.failure = ""
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def put(self, key: K, item: V) -> None:
        """Hand over an item; returns at once."""
        with self._wake:
            self._pending[key] = item
            self._wake.notify()

    def clear(self) -> None:
        """Drop what has not begun, and forget the failure."""
        with self._wake:
            self._pending.clear()
        self.failure = ""

    @property
    def busy(self) -> bool:
        """Whether a call is under way or an item waits for one."""
        with self._wake:
            return bool(self._pending) or self._busy_since_s is not None

    def overdue(self, max_busy_s: float) -> str:
        """Says so if the call under way takes too long; empty otherwise."""
        since_s = self._busy_since_s
        late = since_s is not None and time.monotonic() - since_s > max_busy_s
        return f"inference takes longer than {max_busy_s:g} s" if late else ""

    def close(self) -> None:
        """End the thread after the call in progress, or leave a call that never ends behind."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        # OpenMP counts threads for every thread by itself: a new one would use all cores, whatever was set elsewhere.
        torch.set_num_threads(torch.get_num_threads())
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._pending or self._closing)
                if self._closing:
                    return
                pending, self._pending = self._pending, {}
                self._busy_since_s = time.monotonic()
            try:
                self._handle(pending)
                self.failure = ""
            except Exception as failure:
                self.failure = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
                self._log(traceback.format_exc())
            self._busy_since_s = None
