"""Files and datasets are known by what they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_dataset import META, toy_columns, write_toy

from lewm_training.data import EpisodeDataset
from lewm_training.data.fingerprint import END_BYTES, fingerprint


def test_a_file_is_known_by_name_size_time_and_ends(tmp_path: Path) -> None:
    file = tmp_path / "take.mcap"
    content = bytes(3 * END_BYTES)
    file.write_bytes(content)
    stamp_ns = file.stat().st_mtime_ns
    before = fingerprint([file])
    assert fingerprint([file]) == before

    def changed(content: bytes, stamp_ns: int = stamp_ns) -> bool:
        file.write_bytes(content)
        os.utime(file, ns=(stamp_ns, stamp_ns))
        return fingerprint([file]) != before

    assert not changed(content)
    assert changed(content, stamp_ns + 1)
    assert changed(content + b"\0")
    assert changed(b"\1" + content[1:])
    assert changed(content[:-1] + b"\1")
    changed(content)
    assert fingerprint([file.rename(tmp_path / "take_2.mcap")]) != before


def test_a_folder_is_known_by_all_that_is_in_it(tmp_path: Path) -> None:
    folder, moved = tmp_path / "take", tmp_path / "elsewhere" / "take"
    (folder / "meta").mkdir(parents=True)
    for name in ("a.mcap", "meta/info.json"):
        (folder / name).write_text(name)
    before = fingerprint([folder])
    shutil.copytree(folder, moved)  # with its times
    assert fingerprint([moved]) == before
    (moved / "meta" / "info.json").write_text("meta/info.jsoN")
    assert fingerprint([moved]) != before
    (folder / "b.mcap").touch()
    assert fingerprint([folder]) != before


def test_an_empty_file_and_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert len(fingerprint([tmp_path / "empty"])) == 16
    with pytest.raises(FileNotFoundError):
        fingerprint([tmp_path / "missing"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "toy.h5", [toy_columns(number) for number in range(3)])


def test_a_dataset_is_the_same_wherever_it_lies_and_however_it_is_stored(path: Path, tmp_path: Path) -> None:
    before = EpisodeDataset.open(path).fingerprint
    copy = tmp_path / "other_name.h5"
    with h5py.File(path) as file, h5py.File(copy, "w") as other:
        for name, column in file.items():
            other.create_dataset(name, data=column[:], chunks=(1, *column.shape[1:]), compression="gzip")
        other.attrs["meta"] = file.attrs["meta"]
    assert EpisodeDataset.open(copy).fingerprint == before


@pytest.mark.parametrize(("column", "place"), [("action", (17, 3)), ("proprio", (59, 0)), ("pixels", slice(None))])
def test_a_dataset_is_another_one_if_its_content_is(path: Path, column: str, place: object) -> None:
    before = EpisodeDataset.open(path).fingerprint
    with h5py.File(path, "r+") as file:
        values = file[column][:]
        values[place] = values[place] // 2 if column == "pixels" else values[place] + np.float32(1e-6)
        file[column][:] = values
    assert EpisodeDataset.open(path).fingerprint != before


def test_a_dataset_is_another_one_if_it_is_cut_or_described_otherwise(path: Path, tmp_path: Path) -> None:
    before = EpisodeDataset.open(path).fingerprint
    whole = {name: np.concatenate([toy_columns(n)[name] for n in range(3)]) for name in toy_columns(0)}
    whole.pop("timestamp_s")
    cut_otherwise = [{name: values[start:end] for name, values in whole.items()} for start, end in ((0, 25), (25, 60))]
    assert EpisodeDataset.open(write_toy(tmp_path / "cut.h5", cut_otherwise)).fingerprint != before
    slower = write_toy(tmp_path / "slow.h5", [toy_columns(n) for n in range(3)], META | {"limit": [0.06] * 7})
    assert EpisodeDataset.open(slower).fingerprint != before
