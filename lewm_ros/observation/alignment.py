"""Frames of several cameras, and vectors, that belong to one time: by header stamp, live and recorded alike.

The first camera leads. Its frame is joined by the nearest frame of every other camera within a tolerance, and by the
newest message of every vector that is not stamped later. Nothing stale takes the place of what is missing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.observation.timeline import Arrivals, Held, Rule, Track

LONGEST_WAIT_NS = NS_PER_S
"""How much older than the newest frame of all a leading frame may become while it waits for the others."""


@dataclass(frozen=True)
class PairedFrames:
    """A frame of every camera, as of the stamp of the leading one."""

    stamp_ns: int
    frames: dict[str, Held]


class FramePairing:
    """Joins the frames of several cameras, message by message.

    `unpaired` counts by camera the leading frames that were given up because the camera has none near enough; `problem`
    says so of the newest frame, and is empty once it was paired. Of several cameras, `arrivals` counts what came in.

    Args:
        cameras: names; the first one leads.
        tolerance_s: how far a frame's stamp may lie from the leading one's.
    """

    def __init__(self, cameras: Sequence[str], tolerance_s: float) -> None:
        self.unpaired: Counter[str] = Counter()
        self.problem = ""
        self._lead, *self._others = cameras
        self._tolerance_ns = round(tolerance_s * NS_PER_S)
        self._waiting: deque[Held] = deque()
        self._partners: dict[str, deque[Held]] = {name: deque() for name in self._others}
        self.arrivals = {name: Arrivals() for name in cameras if self._others}

    def push(self, camera: str, frame: Held) -> list[PairedFrames]:
        """Take in a frame; returns what it completes, oldest first. The only camera's are complete as they come.

        Raises:
            ClockJump: its stamp lies far before the camera's newest; `restart` begins anew.
            ValueError: its stamp is zero.
        """
        if not self._others:
            return [PairedFrames(frame.stamp_ns, {camera: frame})]
        if not self.arrivals[camera].accept(frame.stamp_ns):
            return []
        if camera == self._lead:
            self._waiting.append(frame)
        else:
            partners = self._partners[camera]
            partners.append(frame)
            while partners[0].stamp_ns < frame.stamp_ns - LONGEST_WAIT_NS:
                partners.popleft()
        return self._pair(max(arrivals.newest_ns or 0 for arrivals in self.arrivals.values()) - LONGEST_WAIT_NS)

    def finish(self) -> list[PairedFrames]:
        """What is left when no more frames come."""
        return self._pair(self._waiting[-1].stamp_ns + 1 if self._waiting else 0)

    def restart(self) -> None:
        """Forget all frames, as when a clock jumps."""
        for frames in (self._waiting, *self._partners.values()):
            frames.clear()
        for arrivals in self.arrivals.values():
            arrivals.newest_ns = None
        self.problem = ""

    def _pair(self, overdue_ns: int) -> list[PairedFrames]:
        """Decide on leading frames, oldest first; those stamped before `overdue_ns` wait for nothing."""
        paired = []
        while self._waiting and (found := self._partners_of(self._waiting[0], overdue_ns)) is not None:
            lead = self._waiting.popleft()
            frames = {name: partner for name, partner in found.items() if partner is not None}
            if len(frames) == len(found):
                self.problem = ""
                paired.append(PairedFrames(lead.stamp_ns, {self._lead: lead} | frames))
            else:
                missing = next(name for name in found if name not in frames)
                self.unpaired[missing] += 1
                tolerance_s = self._tolerance_ns / NS_PER_S
                self.problem = f"camera {missing} has no frame within {tolerance_s:g} s of camera {self._lead}'s"
        return paired

    def _partners_of(self, lead: Held, overdue_ns: int) -> dict[str, Held | None] | None:
        """The frames that belong to a leading one, None for a camera without one; None while that cannot be told."""
        found: dict[str, Held | None] = {}
        for name in self._others:
            frames = self._partners[name]
            while len(frames) > 1 and frames[1].stamp_ns <= lead.stamp_ns:
                frames.popleft()
            if lead.stamp_ns >= overdue_ns and (not frames or frames[-1].stamp_ns < lead.stamp_ns):
                return None
            near = min(list(frames)[:2], key=lambda frame: abs(frame.stamp_ns - lead.stamp_ns), default=None)
            within = near is not None and abs(near.stamp_ns - lead.stamp_ns) <= self._tolerance_ns
            found[name] = near if within else None
        return found


@dataclass(frozen=True)
class AlignedInputs:
    """A frame of every camera, and what was in force of every vector."""

    stamp_ns: int
    frames: dict[str, Held]
    vectors: dict[str, Held]


class Alignment:
    """Joins frames with each other and with vectors, message by message.

    Args:
        cameras: names; the first one leads.
        tolerance_s: how far a frame's stamp may lie from the leading one's.
        vectors: names; each is held from message to message.
        max_age_s: gives how old a vector's message may be, at most, at the time of a frame.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        tolerance_s: float,
        vectors: Sequence[str] = (),
        max_age_s: Callable[[], float] = lambda: inf,
    ) -> None:
        self.pairing = FramePairing(cameras, tolerance_s)
        self._max_age_s, self._vector_problem = max_age_s, ""
        self._waiting: deque[PairedFrames] = deque()
        self._tracks = {name: Track(name, Rule(inf, inf)) for name in vectors}

    @property
    def problem(self) -> str:
        """Why the newest frame could not be joined; empty if it was."""
        return self.pairing.problem or self._vector_problem

    def push_frame(self, camera: str, frame: Held) -> list[AlignedInputs]:
        """Take in a frame; returns what it completes, oldest first.

        Raises:
            ClockJump: its stamp goes back; `restart` makes a new beginning.
            ValueError: its stamp is zero.
        """
        self._waiting += self.pairing.push(camera, frame)
        return self._ready()

    def push_vector(self, name: str, message: Held) -> list[AlignedInputs]:
        """Take in a message of a vector; returns what it completes, oldest first.

        Raises:
            ClockJump: its stamp goes back; `restart` makes a new beginning.
            ValueError: its stamp is zero.
        """
        self._tracks[name].push(message)
        self._tracks[name].forget_before(message.stamp_ns - LONGEST_WAIT_NS)
        return self._ready()

    def restart(self) -> None:
        """Forget everything, as when a clock jumps."""
        self.pairing.restart()
        self._waiting.clear()
        for track in self._tracks.values():
            track.forget()
        self._vector_problem = ""

    def _ready(self) -> list[AlignedInputs]:
        ready = []
        while self._waiting:
            frames, max_age_s = self._waiting[0], self._max_age_s()
            held = {name: track.hold(frames.stamp_ns, track.newest_ns or 0) for name, track in self._tracks.items()}
            if None in held.values() and self._waiting[-1].stamp_ns - frames.stamp_ns <= LONGEST_WAIT_NS:
                break
            self._waiting.popleft()
            vectors = {
                name: message
                for name, message in held.items()
                if isinstance(message, Held) and frames.stamp_ns - message.stamp_ns <= max_age_s * NS_PER_S
            }
            missing = next((name for name in held if name not in vectors), None)
            if missing is None:
                ready.append(AlignedInputs(frames.stamp_ns, frames.frames, vectors))
            within = f" within {max_age_s:g} s" if max_age_s < inf else ""
            self._vector_problem = f"vector {missing} has no message{within} before a frame" if missing else ""
        return ready
