"""Samples at a fixed rate from topics that come at their own: a causal hold by header stamp.

Message by message, so that it serves live topics as well as recordings of any length.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lewm_ros.observation.stamps import NS_PER_S

REORDER_NS = 100_000_000
"""A stamp may go back this far: best-effort transport reorders messages; clocks that are set go back further."""


class ClockJump(ValueError):
    """The stamps of a topic went back."""


@dataclass(frozen=True)
class Rule:
    """When a topic's newest message may be used.

    Args:
        max_age_s: oldest message that a sample may hold; infinite for what stays in force until it is replaced.
        gap_s: no sample is taken in a pause between messages that is longer than this.
        ahead_ns: a sample holds the newest message up to so much after its time; negative: before its time.
    """

    max_age_s: float
    gap_s: float
    ahead_ns: int = 0


@dataclass(frozen=True)
class Held:
    """A message in force: from its stamp on, by itself until `until_ns`, then growing old."""

    stamp_ns: int
    until_ns: int
    value: Any


@dataclass(frozen=True)
class Sample:
    """What every topic held at one time; samples of one `segment` are successive steps of the fixed rate."""

    time_ns: int
    segment: int
    held: dict[str, Held]


@dataclass
class Figures:
    """What came in on a topic and what became of it. Ages and gaps are of the stamps of what was not dropped.

    `dropped` counts by kind; `first_reasons` says by kind what was wrong with the first such message, if more is known.
    """

    received: int = 0
    used: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    largest_gap_s: float = 0.0
    largest_age_s: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    first_reasons: dict[str, str] = field(default_factory=dict)

    def drop(self, kind: str, reason: str) -> None:
        """Count a message that was received and is not used."""
        self.received += 1
        self.dropped[kind] += 1
        self.first_reasons.setdefault(kind, reason)


class Arrivals:
    """What came in on a topic: which messages are in the order of their stamps, and figures of what became of all."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.newest_ns: int | None = None
        self._used_ns: int | None = None

    def accept(self, stamp_ns: int) -> bool:
        """Count a message; whether it is newer than all before it.

        Raises:
            ClockJump: its stamp lies more than `REORDER_NS` before the newest one.
            ValueError: its stamp is zero.
        """
        figures = self.figures
        figures.received += 1
        if stamp_ns <= 0:
            figures.dropped["stamp is zero"] += 1
            raise ValueError("the stamp is zero; the driver must stamp its messages")
        if self.newest_ns is not None:
            step_ns = stamp_ns - self.newest_ns
            if step_ns < -REORDER_NS:
                figures.dropped["clock jump"] += 1
                raise ClockJump(
                    f"the clock jumps back by {-step_ns / NS_PER_S:.3f} s, "
                    f"from {self.newest_ns / NS_PER_S:.3f} to {stamp_ns / NS_PER_S:.3f} s"
                )
            if step_ns <= 0:
                figures.dropped["out of order" if step_ns else "repeated stamp"] += 1
                return False
            figures.largest_gap_s = max(figures.largest_gap_s, step_ns / NS_PER_S)
        self.newest_ns = stamp_ns
        figures.first_ns = stamp_ns if figures.first_ns is None else min(stamp_ns, figures.first_ns)
        figures.last_ns = stamp_ns if figures.last_ns is None else max(stamp_ns, figures.last_ns)
        return True

    def use(self, held: Held, time_ns: int) -> None:
        """Note that a sample holds a message."""
        self.figures.used += held.stamp_ns != self._used_ns
        self._used_ns = held.stamp_ns
        age_s = max(0, time_ns - held.until_ns) / NS_PER_S
        self.figures.largest_age_s = max(self.figures.largest_age_s, age_s)


class Track:
    """The messages of one topic that samples may still need, in the order of their stamps."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name, self.rule, self.arrivals = name, rule, Arrivals()
        self._messages: deque[Held] = deque()

    @property
    def figures(self) -> Figures:
        """Of what came in."""
        return self.arrivals.figures

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp."""
        return self.arrivals.newest_ns

    def forget(self) -> None:
        """Start anew, with any clock; the figures stay."""
        self._messages.clear()
        self.arrivals.newest_ns = None

    def forget_before(self, time_ns: int) -> None:
        """Keep what is in force at a time and comes after it."""
        while len(self._messages) > 1 and self._messages[1].stamp_ns <= time_ns:
            self._messages.popleft()

    def push(self, message: Held) -> None:
        """Take in a message, unless it is older than the newest one; see `Arrivals.accept` for the errors."""
        if self.arrivals.accept(message.stamp_ns):
            self._messages.append(message)

    def end_ns(self) -> int:
        """Up to when the newest message is in force without growing old; 0 before the first one."""
        return self._messages[-1].until_ns if self._messages else 0

    def first_after(self, time_ns: int) -> Held | None:
        """The earliest message stamped after a time."""
        return next((message for message in self._messages if message.stamp_ns > time_ns), None)

    def hold(self, time_ns: int, known_ns: int) -> Held | str | None:
        """The message in force at a time, or the reason why none is; None as long as that cannot be told.

        Forgets what came before: times of successive calls must not go back.

        Args:
            time_ns: of the sample.
            known_ns: no message stamped before this is still to come.
        """
        messages, limit_ns = self._messages, time_ns + self.rule.ahead_ns
        if known_ns < limit_ns:
            return None
        self.forget_before(limit_ns)
        if not messages or messages[0].stamp_ns > limit_ns:
            return "no message yet"
        held = messages[0]
        age_s = max(0, time_ns - held.until_ns) / NS_PER_S
        if age_s > self.rule.max_age_s:
            return f"nothing newer than {self.rule.max_age_s:g} s"
        next_ns = messages[1].stamp_ns if len(messages) > 1 else known_ns
        if age_s > 0.0 and next_ns - held.until_ns > self.rule.gap_s * NS_PER_S:
            return f"a pause of more than {self.rule.gap_s:g} s"
        if age_s > 0.0 and len(messages) == 1 and math.isfinite(self.rule.gap_s):
            return None
        return held


