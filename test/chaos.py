"""Real nodes in a closed loop, and a random fault of docs/faults.md every few seconds, or two; see `make chaos`.

Encoder and planner run as processes; camera and arm are the fault table's (`FaultBench`). The whole schedule follows
from the seed, and stands in the report. Judged are all commands, by what a controller of 1 kHz makes of them; that
every fault is named in time; and that motion resumes after it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from conftest import joint_delta_space, random_model, two_cameras
from diagnostic_msgs.msg import DiagnosticStatus
from fault_bench import MAX_LATENESS_S, REASON_S, FaultBench, PathJudge
from faults import (
    HARMLESS,
    IN_MOTION,
    OF_SEVERAL,
    OF_SEVERAL_HARMLESS,
    OF_SIMULATED_TIME,
    STOPPING,
    Fault,
    Reason,
    spoil,
)
from tqdm import tqdm

from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.observation.input_spec import InputSpec

PAUSE_S, LASTS_S = (0.5, 3.0), (0.5, 2.0)
TWO_AT_ONCE = 1.0 / 3.0
HARMLESS_NAMES = {fault.name for fault in (*HARMLESS, *OF_SEVERAL_HARMLESS)}
EVERYWHERE = [*STOPPING, *HARMLESS, *IN_MOTION]
OF_ONE_CAMERA = {
    "two encoders",
    "embedding not a number",
    "embedding of another size",
    "image stamp in the future",
    "image stamp old",
    "image stamp zero",
}
"""Another size of embeddings; with two cameras, frames of another time have no partner and no embedding."""


@dataclass(frozen=True)
class Part:
    """A part of the run, with nodes of its own."""

    name: str
    share: float
    inputs: InputSpec | None
    interface: str
    sim_time: bool
    faults: Sequence[Fault]

    def apart(self, first: Fault, other: Fault) -> bool:
        """Whether two faults are of different things; joints belong to a view if the model takes them."""
        alike = {"view", "joints"} if self.inputs else set()
        return first.of != other.of and not {first.of, other.of} <= alike


PARTS = (
    Part("one camera", 0.5, None, "joint_trajectory", False, EVERYWHERE),
    Part(
        "two cameras",
        0.3,
        two_cameras(),
        "joint_trajectory",
        False,
        [fault for fault in EVERYWHERE if fault.name not in OF_ONE_CAMERA] + OF_SEVERAL + OF_SEVERAL_HARMLESS,
    ),
    Part("simulated time, plain commands", 0.2, None, "commands", True, [*EVERYWHERE, *OF_SIMULATED_TIME]),
)


@dataclass(frozen=True)
class Planned:
    """What is spoiled, by names of faults, so long after motion was seen, and for how long at least."""

    faults: tuple[str, ...]
    pause_s: float
    lasts_s: float


@dataclass
class Seen:
    """What came of it.

    Attributes:
        at_s: since the part began.
        named_after_s: by node and words, since the fault began; None if nobody said so.
        resumed_after_s: since the fault ended.
        late_s: by how much the bench itself was late meanwhile, which is granted to the nodes.
    """

    planned: Planned
    at_s: float
    named_after_s: dict[str, float | None] = field(default_factory=dict)
    resumed_after_s: float | None = None
    late_s: float = 0.0
    failures: list[str] = field(default_factory=list)


def draw(part: Part, seconds: float, random: np.random.Generator) -> list[Planned]:
    """A schedule that takes at least so long: faults, or pairs of faults of different things."""
    planned: list[Planned] = []
    faults = part.faults
    while sum(event.pause_s + event.lasts_s for event in planned) < seconds:
        first = faults[random.integers(len(faults))]
        others = [fault for fault in faults if part.apart(first, fault)]
        chosen = [first, others[random.integers(len(others))]] if random.random() < TWO_AT_ONCE else [first]
        pause_s, lasts_s = (round(random.uniform(*bounds), 2) for bounds in (PAUSE_S, LASTS_S))
        planned.append(Planned(tuple(fault.name for fault in chosen), pause_s, lasts_s))
    return planned


def must_be_said(faults: Sequence[Fault]) -> list[Reason]:
    """Of faults at the same time: a stopped planner says nothing else, and an arm at rest shows less."""
    reasons = []
    for fault in faults:
        others = [other for other in faults if other is not fault]
        hiding = {node for other in others for node in other.hides}
        unseen = fault.in_motion and any(other.name not in HARMLESS_NAMES for other in others)
        reasons += [reason for reason in fault.reasons if not unseen and reason.node not in hiding]
    return reasons


class Run:
    """A part of the run on its bench: injects what is planned, and judges."""

    def __init__(self, part: Part, bench: FaultBench) -> None:
        self._bench, self._began_s = bench, time.monotonic()
        self._faults = {fault.name: fault for fault in part.faults}

    def play(self, planned: Planned) -> Seen:
        """Spoil, wait for the words, mend, and wait for motion."""
        bench, faults = self._bench, [self._faults[name] for name in planned.faults]
        if bench.far:
            bench.moves()
        bench.spin(planned.pause_s)
        since_s = time.monotonic()
        seen = Seen(planned, round(since_s - self._began_s, 2))
        for fault in faults:
            spoil(bench, fault)
        self._listen(seen, faults, since_s)
        bench.mend()
        for fault in faults:
            fault.end(bench)
        ended_s = time.monotonic()
        if any(fault.enable for fault in faults):
            bench.allow()
        bench.goes_on()
        self._judge_motion(seen, faults, since_s, ended_s)
        return seen

    def _listen(self, seen: Seen, faults: Sequence[Fault], since_s: float) -> None:
        """Wait until all is said that must be, or it is too late for that."""
        bench, reasons = self._bench, must_be_said(faults)
        heard = {reason: self._heard_after_s(reason, since_s) for reason in reasons}
        allowed_s = {reason: reason.after_s + REASON_S for reason in reasons}
        while True:
            passed_s, seen.late_s = time.monotonic() - since_s, round(bench.lateness_s(since_s), 3)
            waiting = [reason for reason in reasons if heard[reason] is None]
            overdue = all(passed_s > allowed_s[reason] + seen.late_s for reason in waiting)
            if passed_s >= seen.planned.lasts_s and overdue:
                break
            bench.spin(0.05)
            heard = {reason: self._heard_after_s(reason, since_s) for reason in reasons}
        for reason, after_s in heard.items():
            seen.named_after_s[f"{reason.node}: {reason.words}"] = after_s and round(after_s, 3)
            if after_s is None or after_s > allowed_s[reason] + seen.late_s:
                took = "not" if after_s is None else f"after {after_s:.2f} s"
                limit_s = allowed_s[reason] + seen.late_s
                seen.failures.append(f"{reason.node} said '{reason.words}' {took}, {limit_s:.2f} s allowed")

    def _heard_after_s(self, reason: Reason, since_s: float) -> float | None:
        """How long after that a node first said so, as something that is wrong."""
        for heard in self._bench.statuses:
            wrong = heard.time_s >= since_s and heard.level != DiagnosticStatus.OK
            if wrong and heard.name == reason.node and reason.words in heard.message:
                return heard.time_s - since_s
        return None

    def _judge_motion(self, seen: Seen, faults: Sequence[Fault], since_s: float, ended_s: float) -> None:
        bench = self._bench
        seen.resumed_after_s, seen.late_s = (
            round(time.monotonic() - ended_s, 2),
            round(bench.lateness_s(since_s), 3),
        )
        allowed_s = max(fault.resumes_s for fault in faults) + seen.late_s
        if seen.resumed_after_s > allowed_s:
            seen.failures.append(f"motion resumed after {seen.resumed_after_s} s, {allowed_s:.2f} s allowed")
        if {fault.name for fault in faults} <= HARMLESS_NAMES and seen.late_s <= MAX_LATENESS_S:
            heard = (h for h in bench.statuses if h.time_s >= since_s and h.name == "planner_node")
            complaints = {h.message for h in heard if h.level == DiagnosticStatus.ERROR}
            seen.failures += [f"stopped for no reason: {complaint}" for complaint in sorted(complaints)]


def play_part(part: Part, planned: Sequence[Planned], seconds: float, folder: Path) -> dict[str, Any]:
    """What came of a part of the run: the schedule from its beginning, as much as fits into the time."""
    checkpoint = save_checkpoint(Checkpoint(random_model(part.inputs), joint_delta_space()), folder / "model")
    bench = FaultBench(checkpoint, part.interface, part.sim_time)
    seen: list[Seen] = []
    failures: list[str] = []
    try:
        bench.start_encoder()
        bench.start_planner()
        bench.claim_checkpoint()
        bench.show_goal()
        bench.moves()
        run, began_s = Run(part, bench), time.monotonic()
        with tqdm(total=round(seconds), desc=part.name, unit="s") as bar:
            for event in planned:
                if time.monotonic() - began_s >= seconds:
                    break
                try:
                    seen.append(run.play(event))
                except AssertionError as error:
                    failures.append(f"{' and '.join(event.faults)}: {error}")
                    break
                bar.update(min(round(time.monotonic() - began_s), bar.total) - bar.n)
        bench.judge.finish()
    finally:
        bench.close()
    failures += [f"{' and '.join(event.planned.faults)}: {line}" for event in seen for line in event.failures]
    failures += [f"unsafe: {line}" for line in bench.judge.faults]
    return {
        "part": part.name,
        "seconds": seconds,
        "commands": len(bench.judge.times_s),
        "judge": bench.judge.controller.report() if isinstance(bench.judge, PathJudge) else {},
        "schedule": [asdict(event) for event in planned],
        "events": [asdict(event) for event in seen],
        "failures": [f"{part.name}: {line}" for line in failures],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Play all parts; returns 1 if anything was unsafe, not named in time, or did not resume."""
    options = _parser().parse_args(arguments)
    random = np.random.default_rng(options.seed)
    parts = []
    for part in PARTS:
        seconds = 60.0 * options.minutes * part.share
        planned = draw(part, seconds, random)
        if part.name in (options.only or part.name):
            with tempfile.TemporaryDirectory(prefix="chaos_") as folder:
                parts.append(play_part(part, planned, seconds, Path(folder)))
    failures = [line for part in parts for line in part["failures"]]
    report = {"seed": options.seed, "minutes": options.minutes, "failures": failures, "parts": parts}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write("\n".join([*failures, summary(parts), f"report: {options.json}"]) + "\n")
    return 1 if failures else 0


def summary(parts: Sequence[dict[str, Any]]) -> str:
    """One line for all."""
    events = [event for part in parts for event in part["events"]]
    faults = sum(len(event["planned"]["faults"]) for event in events)
    slowest_s = max((event["resumed_after_s"] for event in events), default=0.0)
    commands, failures = sum(part["commands"] for part in parts), sum(len(part["failures"]) for part in parts)
    return (
        f"{faults} faults in {len(events)} events, {commands} commands; motion resumed after {slowest_s} s at most; "
        f"{failures} failures"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, without the start of nodes")
    parser.add_argument("--seed", type=int, default=0, help="of the schedule")
    parser.add_argument("--only", choices=[part.name for part in PARTS], help="one part of the run")
    parser.add_argument("--json", type=Path, default=Path("chaos/chaos.json"), help="the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
