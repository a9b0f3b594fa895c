"""Several dataset files count as one, in the order in which they are given, or are refused with both named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from toy_dataset import META, toy_columns, write_toy
from toy_training import NANO_RECIPE

from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset, SkippableError, open_datasets
from lewm_training.data.hindsight import grasp_rows
from lewm_training.judge.probe import split_episodes


def write(path: Path, numbers: list[int], meta: dict[str, Any] | None = None, steps: int = 20, size: int = 16) -> Path:
    """Toy episodes of these numbers."""
    return write_toy(path, [toy_columns(number, steps, size) for number in numbers], meta)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two episodes, and one: 60 rows."""
    return [write(tmp_path / "a.h5", [0, 1]), write(tmp_path / "b.h5", [2])]


def test_rows_are_those_of_one_file_with_all_episodes(paths: list[Path], tmp_path: Path) -> None:
    joined, whole = open_datasets(paths), EpisodeDataset.open(write(tmp_path / "whole.h5", [0, 1, 2]))
    assert joined.lengths.tolist() == [20, 20, 20]
    assert joined.offsets.tolist() == [0, 20, 40]
    assert joined.name == "a.h5, b.h5"
    for rows in (7, -1, slice(18, 45, 3), slice(0, 0), np.array([[59, 0, 0], [39, 40, 41]])):  # 40 begins b.h5
        np.testing.assert_array_equal(joined.pixels[rows], whole.pixels[rows])
        for name in ("action", "proprio", "ee_position", "timestamp_s"):
            np.testing.assert_array_equal(joined.columns[name][rows], whole.columns[name][rows])
    np.testing.assert_array_equal(np.asarray(joined.columns["action"]), whole.columns["action"])
    assert joined.columns["proprio"].shape == (60, 7)
    with pytest.raises(IndexError):
        joined.pixels[np.array([60])]
    starts = np.array([0, 40])
    np.testing.assert_array_equal(joined.read_actions(starts, 2, 5), whole.read_actions(starts, 2, 5))
    for field in ("mean", "std", "low", "high"):
        statistics = (getattr(d.statistics("action", np.array([0, 2])), field) for d in (joined, whole))
        np.testing.assert_array_equal(*statistics)


def test_grasps_are_found_in_every_file(tmp_path: Path) -> None:
    """The gripper, the last channel, closes at row 4 of one file and at row 8 of the other."""
    files = []
    for name, closes in (("a.h5", 4), ("b.h5", 8)):
        columns = toy_columns(0)
        columns["action"] = np.hstack([columns["action"], np.where(np.arange(20) < closes, -1.0, 1.0)[:, None]])
        files.append(write_toy(tmp_path / name, [columns], META | {"limit": [*META["limit"], 1.0]}))
    assert grasp_rows(open_datasets(files))[[0, 4, 5, 20, 28, 29]].tolist() == [4, 4, -1, 28, 28, -1]


def test_no_window_lies_in_two_files(paths: list[Path]) -> None:
    starts = open_datasets(paths).window_starts(np.arange(3), span=15)
    assert starts.tolist() == [*range(0, 6), *range(20, 26), *range(40, 46)]


def test_the_order_of_files_counts(paths: list[Path]) -> None:
    assert open_datasets(paths).fingerprint == open_datasets(paths).fingerprint
    assert open_datasets(paths).fingerprint != open_datasets(paths[::-1]).fingerprint
    assert open_datasets(paths[:1]).fingerprint == EpisodeDataset.open(paths[0]).fingerprint


