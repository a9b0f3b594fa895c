"""The film and the plot of a demo, from reports and frames as the nodes give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from lewm_training.judge.figures import plot_closed_loop
from lewm_training.judge.film import CAPTION_PX, LARGE_PX, SMALL_PX, film, stage_at

STAGES = {"touched": True, "lifted": False, "placed": False}


def report(index: int) -> dict[str, Any]:
    """A goal whose cube was touched after 1 s, lifted after 2 s and dropped."""
    series = {"time_s": [0.0, 1.0, 2.0], "value": [3.0, 2.0, 1.0]}
    trace = {"time_s": [0.0, 1.0, 2.0], "distance_m": [0.2, 0.2, 0.1]}
    rest = {"trace": trace, "plan_cost": series, "surprise": series}
    return {"index": index, "stages": STAGES, "stage_s": {"touched": 1.0, "lifted": 2.0}, **rest}


@pytest.mark.parametrize(("time_s", "stage"), [(0.5, ""), (1.0, "touched"), (1.9, "touched"), (5.0, "lifted")])
def test_a_stage_once_got_to_stays_shown(time_s: float, stage: str) -> None:
    assert stage_at(report(0), time_s) == stage


@pytest.mark.parametrize("cameras", [["scene"], ["scene", "wrist"]])
def test_the_first_camera_is_large_and_goal_and_other_cameras_stand_beside_it(cameras: list[str]) -> None:
    # Camera k is 100 + 50 k bright, goals 50.
    frames = np.stack([np.full((3, 96, 96, 3), 100 + 50 * k, np.uint8) for k in range(len(cameras))], axis=1)
    recording = {"frames": frames, "time_s": [0.0, 1.0, 2.0], "goal": np.full(frames.shape[1:], 50, np.uint8)}
    pictures = list(film("pick_place", cameras, [report(0), report(1)], [recording] * 2))
    assert len(pictures) == 6
    assert {picture.shape for picture in pictures} == {(LARGE_PX + CAPTION_PX, LARGE_PX + SMALL_PX, 3)}
    column = LARGE_PX + SMALL_PX // 2
    assert pictures[0][LARGE_PX // 2, LARGE_PX // 2, 0] == 100
    assert pictures[0][SMALL_PX // 2, column, 0] == 50
    if len(cameras) == 2:
        assert pictures[0][SMALL_PX + SMALL_PX // 2, column, 0] == 150
    captions = [picture[LARGE_PX:] for picture in pictures]
    assert all((caption[:, -14:] == caption[0, 0]).all() for caption in captions)  # no caption runs out of the picture
    assert (captions[0] != captions[1]).any()


def test_the_plot_marks_stages(tmp_path: Path) -> None:
    plot_closed_loop([report(0), report(1)], 0.04, tmp_path / "marked.png")
    bare = [report(index) | {"stage_s": {}} for index in range(2)]
    plot_closed_loop(bare, 0.04, tmp_path / "bare.png")
    marked, plain = (matplotlib.image.imread(tmp_path / name) for name in ("marked.png", "bare.png"))
    assert (marked != plain).any()
