"""Pictures are drawn from whatever a log or a dataset holds."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from conftest import joint_delta_space, random_model
from toy_dataset import toy_columns, write_toy

from lewm_ros.model.checkpoint import Checkpoint
from lewm_training.data import EpisodeDataset
from lewm_training.judge.figures import plot_learning_curves
from lewm_training.judge.pictures import draw_run_pictures

EPOCH = {
    "train/prediction": 0.2,
    "validation/prediction": 0.3,
    "validation/nothing_changes": 0.5,
    "validation/effective_rank": 7.0,
    "validation/sigreg": 1.0,
    "probe/proprio_r2": [0.1] * 7,
    "rollout/error_1": 0.3,
    "rollout/nothing_changes_1": 0.6,
}


def is_a_picture(path: Path) -> bool:
    """Whether something but the background is drawn."""
    return np.ptp(matplotlib.image.imread(path)[..., :3]) > 0.5


@pytest.mark.parametrize("left_out", ["", "probe", "rollout", "validation", "train"])
def test_curves_show_what_the_log_holds(left_out: str, tmp_path: Path) -> None:
    entry = {name: value for name, value in EPOCH.items() if not left_out or not name.startswith(left_out)}
    plot_learning_curves([{"epoch": 1} | entry, {"epoch": 2} | EPOCH], tmp_path / "curves.png")
    plot_learning_curves([{"epoch": 1} | entry], tmp_path / "curves.png")
    assert is_a_picture(tmp_path / "curves.png")


@pytest.mark.parametrize("labels", [("proprio", "ee_position"), ("ee_position",), ()], ids=["all", "position", "none"])
def test_a_run_ends_with_pictures_of_the_labels_that_there_are(labels: tuple[str, ...], tmp_path: Path) -> None:
    kept = ("pixels", "action", *labels)
    episodes = [{name: toy_columns(e, steps=36, size=32)[name] for name in kept} for e in range(3)]
    dataset = EpisodeDataset.open(write_toy(tmp_path / "toy.h5", episodes))
    checkpoint = Checkpoint(random_model(), joint_delta_space())
    episodes_shown = np.array([0, 2] if labels else [1])  # of one episode, nothing is elsewhere
    paths = draw_run_pictures(checkpoint, dataset, episodes_shown, tmp_path / "run", seed=0)
    expected = ["embedding.png", "retrieval.png", *(["retrieval_error.png"] if labels else [])]
    assert [path.name for path in paths] == expected
    assert all(is_a_picture(path) for path in paths)
