"""What the view is made of: the gallery of real views, and the labelled panels."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from lewm_ros.config import ConfigError
from lewm_ros.nodes.view.gallery import EmbeddedFrames, Gallery, read_views
from lewm_ros.nodes.view.panels import BACKGROUND, EMPTY, MARGIN_PX, Panel, draw_panels
from lewm_ros.observation.input_spec import CameraSpec, InputSpec


def shade(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def view(value: int) -> dict[str, np.ndarray]:
    return {"camera": shade(value)}


def test_the_nearest_view_and_its_distance() -> None:
    gallery = Gallery(size=3, shape=(2, 1))
    assert gallery.nearest(np.zeros((2, 1), np.float32)) is None
    for value, embedding in ((10, (0, 0)), (20, (3, 0)), (30, (0, 8))):
        gallery.add(view(value), np.array(embedding, np.float32).reshape(2, 1))
    nearest = gallery.nearest(np.array([[3], [4]], np.float32))
    assert nearest.distance == 4.0, "5 from the first, 4, and 5 from the third"
    assert nearest.frames["camera"][0, 0, 0] == 20


def test_a_full_gallery_forgets_the_oldest() -> None:
    gallery = Gallery(size=2, shape=(1, 1))
    for value in (1, 2, 3):
        gallery.add(view(value), np.array([[value]], np.float32))
    assert len(gallery) == 2
    nearest = gallery.nearest(np.array([[1]], np.float32))
    assert (nearest.frames["camera"][0, 0, 0], nearest.distance) == (2, 1.0)


def test_what_belongs_together_is_put_together_in_any_order() -> None:
    pairs: EmbeddedFrames[str, int] = EmbeddedFrames(kept=2)
    assert pairs.left(1, "a") is None
    assert pairs.right(1, 10) == "a"
    assert pairs.right(2, 20) is None
    assert pairs.left(2, "b") == 20
    pairs.left(3, "c")
    assert pairs.right(1, 11) is None, "only the newest two are kept"


def write_dataset(path: Path, columns: dict[str, np.ndarray], meta: dict | None = None) -> str:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
        if meta is not None:
            file.attrs["meta"] = json.dumps(meta)
    return str(path)


def rising(first: int = 0) -> np.ndarray:
    """Nine frames, each one brighter."""
    return np.arange(first, first + 9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def test_views_of_a_dataset_are_evenly_spaced_whatever_the_only_camera_is_called(tmp_path: Path) -> None:
    path, spec = write_dataset(tmp_path / "toy.h5", {"pixels": rising()}), InputSpec((CameraSpec("front", 2),))
    assert [view.frames["front"][0, 0, 0] for view in read_views(path, 3, spec)] == [0, 4, 8]
    assert len(read_views(path, 100, spec)) == 9, "there are no more"


TWO = InputSpec((CameraSpec("wrist", 2), CameraSpec("scene", 2, in_goal=False)))
COLUMNS = {"scene": "pixels_scene", "wrist": "pixels_wrist"}


def test_views_have_a_frame_of_every_camera(tmp_path: Path) -> None:
    pixels = {"pixels_scene": rising(), "pixels_wrist": rising(100)}
    path = write_dataset(tmp_path / "two.h5", pixels, {"cameras": COLUMNS})
    last = read_views(path, 2, TWO)[-1]
    assert {name: frame[0, 0, 0] for name, frame in last.frames.items()} == {"wrist": 108, "scene": 8}


@pytest.mark.parametrize(
    ("columns", "meta", "words"),
    [
        ({"pixels": rising()}, None, "takes cameras wrist, scene; gallery .* has camera"),
        ({"pixels_scene": rising()}, {"cameras": COLUMNS}, "no column 'pixels_wrist'"),
        ({"pixels_scene": rising(), "pixels_wrist": np.zeros(9)}, {"cameras": COLUMNS}, "'pixels_wrist' of RGB frames"),
    ],
)
def test_a_gallery_that_lacks_a_camera_is_named(
    columns: dict[str, np.ndarray], meta: dict | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_views(write_dataset(tmp_path / "poor.h5", columns, meta), 3, TWO)


def test_panels_stand_in_a_row_between_their_texts() -> None:
    picture = draw_panels([Panel("a", [shade(200)], "b"), Panel("", [None])], size_px=100)
    line_px = 8  # 0.085 of the panel, rounded
    assert picture.shape == (100 + 2 * line_px + 2 * MARGIN_PX, MARGIN_PX + 2 * (100 + MARGIN_PX), 3)
    top = MARGIN_PX + line_px
    assert (picture[top : top + 100, MARGIN_PX : MARGIN_PX + 100] == 200).all()
    left = MARGIN_PX + 100 + MARGIN_PX
    assert (picture[top : top + 100, left : left + 100] == EMPTY).all()
    title, below = picture[MARGIN_PX:top], picture[top + 100 : top + 100 + line_px]
    for line in (title, below):
        assert (line[:, :108] != BACKGROUND).any(), "text over and under the first one"
        assert (line[:, 108:] == BACKGROUND).all(), "none at the second"


def test_a_long_text_stays_in_its_column() -> None:
    picture = draw_panels([Panel("", [None], "long " * 40), Panel("", [None])], size_px=100)
    assert (picture[-8 - MARGIN_PX :, 116:] == BACKGROUND).all()


def test_cameras_stand_below_each_other() -> None:
    picture = draw_panels([Panel("", [shade(200), None], "b")], size_px=100)
    line_px = 8
    assert picture.shape == (2 * 100 + MARGIN_PX + 2 * line_px + 2 * MARGIN_PX, 100 + 2 * MARGIN_PX, 3)
    column = picture[MARGIN_PX + line_px :, MARGIN_PX : MARGIN_PX + 100]
    assert (column[:100] == 200).all()
    assert (column[100 : 100 + MARGIN_PX] == BACKGROUND).all()
    assert (column[100 + MARGIN_PX :][:100] == EMPTY).all()
    assert (column[200 + MARGIN_PX :][:line_px] != BACKGROUND).any(), "one caption, under the last one"