def test_notes_follow_the_episodes(tmp_path: Path) -> None:
    """Anchors 0 of two files are two places, and settings are said as far as they agree."""
    metas = [META | {"config": {"task": task, "seed": 0}} for task in ("apple", "lemon")]
    joined = open_datasets([write(tmp_path / f"{n}.h5", [0, 1], meta) for n, meta in enumerate(metas)])
    assert [note["number"] for note in joined.meta["episodes"]] == [0, 1, 0, 1]
    assert joined.provenance.items() >= {"file": "0.h5, 1.h5", "seed": 0, "episodes": 4}.items()
    assert "task" not in joined.provenance
    for path, anchors in (("0.h5", [0, None]), ("1.h5", [0, 1])):
        with h5py.File(tmp_path / path, "r+") as file:
            notes = [f'{{"anchor": {"null" if anchor is None else anchor}}}' for anchor in anchors]
            file.attrs["meta"] = file.attrs["meta"].split('"episodes"')[0] + f'"episodes": [{", ".join(notes)}]}}'
    joined = open_datasets([tmp_path / "0.h5", tmp_path / "1.h5"])
    assert [group.tolist() for group in joined.anchored_episodes(np.arange(4))] == [[0], [2], [3]]


def test_what_only_one_file_has_is_left_out(paths: list[Path]) -> None:
    with h5py.File(paths[1], "r+") as file:
        del file["ee_position"]
    assert "ee_position" not in open_datasets(paths).columns


@pytest.mark.parametrize(
    ("meta", "size", "what"),
    [
        ({"control_hz": 10.0}, 16, r"at 20 Hz.*at 10 Hz"),
        ({"limit": [0.1] * 7}, 16, r"channel 'panda_joint1' .*-0\.05 to 0\.05 rad.*-0\.1 to 0\.1 rad"),
        ({"action_space": None}, 16, "channel 'action' .*lacks it.*nothing is said"),
        ({}, 12, "camera 'camera' .*16x16.*12x12"),
    ],
)
def test_files_that_differ_are_refused_with_both_named(
    paths: list[Path], tmp_path: Path, meta: dict[str, Any], size: int, what: str
) -> None:
    other = write(tmp_path / "other.h5", [3], META | meta, size=size)
    with h5py.File(other, "r+") as file:
        del file["timestamp_s"]
    with pytest.raises(DatasetError, match=what) as error:
        open_datasets([paths[0], other])
    assert "a.h5" in str(error.value)
    assert "other.h5" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_vector_that_one_file_lacks_is_named(paths: list[Path]) -> None:
    with h5py.File(paths[1], "r+") as file:
        del file["proprio"]
    with pytest.raises(DatasetError, match=r"vector 'proprio' .*a\.h5: panda_joint1.*b\.h5: lacks it"):
        open_datasets(paths)


def test_a_file_given_twice_is_refused(paths: list[Path]) -> None:
    with pytest.raises(DatasetError, match=r"a\.h5: is given more than once"):
        open_datasets([*paths, paths[0].parent / "." / "a.h5"])


def test_bad_episodes_are_named_by_their_own_file(paths: list[Path], tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.h5", [4, 5])
    with h5py.File(bad, "r+") as file:
        file["action"][23] = np.nan  # of the second episode
    with pytest.raises(SkippableError, match=r"bad\.h5: action is not finite in episode 1, row 3"):
        open_datasets([*paths, bad])
    skipping = open_datasets([*paths, bad], skip_bad=True)
    assert list(skipping.skipped) == [4]
    assert skipping.window_starts(np.arange(5), 20).tolist() == [0, 20, 40, 60]
    short = write(tmp_path / "short.h5", [6, 7], steps=8)
    with pytest.raises(SkippableError, match=r"short\.h5: only 8 control steps, a window takes 15, in episode 0"):
        open_datasets([*paths, short]).window_starts(np.arange(5), 15)


def test_one_model_learns_from_all_files_and_knows_them_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(NANO_RECIPE))
    files = [write(tmp_path / "a.h5", [0, 1, 2], size=32), write(tmp_path / "b.h5", [3, 4, 5], size=32)]
    recipe = ["--config", "recipe.yaml", "--device", "cpu", "--out", "run"]
    assert main(["train", "--dataset", *map(str, files), *recipe]) == 0
    provenance = json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]
    assert provenance["dataset"]["episodes"] == 6
    assert split_episodes(open_datasets(files), provenance, frames=20, seed=0).unseen
    assert not split_episodes(open_datasets(files[:1]), provenance, frames=20, seed=0).unseen
