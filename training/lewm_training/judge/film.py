"""What the film of a demo shows: the first camera large, its goal and the other cameras beside it, a caption below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB (height, width, 3)."""

LARGE_PX, SMALL_PX, CAPTION_PX = 480, 240, 56
"""Sides of the first camera's picture and of those beside it; height of the line of words below."""

INK, PAPER = (235, 235, 235), (32, 32, 32)


def film(
    task: str, cameras: Sequence[str], reports: Sequence[dict[str, Any]], recordings: Sequence[Any]
) -> Iterator[Picture]:
    """The pictures of all goals, one after the other, all of the same even size.

    Args:
        task: its name.
        cameras: their names, in the order of the recorded frames.
        reports: of each goal, as `drive_goals` gives them.
        recordings: of each goal `frames` (N, cameras, height, width, 3), `time_s` (N,) and `goal` (cameras, height,
            width, 3).
    """
    for report, recording in zip(reports, recordings, strict=True):
        title = f"{task}, goal {report['index'] + 1} of {len(reports)}"
        goal = _titled(recording["goal"][0], SMALL_PX, f"goal ({cameras[0]})")
        for frames, time_s in zip(recording["frames"], recording["time_s"], strict=True):
            small = [goal, *(_titled(frames[i], SMALL_PX, cameras[i]) for i in range(1, len(cameras)))]
            stage = stage_at(report, float(time_s))
            words = f"{title}   {time_s:4.1f} s   {stage}"
            yield _compose(_titled(frames[0], LARGE_PX, cameras[0]), small, words)


def stage_at(report: dict[str, Any], time_s: float) -> str:
    """The furthest stage that had been got to by then; empty before the first."""
    reached = [name for name in report["stages"] if report["stage_s"].get(name, np.inf) <= time_s]
    return reached[-1] if reached else ""


def _compose(large: Picture, small: Sequence[Picture], words: str) -> Picture:
    """One picture, others in columns of two beside it, and words below all."""
    columns = [small[i : i + 2] for i in range(0, len(small), 2)]
    whole = np.full((LARGE_PX + CAPTION_PX, LARGE_PX + SMALL_PX * len(columns), 3), PAPER, np.uint8)
    whole[:LARGE_PX, :LARGE_PX] = large
    for number, column in enumerate(columns):
        left = LARGE_PX + number * SMALL_PX
        for row, picture in enumerate(column):
            whole[row * SMALL_PX : (row + 1) * SMALL_PX, left : left + SMALL_PX] = picture
    return _write(whole, words, (14, LARGE_PX + 37), 0.75)


def _titled(frame: Picture, side_px: int, title: str) -> Picture:
    """A frame as a square of this side, with its title on a strip at the top that hides little."""
    picture = cv2.resize(frame, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    picture[:24] //= 3
    return _write(picture, title, (8, 17), 0.5)


def _write(picture: Picture, words: str, place: tuple[int, int], scale: float) -> Picture:
    return cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
