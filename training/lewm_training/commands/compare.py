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
    from lewm_training.judge.figures import plot_success_rates

    reports = {path: _rows(path) for path in options.reports}
    alike = Counter((found[0]["task"], found[0]["actor"]) for found in reports.values())
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for path, found in reports.items():
        several = alike[found[0]["task"], found[0]["actor"]] > 1
        for row in found:
            if several and row["actor"] == found[0]["actor"]:
                row = row | {"actor": f"{row['actor']} ({path.stem})"}
            rows[row["task"], row["protocol"], row["actor"]] = row
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


def _rows(path: Path) -> list[dict[str, Any]]:
    """Every figure of a report: by protocol, first of who acted, then, if it did, of the random policy."""
    from lewm_training.judge.figures import FLOOR

    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        actor = report["planner"]["solver"] if report["actor"] == "search" else report["actor"]
        if report["actor"] == "policy_and_search":
            actor = f"policy + {report['planner']['solver']}"
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
            for who, prefix in ((actor, ""), (FLOOR, "random_"))
            for protocol, judged in report["judged"].items()
            if f"{prefix}successes" in judged
        ]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise CommandError(f"{path}: not a report of `lewm eval --pairs --json`") from None
