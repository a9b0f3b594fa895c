"""Which messages count, live and recorded alike. Those that change nothing are skipped; what was before holds on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

LONGEST_LISTING = 200
"""Characters: a robot may have many joints, and its names may be anything."""


class Skipped(ValueError):
    """A message that changes nothing. `kind` says in a word or two why, for counts."""

    kind = "skipped"


class OtherJoints(Skipped):
    """A message that names none of the joints: of another device on the same topic, or empty."""

    kind = "of other joints"


class Rejected(Skipped):
    """A command that the controller which takes it does not follow."""

    kind = "rejected"


def require_any_joint(received: Sequence[str], names: Sequence[str]) -> None:
    """Raise OtherJoints unless a message that names the joints `received` names one of `names`."""
    if not set(names).intersection(received):
        raise OtherJoints(f"none of the joints is named; received: {_listing(received)}")


def places(received: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where in a message each of the joints `names` stands; the message may name more.

    Raises:
        OtherJoints: it names none of them.
        ValueError: one is missing or named twice.
    """
    require_any_joint(received, names)
    for name in names:
        if name not in received:
            raise ValueError(f"joint '{name}' is missing; received: {_listing(received)}")
        if received.count(name) > 1:
            raise ValueError(f"joint '{name}' is named twice")
    return [received.index(name) for name in names]


def _listing(names: Sequence[str]) -> str:
    return textwrap.shorten(", ".join(names), LONGEST_LISTING, placeholder=" ...") or "none"
