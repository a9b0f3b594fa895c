"""Pictures of numbers, as PNG files drawn without a display."""

import matplotlib

matplotlib.use("Agg")

from lewm_training.judge.figures.closed_loop import plot_closed_loop, plot_goal
from lewm_training.judge.figures.embedding import plot_embedding
from lewm_training.judge.figures.learning_curves import plot_learning_curves
from lewm_training.judge.figures.probes import plot_probes
from lewm_training.judge.figures.reconstruction import plot_futures, plot_reconstructions
from lewm_training.judge.figures.retrieval import measures_of, plot_retrieval, plot_retrieval_error
from lewm_training.judge.figures.soak import plot_soak
from lewm_training.judge.figures.success_rates import FLOOR, plot_success_rates
from lewm_training.judge.figures.surprise import plot_surprise
from lewm_training.judge.figures.trend import plot_trends

__all__ = [
    "FLOOR",
    "measures_of",
    "plot_closed_loop",
    "plot_embedding",
    "plot_futures",
    "plot_goal",
    "plot_learning_curves",
    "plot_probes",
    "plot_reconstructions",
    "plot_retrieval",
    "plot_retrieval_error",
    "plot_soak",
    "plot_success_rates",
    "plot_surprise",
    "plot_trends",
]
