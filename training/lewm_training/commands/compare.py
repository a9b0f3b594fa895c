"""`lewm compare`: reports of `lewm eval --pairs` side by side."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import picture_file
from lewm_training.commands.errors import CommandError

HELP = "Put reports of `lewm eval --pairs` side by side: a table, and a chart. Those who act alike are named by file."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="JSON file of `lewm eval --pairs`")
    parser.add_argument("--figure", type=picture_file, metavar="FILE", help="draw them as bars")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_training.judge.figures import FLOOR, plot_success_rates

    reports = {path: _read(path) for path in options.reports}
    _require_same_pairs(reports)
    alike = Counter((report["task"], report["who"]) for report in reports.values())
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for path, report in reports.items():
        several = alike[report["task"], report["who"]] > 1
        who = f"{report['who']} ({path.with_suffix('')})" if several else report["who"]
        found = [*_rows(report, who, ""), *_rows(report, FLOOR, "random_")]
        rows |= {(row["task"], row["protocol"], row["actor"]): row for row in found}
    if options.figure:
        plot_success_rates(list(rows.values()), options.figure)
    return {"rows": list(rows.values())}


def summary(figures: dict[str, Any]) -> str:
    """The table, as Markdown."""
    lines = ["| task | protocol | who acts | solved | 95 % interval |", "|---|---|---|---|---|"]
    for row in figures["rows"]:
        low, high = (round(100 * end) for end in row["ci95"])
        solved = f"{row['successes']} of {row['pairs']}"
        lines.append(f"| {row['task']} | {row['protocol']} | {row['actor']} | {solved} | {low} to {high} % |")
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    """Of a report: the task, who acted, the hash of its pairs, and the figures by protocol."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        solver, actor = report["planner"]["solver"], report["actor"]
        who = {"search": solver, "policy_and_search": f"policy + {solver}"}.get(actor, actor)
        return {"task": report["task"], "who": who, "pairs": report["pairs_sha256"], "judged": report["judged"]}
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise CommandError(f"{path}: not a report of `lewm eval --pairs --json`") from None


def _require_same_pairs(reports: dict[Path, dict[str, Any]]) -> None:
    """Raise CommandError unless all reports of a task tried the same pairs."""
    first: dict[str, Path] = {}
    for path, report in reports.items():
        other = first.setdefault(report["task"], path)
        if report["pairs"] != reports[other]["pairs"]:
            raise CommandError(
                f"{path}: of pairs {report['pairs'][:12]}, {other} of {reports[other]['pairs'][:12]}; "
                "compare reports of the same pairs"
            )


def _rows(report: dict[str, Any], who: str, prefix: str) -> list[dict[str, Any]]:
    """A report's figures by protocol: of who acted, or with the prefix `random_`, if it did, of the random policy."""
    return [
        {
            "task": report["task"],
            "protocol": protocol,
            "actor": who,
            "pairs": judged["pairs"],
            "successes": judged[f"{prefix}successes"],
            "rate": judged[f"{prefix}success_rate"],
            "ci95": judged[f"{prefix}ci95"],
        }
        for protocol, judged in report["judged"].items()
        if f"{prefix}successes" in judged
    ]
