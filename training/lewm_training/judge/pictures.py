"""The pictures that tell whether a model understands: for the end of a run folder and for `lewm probe --pictures`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lewm_ros.model.checkpoint import Checkpoint
from lewm_training.data import EpisodeDataset
from lewm_training.judge.figures import measures_of, plot_embedding, plot_retrieval, plot_retrieval_error
from lewm_training.judge.labels import labels_of
from lewm_training.judge.retrieval import retrieve


def draw_run_pictures(
    checkpoint: Checkpoint, dataset: EpisodeDataset, episodes: NDArray[np.int64], folder: Path, seed: int
) -> list[Path]:
    """Draw what the model makes of held-out `episodes`; returns the PNG files.

    `embedding.png`: the two principal components of embeddings, coloured by joint positions (or by what label there
    is). `retrieval.png`: true frames beside the real frames nearest to what the model imagines, 1 to 10 blocks ahead.
    `retrieval_error.png`: how far these are from the truth, over many starts, if the dataset knows positions.

    Raises:
        ConfigError, DatasetError: frames, vectors or actions do not fit the model, or the episodes are too short.
    """
    found = retrieve(checkpoint, dataset, episodes, seed)
    folder.mkdir(parents=True, exist_ok=True)
    labels = labels_of(dataset, found.bank)
    colour = next((label for label in labels if label.name == "joint positions"), labels[0] if labels else None)
    paths = [folder / "embedding.png", folder / "retrieval.png"]
    plot_embedding(found.states, colour, paths[0])
    plot_retrieval(found, dataset, checkpoint.action_space.block_s, paths[1])
    if measures_of(dataset):
        paths.append(folder / "retrieval_error.png")
        plot_retrieval_error(found, dataset, checkpoint.action_space.block_s, paths[2])
    return paths
