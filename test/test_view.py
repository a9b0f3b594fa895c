"""What the view is made of: the gallery of real frames, and the labelled panels."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from lewm_ros.observation.gallery import Gallery, Pairs, read_frames
from lewm_ros.observation.panels import BACKGROUND, EMPTY, MARGIN_PX, Panel, draw_panels


def shade(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_the_nearest_frame_and_its_distance() -> None:
    gallery = Gallery(size=3, dimension=2)
    assert gallery.nearest(np.zeros(2, np.float32)) is None
    for value, embedding in ((10, (0, 0)), (20, (3, 0)), (30, (0, 8))):
        gallery.add(shade(value), np.array(embedding, np.float32))
    nearest = gallery.nearest(np.array([3, 4], np.float32))
    assert (nearest.frame[0, 0, 0], nearest.distance) == (20, 4.0), "5 from the first, 4, and 5 from the third"


def test_a_full_gallery_forgets_the_oldest() -> None:
    gallery = Gallery(size=2, dimension=1)
    for value in (1, 2, 3):
        gallery.add(shade(value), np.array([value], np.float32))
    assert len(gallery) == 2
    nearest = gallery.nearest(np.array([1], np.float32))
    assert (nearest.frame[0, 0, 0], nearest.distance) == (2, 1.0)


def test_what_belongs_together_is_put_together_in_any_order() -> None:
    pairs: Pairs[str, int] = Pairs(kept=2)
    assert pairs.left(1, "a") is None
    assert pairs.right(1, 10) == "a"
    assert pairs.right(2, 20) is None
    assert pairs.left(2, "b") == 20
    pairs.left(3, "c")
    assert pairs.right(1, 11) is None, "only the newest two are kept"


def test_frames_of_a_dataset_are_evenly_spaced(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "toy.h5", "w") as file:
        file["pixels"] = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    path = str(tmp_path / "toy.h5")
    assert [frame[0, 0, 0] for frame in read_frames(path, 3)] == [0, 4, 8]
    assert len(read_frames(path, 100)) == 9, "there are no more"


def test_panels_stand_in_a_row_between_their_texts() -> None:
    picture = draw_panels([Panel("a", shade(200), "b"), Panel("", None)], size_px=100)
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
    picture = draw_panels([Panel("", None, "long " * 40), Panel("", None)], size_px=100)
    assert (picture[-8 - MARGIN_PX :, 116:] == BACKGROUND).all()
