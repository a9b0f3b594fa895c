"""Running a network beside the callbacks: one thread, and where its numbers are crunched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from lewm_ros.config import ConfigError
from lewm_ros.nodes.parameters import Parameters

K = TypeVar("K")
V = TypeVar("V")

DEVICES = ("auto", "cpu", "cuda")


def declare_device(parameters: Parameters) -> torch.device:
    """Declare the parameters `device` and `threads`, apply the threads and return the device.

    Raises:
        ConfigError: cuda is asked for where there is none.
    """
    name = parameters.declare("device", "auto", "where the network runs; auto: cuda if present", choices=DEVICES)
    threads = parameters.declare("threads", 0, "CPU threads of the network; 0: PyTorch's choice", low=0, high=1024)
    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("parameter device: 'cuda' is not available here; use auto or cpu")
    return torch.device(name)


class Worker(Generic[K, V]):
    """One thread that handles the newest item of every key; an item that is replaced before its turn is dropped.

    Args:
        handle: called in the thread with all pending items, oldest key first.
        failed: called in the thread if `handle` raises; `close` then raises the same.
    """

    def __init__(self, handle: Callable[[dict[K, V]], None], failed: Callable[[], object]) -> None:
        self._handle, self._failed = handle, failed
        self._pending: dict[K, V] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def put(self, key: K, item: V) -> None:
        """Hand over an item; returns at once."""
        with self._wake:
            self._pending[key] = item
            self._wake.notify()

    def close(self) -> None:
        """End the thread after the call in progress."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._pending or self._closing)
                if self._closing:
                    return
                pending, self._pending = self._pending, {}
            try:
                self._handle(pending)
            except Exception as failure:
                self._failure = failure
                self._failed()
                return
