"""Labelled pictures side by side, for eyes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.observation import Frame

Colour = tuple[int, int, int]

BACKGROUND: Colour = (24, 26, 30)
EMPTY: Colour = (44, 47, 54)
TITLE: Colour = (240, 240, 240)
CAPTION: Colour = (170, 176, 186)
MARGIN_PX = 8
FONT, THICKNESS = cv2.FONT_HERSHEY_SIMPLEX, 1
LINE_PX_PER_PANEL_PX = 0.085
TEXT_HEIGHT = 0.48
"""Height of capital letters, in lines."""


class Panel(NamedTuple):
    """A view under a title and over a caption; text is ASCII.

    It has a frame (height, width, 3) of every camera, or None while there is none.
    """

    title: str
    frames: list[Frame | None]
    caption: str = ""


def draw_panels(panels: list[Panel], size_px: int) -> NDArray[np.uint8]:
    """RGB picture of panels in a row, each as wide as `size_px` between two lines of text.

    The frames of a panel are squares below each other; all panels have as many.
    """
    line_px = round(LINE_PX_PER_PANEL_PX * size_px)
    step_px = size_px + MARGIN_PX
    views_px = step_px * len(panels[0].frames) - MARGIN_PX
    height_px, width_px = views_px + 2 * line_px + 2 * MARGIN_PX, MARGIN_PX + step_px * len(panels)
    picture = np.full((height_px, width_px, 3), BACKGROUND, np.uint8)
    top = MARGIN_PX + line_px
    for column, panel in enumerate(panels):
        left = MARGIN_PX + column * step_px
        for row, frame in enumerate(panel.frames):
            place = picture[top + row * step_px :, left:][:size_px, :size_px]
            if frame is None:
                place[:] = EMPTY
            else:
                place[:] = cv2.resize(frame, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        _write(picture, panel.title, TITLE, left, MARGIN_PX, line_px, size_px)
        _write(picture, panel.caption, CAPTION, left, top + views_px, line_px, size_px)
    return picture


def _write(
    picture: NDArray[np.uint8], text: str, colour: Colour, left: int, top: int, line_px: int, width_px: int
) -> None:
    """One line of text, smaller if it would not fit."""
    scale = cv2.getFontScaleFromHeight(FONT, max(round(TEXT_HEIGHT * line_px), 1), THICKNESS)
    (wide_px, high_px), _ = cv2.getTextSize(text, FONT, scale, THICKNESS)
    if wide_px > width_px:
        scale *= width_px / wide_px
    baseline = (left, top + (line_px + high_px) // 2)
    cv2.putText(picture, text, baseline, FONT, scale, colour, THICKNESS, cv2.LINE_AA)
