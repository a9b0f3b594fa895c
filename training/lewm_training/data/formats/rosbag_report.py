"""What an import says of the topics that it read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.observation.timeline import Figures

REPEATS_WORTH_A_WORD = 0.02
"""Share of rows that hold the same frame as the row before."""


def report_lines(
    name: str, rows: int, figures: dict[str, Figures], ends: Sequence[tuple[int, str]], frames: str
) -> list[str]:
    """For people: one line per topic, one per reason why episodes ended, and one if a camera's jitter spoils rows.

    Args:
        name: of the recording.
        rows: samples that were taken.
        figures: by topic.
        ends: of episodes, with times and reasons.
        frames: what those of all cameras are called.
    """
    lines = []
    for topic, figure in figures.items():
        dropped = ", ".join(_dropped(figure)) or "nothing dropped"
        lines.append(
            f"{name}: {topic}: {figure.received} messages, {figure.used} used, "
            f"largest gap {figure.largest_gap_s:.3f} s, largest age {figure.largest_age_s:.3f} s, {dropped}"
        )
    for reason, count in Counter(reason for _, reason in ends).items():
        lines.append(f"{name}: {count} times an episode ended here: {reason}")
    repeats = rows - figures[frames].used if frames in figures else 0
    if repeats > REPEATS_WORTH_A_WORD * rows:
        lines.append(
            f"{name}: {frames}: {repeats} of {rows} rows hold the same frame as the row before; if the camera is not "
            "slower than control_hz, set jitter_s"
        )
    return lines


def merge_figures(recordings: Sequence[dict[str, Figures]]) -> dict[str, dict[str, Any]]:
    """Counts added up and largest values over all recordings, by topic."""
    merged: dict[str, Figures] = {}
    for figures in recordings:
        for topic, figure in figures.items():
            total = merged.setdefault(topic, Figures())
            total.received += figure.received
            total.used += figure.used
            total.dropped += figure.dropped
            total.first_reasons = figure.first_reasons | total.first_reasons
            total.largest_gap_s = max(total.largest_gap_s, figure.largest_gap_s)
            total.largest_age_s = max(total.largest_age_s, figure.largest_age_s)
    return {
        topic: {
            "received": total.received,
            "used": total.used,
            "largest_gap_s": total.largest_gap_s,
            "largest_age_s": total.largest_age_s,
            "dropped": dict(total.dropped),
            "first_reasons": total.first_reasons,
        }
        for topic, total in merged.items()
    }


def why_nothing(figures: dict[str, Figures], short: int) -> str:
    """Why a recording gave no episode."""
    silent = [topic for topic, figure in figures.items() if figure.first_ns is None]
    if silent:
        topics = (", ".join([topic, *_dropped(figures[topic])]) for topic in silent)
        return f"no usable message on {'; '.join(topics)}"
    if short:
        return f"no stretch is as long as min_episode_s ({short} shorter ones)"
    spans = ", ".join(
        f"{topic} {figure.first_ns / NS_PER_S:.3f} to {figure.last_ns / NS_PER_S:.3f} s"
        for topic, figure in figures.items()
    )
    begin, end = (max(f.first_ns for f in figures.values()), min(f.last_ns for f in figures.values()))
    if begin > end:
        return f"the topics do not overlap in time: {spans}; are they stamped by the same clock?"
    return f"the topics never hold a value together, by max_age_s and gap_s: {spans}"


def _dropped(figure: Figures) -> list[str]:
    """How many messages were dropped, by kind, and what was wrong with the first."""
    return [
        f"{count} {kind}" + (f" (the first: {figure.first_reasons[kind]})" if kind in figure.first_reasons else "")
        for kind, count in figure.dropped.items()
    ]
