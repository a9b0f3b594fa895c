"""The table of an experiment: a row per cell, what its state knows, how well it predicts, what the arm does with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WHOLE = ("trained", "embedding", "mlp")
"""Whose record is told of: encoder, source and probe."""

READ = {
    "end effector position": "error",
    "end effector yaw": "r",
    "gripper opening": "r",
    "contact": "auroc",
    "object position": "error",
    "object yaw": "r",
    "object relative to end effector": "error",
}
"""Labels that are told of, and by which figure."""

UNITS = {"error": "mm", "auroc": "AUROC"}
"""Of figures, in heads."""

AHEAD = (1, 2, 5, 10)
"""Blocks after which predictions are judged, as a share of what it would cost to say that nothing changes."""


def rows_of(made: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per cell: factor, level, figures by name with their 95 % intervals where they have one.

    Args:
        made: what `run_cells` returns.
    """
    return [
        {"factor": cell["factor"], "level": cell["level"]}
        | dict(_read(cell["probe"]))
        | dict(_ahead(cell["train"]))
        | {name: cell["eval"][name] for name in ("successes", "episodes", "ci95")}
        | {f"{call}_ms": 1e3 * cell["bench inference"][f"{call}_s"]["p50"] for call in ("encode", "plan")}
        for cell in made.values()
    ]


def markdown(rows: Sequence[dict[str, Any]], made: Mapping[str, dict[str, Any]]) -> str:
    """The report: the table, and the commands that make each cell."""
    labels = [f"{label}, {UNITS.get(figure, figure)}" for label, figure in READ.items()]
    heads = ["factor", "level", "solved", "95 % interval", *labels, *(f"{n} ahead" for n in AHEAD)]
    heads += ["encode, ms", "plan, ms"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(_words(row)) + " |" for row in rows]
    lines += ["", "n ahead: error of the state predicted n blocks ahead, as a share of that of 'nothing changes'.", ""]
    for name, cell in made.items():
        lines += [f"## {name}", "", "```bash", *cell["commands"], "```", ""]
    return "\n".join(lines)


def _words(row: dict[str, Any]) -> Iterator[str]:
    low, high = row["ci95"]
    yield from (row["factor"], row["level"], f"{row['successes']} of {row['episodes']}")
    yield f"{100 * low:.0f} to {100 * high:.0f} %"
    for label in READ:
        yield _with_interval(row[label]) if row[label] else "-"
    for blocks in AHEAD:
        yield "-" if row[f"ahead_{blocks}"] is None else f"{row[f'ahead_{blocks}']:.3f}"
    yield from (f"{row['encode_ms']:.1f}", f"{row['plan_ms']:.1f}")


def _with_interval(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:.3g} ({low:.3g} to {high:.3g})"


def _read(probe: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    found = {r["label"]: r for r in probe["probes"] if (r["encoder"], r["source"], r["probe"]) == WHOLE}
    for label, figure in READ.items():
        yield label, found[label][figure] if label in found else None


def _ahead(trained: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    for blocks in AHEAD:
        error, floor = trained.get(f"rollout/error_{blocks}"), trained.get(f"rollout/nothing_changes_{blocks}")
        yield f"ahead_{blocks}", error / floor if error is not None and floor else None
