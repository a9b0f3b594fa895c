"""What a node costs beside its network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

WINDOW = 200


class AroundNetwork:
    """CPU time of the whole process per frame, without the network's: reception, conversion, timers, sending.

    What frames cost that were replaced before their turn counts for the next one that was not. The network's time is
    that of the thread which runs it; with several threads of its own, the others' counts as the node's.
    """

    def __init__(self) -> None:
        self.frames_s: deque[float] = deque(maxlen=WINDOW)
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._since_s, self._network_s = time.process_time(), 0.0

    @contextmanager
    def network(self) -> Iterator[None]:
        """What runs within is the network."""
        started_s = time.thread_time()
        yield
        self._network_s += time.thread_time() - started_s

    def frame_done(self) -> None:
        """A frame has been dealt with."""
        self.frames_s.append(time.process_time() - self._since_s - self._network_s)
        self.restart()
