"""A long run of the closed loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np


def plot_soak(figures: dict[str, Any], path: Path) -> None:
    """Memory of every node, and age of the image behind a plan's first command, over time, as a PNG."""
    figure, (memory, age) = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
    for name, samples in figures["memory_mb"].items():
        memory.plot(np.linspace(0.0, figures["minutes"], len(samples)), samples, label=name)
    memory.set(xlabel="time / min", title="Resident memory / MB", ylim=(0, None))
    memory.legend()
    ages_ms = 1000.0 * np.array(figures["image_to_command_s"])
    times = np.linspace(0.0, figures["minutes"], len(ages_ms))
    age.plot(times, ages_ms, ".", markersize=2, alpha=0.5)
    for percent, style in ((50, "-"), (99, "--")):
        value = float(np.percentile(ages_ms, percent))
        age.axhline(value, color="black", linestyle=style, linewidth=1, label=f"p{percent}: {value:.0f} ms")
    age.set(xlabel="time / min", title="From the image to the first command of its plan / ms", ylim=(0, None))
    age.legend(loc="lower left")
    figure.savefig(path, dpi=100)
    plt.close(figure)
