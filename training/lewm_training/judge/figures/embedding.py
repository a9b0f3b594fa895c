"""Where frames lie in the latent space."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from lewm_training.judge.labels import Label

COLUMNS, LARGEST_PANELS = 4, 11


def plot_embedding(z: NDArray[np.float64], label: Label | None, path: Path) -> None:
    """The first two principal components of embeddings (N, D), a panel per component of the label, and the spectrum.

    Args:
        z: embeddings (N, D).
        label: what to colour the points by; None: no such panel.
        path: PNG to write.
    """
    centred = z - z.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    share = singular**2 / (singular**2).sum()
    points = centred @ directions[:2].T
    components = label.components[:LARGEST_PANELS] if label else ()
    rows = -(-(len(components) + 1) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(13, 3.1 * rows), layout="constrained", squeeze=False)
    panels = iter(grid.flat)
    degrees = label is not None and label.name.startswith("joint")
    for component, name in enumerate(components):
        axes = next(panels)
        values = np.degrees(label.values[:, component]) if degrees else label.values[:, component]
        low, high = np.nanpercentile(values, (2, 98))
        dots = axes.scatter(*points.T, c=values, s=3, cmap="viridis", vmin=low, vmax=high, rasterized=True)
        figure.colorbar(dots, ax=axes, label="deg" if degrees else "")
        axes.set(title=name, xticks=[], yticks=[])
    spectrum = next(panels)
    spectrum.plot(np.arange(1, len(share) + 1), 100 * np.cumsum(share))
    spectrum.set(title="variance that the first n explain", xlabel="n", ylabel="%", ylim=(0, 102))
    for axes in panels:
        axes.axis("off")
    what = f", coloured by {label.name}" if label else ""
    figure.suptitle(
        f"The latent space: {len(z)} held-out frames on its first two principal components{what}.\n"
        "Where colours lie in patches, the embedding knows the joint. SIGReg spreads it evenly over many directions: "
        f"these two hold {100 * share[:2].sum():.0f} % of its variance.",
        fontsize=10,
    )
    figure.savefig(path, dpi=80)
    plt.close(figure)
