"""What a decoder paints, in rows below what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from numpy.typing import NDArray

from lewm_training.judge.reconstruction import Future, Painted, Pictures

DPI, GAP_PX, WHITE = 80, 2, 255
CELL_IN = 0.85
"""Height and width of a frame in the figure, inches."""
LABEL_IN = 1.9
"""Width of what stands beside a row."""


def plot_reconstructions(
    seen: Sequence[Painted],
    figures: Sequence[Mapping[str, Mapping[str, Any]]],
    cameras: Sequence[str],
    shown: NDArray[np.int64],
    path: Path,
) -> None:
    """True frames and, below them, what each decoder painted of them, with its error.

    Args:
        seen: of each decoder, the same N true frames and what it painted.
        figures: of each decoder, what `fidelity` gives.
        cameras: their names, in order.
        shown: which of the N frames are shown, a column each.
        path: PNG to write.
    """
    true, rows = seen[0].true, 1 + len(seen)
    size = (LABEL_IN + CELL_IN * len(shown), 0.5 + len(cameras) * (CELL_IN * rows + 0.3))
    figure = plt.figure(figsize=size, layout="constrained")
    figure.suptitle(f"What can be painted again from what the encoder says: {len(shown)} held-out frames", fontsize=10)
    parts = np.atleast_1d(figure.subfigures(len(cameras), 1))
    for place, (part, camera) in enumerate(zip(parts, cameras, strict=True)):
        part.suptitle(f"camera {camera}", fontsize=9)
        axes = part.subplots(rows, 1)
        _draw_row(axes[0], true[shown, place], f"true\n(mean frame: {_db(figures[0][camera], 'mean_frame_')})")
        for row, painted, measured in zip(axes[1:], seen, figures, strict=True):
            _draw_row(row, painted.painted[shown, place], f"{painted.decoder}\n{_db(measured[camera])}")
    figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(figure)


def plot_futures(future: Future, cameras: Sequence[str], block_s: float, path: Path) -> None:
    """For each start and camera: what came, the same painted from its own states, and what was imagined, painted."""
    starts, blocks = future.true.shape[:2]
    size = (LABEL_IN + CELL_IN * (1 + blocks), 0.7 + starts * len(cameras) * (3 * CELL_IN + 0.3))
    figure = plt.figure(figsize=size, layout="constrained")
    figure.suptitle(
        f"Imagined futures: now, and 1 to {blocks} blocks of {block_s:.2g} s ahead under the recorded actions.\n"
        "The model sees frames up to now; what is blurred in the middle row too, the state does not say.",
        fontsize=10,
    )
    parts = iter(np.atleast_1d(figure.subfigures(starts * len(cameras), 1)))
    for start in range(starts):
        for place, camera in enumerate(cameras):
            _draw_future(next(parts), future, start, place, f"start {start + 1}, camera {camera}")
    figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(figure)


def _draw_future(part: SubFigure, future: Future, start: int, place: int, title: str) -> None:
    part.suptitle(title, fontsize=9)
    now = future.now[start, place]
    lines = {
        "what came": np.concatenate([now[None], future.true[start, :, place]]),
        "painted from\nits own states": _behind_a_gap(future.seen[start, :, place]),
        "painted from\nimagined states": _behind_a_gap(future.imagined[start, :, place]),
    }
    for axes, (name, pictures) in zip(part.subplots(len(lines), 1), lines.items(), strict=True):
        _draw_row(axes, pictures, name)


def _behind_a_gap(pictures: Pictures) -> Pictures:
    """With a white picture before the first, below which there is nothing painted."""
    return np.concatenate([np.full_like(pictures[:1], WHITE), pictures])


def _draw_row(axes: Axes, pictures: Pictures, label: str) -> None:
    """Pictures (N, size, size, 3) side by side."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (0, GAP_PX), (0, 0)), constant_values=WHITE)
    axes.imshow(np.concatenate(list(padded), axis=1))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center")


def _db(figures: Mapping[str, Any], which: str = "") -> str:
    """PSNR of all pixels, and of those that move."""
    whole, moving = (figures[f"{which}{name}"] for name in ("psnr_db", "moving_psnr_db"))
    parts = [f"{value:.1f} dB{of}" for value, of in ((whole, ""), (moving, " of what moves")) if value is not None]
    return "\n".join(parts)
