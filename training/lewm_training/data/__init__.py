"""Datasets of episodes: one HDF5 file in the columns that stable-worldmodel reads, whole or not there at all.

Every column is one array over all control steps; `ep_len` and `ep_offset` say where an episode lies. Frames are stored
contiguous and uncompressed so that windows are read straight from the page cache.
"""

from lewm_training.data.checks import DatasetError, EpisodeError, SkippableError
from lewm_training.data.joining import open_datasets
from lewm_training.data.reading import EpisodeDataset
from lewm_training.data.spec import INTENDED
from lewm_training.data.writing import merge_episodes, write_episode

__all__ = [
    "INTENDED",
    "DatasetError",
    "EpisodeDataset",
    "EpisodeError",
    "SkippableError",
    "merge_episodes",
    "open_datasets",
    "write_episode",
]
