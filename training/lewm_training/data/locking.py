"""One writer for each output: others are refused as long as its process lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from lewm_ros.config import UserError


class OutputError(UserError):
    """An output that cannot be written; the message is one line for the user."""


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Be the only process that writes the file or folder `out`.

    The lock is held on `OUT.lock`, which is removed at the end. The kernel lets go of it when the process ends, however
    it ends: a file that was left behind refuses nobody.

    Raises:
        OutputError: another process writes it.
    """
    beside = out.with_name(f"{out.name}.lock")
    beside.parent.mkdir(parents=True, exist_ok=True)
    handle = _lock(beside)
    if handle is None:
        raise OutputError(f"{out}: is being written by another process")
    try:
        yield
    finally:
        beside.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def exclusive_new(out: Path) -> Iterator[None]:
    """As `exclusive`, for an output that must not be there yet.

    Raises:
        OutputError: it is there, or another process writes it.
    """
    with exclusive(out):
        if out.exists():
            raise OutputError(f"{out}: exists already; choose another --out or remove it")
        yield


def _lock(path: Path) -> int | None:
    """An open file at `path`, locked; None if another process holds the lock."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        os.close(handle)  # the one before has removed the file meanwhile: this lock would keep nobody out