class Timeline:
    """Samples at `control_hz` what several topics hold; nothing is made up for what is missing.

    A segment begins with a message of the topic `lead` at which every topic holds something, and ends where one of
    them does not any more. A sample is given out as soon as every topic has got past its time, or is `patience_s`
    behind the others.

    Args:
        rules: of every topic.
        lead: the topic whose stamps the segments begin with.
        control_hz: samples per second.
        patience_s: how much later than the newest message of all a message may come without being overlooked.
    """

    def __init__(self, rules: dict[str, Rule], lead: str, control_hz: float, patience_s: float = 1.0) -> None:
        self.tracks = {name: Track(name, rule) for name, rule in rules.items()}
        self.segment = 0
        self.ends: list[tuple[int, str]] = []
        self._lead, self._control_hz, self._patience_ns = self.tracks[lead], control_hz, round(patience_s * NS_PER_S)
        self._begin_ns: int | None = None
        self._step = 0
        self._tried_ns = 0

    def push(self, name: str, message: Held) -> Sequence[Sample]:
        """Take in a message of a topic; returns the samples that it completes.

        Raises:
            ClockJump: the topic's stamps went back; `restart` makes a new beginning.
            ValueError: the stamp is zero.
        """
        self.tracks[name].push(message)
        newest_ns = max(track.newest_ns or 0 for track in self.tracks.values())
        return list(self._advance(newest_ns - self._patience_ns))

    def finish(self) -> Sequence[Sample]:
        """The samples that are left when no more messages come, up to where the first regular topic ends."""
        regular = [track for track in self.tracks.values() if math.isfinite(track.rule.max_age_s)]
        end_ns = min(track.end_ns() - min(0, track.rule.ahead_ns) for track in regular)
        return list(self._advance(end_ns + max(0, self._lead.rule.ahead_ns)))

    def restart(self, reason: str) -> None:
        """Forget all messages, end the segment and follow the clocks from their new time on."""
        for track in self.tracks.values():
            track.forget()
        if self._begin_ns is not None:
            self._end(reason)
        self._tried_ns = 0

    def _advance(self, known_ns: int) -> Iterator[Sample]:
        """Decide on every sample for which all topics are known; without newer messages they are up to `known_ns`."""
        while (time_ns := self._next_ns()) is not None:
            known = {name: max(track.newest_ns or 0, known_ns) for name, track in self.tracks.items()}
            found = {name: track.hold(time_ns, known[name]) for name, track in self.tracks.items()}
            if None in found.values():
                return
            held = {name: message for name, message in found.items() if isinstance(message, Held)}
            if len(held) == len(found):
                if self._begin_ns is None:
                    self._begin_ns = time_ns
                self._step += 1
                for name, message in held.items():
                    self.tracks[name].arrivals.use(message, time_ns)
                yield Sample(time_ns, self.segment, held)
                continue
            missing, reason = next((name, why) for name, why in found.items() if isinstance(why, str))
            self._tried_ns = time_ns
            if self._begin_ns is None:
                self._lead.figures.dropped[f"without {missing}"] += 1
            else:
                self._end(f"{missing}: {reason}")

    def _next_ns(self) -> int | None:
        """Time of the next sample; None if it is not known yet."""
        if self._begin_ns is not None:
            return self._time_ns(self._begin_ns, self._step)
        candidate = self._lead.first_after(self._tried_ns)
        return None if candidate is None else candidate.stamp_ns

    def _time_ns(self, begin_ns: int, step: int) -> int:
        # Rounded up, so that the frames of a camera of the same rate are not a nanosecond late.
        return begin_ns + math.ceil(step * NS_PER_S / self._control_hz)

    def _end(self, reason: str) -> None:
        assert self._begin_ns is not None
        self.ends.append((self._time_ns(self._begin_ns, self._step - 1), reason))
        self._begin_ns, self._step = None, 0
        self.segment += 1
