"""Datasets are read as they were written, opened by stable-worldmodel, and refused where they are wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toy_dataset import META, toy_columns, write_toy

from lewm_training.data import DatasetError, EpisodeDataset, EpisodeError, write_episode
from lewm_training.data.frames import StoredFrames

STEPS = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three episodes of twenty control steps."""
    return write_toy(tmp_path / "toy.h5", [toy_columns(number) for number in range(3)])


def change(path: Path, column: str, row: int, value: float) -> Path:
    with h5py.File(path, "r+") as file:
        file[column][row] = value
    return path


def test_frames_are_indexed_as_an_array_is(path: Path) -> None:
    frames = EpisodeDataset.open(path).pixels
    true = np.concatenate([toy_columns(number)["pixels"] for number in range(3)])
    assert len(frames) == 60
    np.testing.assert_array_equal(frames[7], true[7])
    np.testing.assert_array_equal(frames[-1], true[-1])
    np.testing.assert_array_equal(frames[:0], true[:0])
    np.testing.assert_array_equal(frames[18:42:3], true[18:42:3])
    rows = np.array([[59, 0, 0], [17, 18, 40]])  # unsorted, repeated, neighbours
    np.testing.assert_array_equal(frames[rows], true[rows])
    with pytest.raises(IndexError):
        frames[np.array([60])]


def test_columns_stay_in_the_file(path: Path) -> None:
    dataset = EpisodeDataset.open(path)
    for name in ("action", "proprio", "ee_position"):
        base = dataset.columns[name]
        while isinstance(base, np.ndarray):
            base = base.base
        assert type(base).__name__ in ("mmap", "memoryview"), name
        np.testing.assert_array_equal(dataset.columns[name][20:40], toy_columns(1)[name])


def test_statistics_are_those_of_the_rows_together(tmp_path: Path) -> None:
    lengths = (16, 40, 23)
    path = write_toy(tmp_path / "toy.h5", [toy_columns(n, steps) for n, steps in enumerate(lengths)])
    found = EpisodeDataset.open(path).statistics("action", np.array([0, 2]))
    rows = np.concatenate([toy_columns(0, 16)["action"], toy_columns(2, 23)["action"]]).astype(np.float64)
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, rows.std(0), rtol=1e-12)
    np.testing.assert_array_equal(found.low, rows.min(0))
    np.testing.assert_array_equal(found.high, rows.max(0))


def test_stable_worldmodel_cuts_the_same_windows(path: Path) -> None:
    reference = pytest.importorskip("stable_worldmodel.data", reason="needs the extra `bench`")
    theirs = reference.HDF5Dataset(path=path, frameskip=5, num_steps=3)
    ours = EpisodeDataset.open(path)
    starts = ours.window_starts(np.arange(3), span=15)
    assert len(theirs) == len(starts) == 3 * (STEPS - 14)
    rows, actions = starts[:, None] + 5 * np.arange(3), ours.read_actions(starts, blocks=2, action_block=5)
    pixels = ours.pixels[rows]
    for number, start in enumerate(starts):
        window = theirs[number]
        np.testing.assert_array_equal(window["pixels"].permute(0, 2, 3, 1).numpy(), pixels[number])
        # Theirs holds a block of actions after every frame, also after the last.
        np.testing.assert_array_equal(window["action"][:2].numpy(), actions[number].reshape(2, 35))
        np.testing.assert_array_equal(window["proprio"].numpy(), ours.columns["proprio"][start : start + 15 : 5])


@pytest.mark.parametrize("layout", ["uint8", "channels first", "floats to 1", "floats to 255"])
def test_files_of_stable_worldmodel_open(tmp_path: Path, layout: str) -> None:
    reference = pytest.importorskip("stable_worldmodel.data", reason="needs the extra `bench`")
    with reference.HDF5Writer(tmp_path / "theirs.h5") as writer:
        for number in range(2):
            columns = toy_columns(number)
            true = columns["pixels"]
            columns["action"][-1] = np.nan  # as its own recorder leaves the last row
            columns["pixels"] = {
                "uint8": true,
                "channels first": true.transpose(0, 3, 1, 2),
                "floats to 1": (true / 255.0).astype(np.float32),
                "floats to 255": true.astype(np.float32),
            }[layout]
            writer.write_episode(columns)
    dataset = EpisodeDataset.open(tmp_path / "theirs.h5")
    starts = dataset.window_starts(np.arange(2), span=16)
    chosen = starts[[7, 0]]
    actions = dataset.read_actions(chosen, blocks=3, action_block=5)
    np.testing.assert_array_equal(dataset.pixels[chosen[0] + 5 * np.arange(4)], toy_columns(1)["pixels"][2:18:5])
    np.testing.assert_array_equal(actions[1].reshape(15, 7), toy_columns(0)["action"][:15])
    assert np.isfinite(actions).all()


def test_pictures_that_are_not_pictures_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["depth"] = np.zeros((4, 8, 8), np.uint8)
        file["normalised"] = np.full((4, 8, 8, 3), -1.0, np.float32)
    with pytest.raises(DatasetError, match=r"column 'depth' has the shape \(4, 8, 8\), expected \(N, height"):
        StoredFrames(tmp_path / "file.h5", "depth")
    with pytest.raises(DatasetError, match="'normalised' holds float32 from -1 to -1; expected uint8"):
        StoredFrames(tmp_path / "file.h5", "normalised")


def stored_frames(folder: Path, values: np.ndarray) -> StoredFrames:
    path = folder / f"{values.dtype}_{values.shape}.h5"
    with h5py.File(path, "w") as file:
        file["pixels"] = values
    return StoredFrames(path, "pixels")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.5, 7.0])
def test_a_frame_of_floats_that_is_none_spoils_no_other(tmp_path: Path, wrong: float) -> None:
    true = toy_columns(0)["pixels"]
    values = (true / 255.0).astype(np.float32)
    values[0, 3, 4, 1] = wrong  # of those that are looked at first
    frames = stored_frames(tmp_path, values)
    np.testing.assert_array_equal(frames[1:], true[1:])
    with pytest.raises(EpisodeError, match="column 'pixels' is not from 0 to 1, as it is elsewhere"):
        frames[:2]


def test_frames_of_no_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'pixels' is not finite"):
        stored_frames(tmp_path, np.full((4, 8, 8, 3), np.nan, np.float32))
    with pytest.raises(DatasetError, match="'pixels' holds uint16; expected uint8, or floats"):
        stored_frames(tmp_path, np.zeros((4, 8, 8, 3), np.uint16))
    with pytest.raises(DatasetError, match=r"has the shape \(4, 0, 8, 3\), expected"):
        stored_frames(tmp_path, np.zeros((4, 0, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("action", 23, np.nan, "action is not finite in episode 1, row 3"),
        ("action", 23, 2.5, r"action 'panda_joint1' reaches 2.5, declared limit -0.05 to 0.05 .* in episode 1, row 3"),
        ("proprio", 41, 57.3, r"proprio is beyond 2 pi rad \(are these degrees\? .*\) in episode 2, row 1"),
        ("timestamp_s", 7, 0.7, r"the clock moves by 0.4 s instead of 0.05 s in episode 0, row 7"),
    ],
)
def test_a_bad_episode_is_named_and_skipped_only_when_asked(
    path: Path, column: str, row: int, value: float, message: str
) -> None:
    change(path, column, row, value)
    with pytest.raises(DatasetError, match=f"{message}$"):
        EpisodeDataset.open(path)
    dataset = EpisodeDataset.open(path, skip_bad=True)
    bad = row // STEPS
    assert list(dataset.skipped) == [bad]
    train, held_out = dataset.split(0.3, seed=0)
    assert sorted([*train, *held_out]) == sorted({0, 1, 2} - {bad})
    assert not np.isin(dataset.window_starts(np.arange(3), 16) // STEPS, bad).any()


def test_an_episode_shorter_than_a_window_is_named(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.h5", [toy_columns(0), toy_columns(1, steps=9), toy_columns(2)])
    with pytest.raises(DatasetError, match=r"only 9 control steps, a window takes 16, in episode 1$"):
        EpisodeDataset.open(path).window_starts(np.arange(3), 16)
    dataset = EpisodeDataset.open(path, skip_bad=True)
    assert len(dataset.window_starts(np.arange(3), 16)) == 2 * 5
    assert list(dataset.skipped) == [1]
    with pytest.raises(DatasetError, match="no episode holds a window of 100 control steps"):
        dataset.window_starts(np.arange(3), 100)


def test_missing_columns_and_episodes_that_do_not_add_up_are_named(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["ep_offset"][1] = 21
    with pytest.raises(DatasetError, match="episode 1 has ep_len 20 and ep_offset 21, expected ep_offset 20"):
        EpisodeDataset.open(path)
    with h5py.File(path, "r+") as file:
        file["ep_offset"][1], file["ep_len"][2] = 20, 19
    with pytest.raises(DatasetError, match="has 60 rows, the episodes add up to 59; was the file written to its end"):
        EpisodeDataset.open(path)
    with h5py.File(path, "r+") as file:
        file["ep_len"][2] = 20
        file.move("pixels", "observation")
    with pytest.raises(DatasetError, match=r"column 'pixels' is missing; found action, .*`lewm import --from hdf5`"):
        EpisodeDataset.open(path)


def add_members_that_nobody_reads(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_group("env/camera")["intrinsics"] = np.eye(3)
        file["name"], file["fps"], file["empty"] = "a run", 20.0, h5py.Empty("f4")
        file["words"] = np.array(["a", "b"], dtype=h5py.string_dtype())
        file["goals"] = np.full((7, 3), np.nan)
        file["type"], file["nowhere"] = np.dtype("f4"), h5py.SoftLink("/missing")
        file["elsewhere"] = h5py.ExternalLink("missing.h5", "/x")


def test_members_that_nobody_reads_do_no_harm(path: Path) -> None:
    before = set(EpisodeDataset.open(path).columns)
    add_members_that_nobody_reads(path)
    dataset = EpisodeDataset.open(path)
    assert set(dataset.columns) == before
    np.testing.assert_array_equal(dataset.pixels[20:40], toy_columns(1)["pixels"])


def test_a_second_camera_stays_in_the_file(path: Path) -> None:
    with h5py.File(path, "r+") as file:  # chunks that were never written: a large column in a small file
        wrist = file.create_dataset("wrist", (60, 1000, 1000, 3), np.uint8, chunks=(1, 1000, 1000, 3))
        wrist[41] = 7
    tracemalloc.start()
    dataset = EpisodeDataset.open(path)
    column = dataset.columns["wrist"]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 20e6  # of 180 MB
    assert (column.shape, column.ndim, column.dtype, len(column)) == ((60, 1000, 1000, 3), 4, np.uint8, 60)
    np.testing.assert_array_equal(column[np.array([41, 40, 41])][:, 0, 0, 0], [7, 0, 7])
    np.testing.assert_array_equal(column[40:43][:, 0, 0, 0], [0, 7, 0])


@pytest.mark.parametrize(
    ("kind", "columns"), [(np.int64, True), (np.uint8, False), (">i4", True), (np.uint64, True), (np.float64, False)]
)
def test_lengths_and_offsets_are_whole_numbers_of_any_type(path: Path, kind: Any, columns: bool) -> None:
    with h5py.File(path, "r+") as file:
        for name in ("ep_len", "ep_offset"):
            values = file[name][:].astype(kind)
            del file[name]
            file[name] = values[:, None] if columns else values
    dataset = EpisodeDataset.open(path)
    assert (dataset.lengths.tolist(), dataset.offsets.tolist()) == ([20, 20, 20], [0, 20, 40])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([20, -20, 20], "ep_len of episode 1 is -20, expected a whole number from 0 to 60"),
        ([20, 20.5, 20], "ep_len of episode 1 is 20.5, expected a whole number"),
        ([20, np.nan, 20], "ep_len of episode 1 is nan, expected a whole number"),
        ([20, 2.0**63, 20], "ep_len of episode 1 is 9.2.*e.18, expected a whole number"),
        ([20, 0, 40], "episode 1 has ep_len 0"),
        ([[20, 20, 20]], r"'ep_len' has the shape \(1, 3\), expected one number per episode"),
        ([1] * 61, r"'ep_len' has the shape \(61,\)"),
        ([], "ep_len has 0 episodes, ep_offset 3"),
        (60, "column 'ep_len' is no column of numbers; found action"),
        (["a", "b"], "column 'ep_len' is no column of numbers"),
    ],
)
def test_lengths_that_are_none_are_named(path: Path, values: Any, message: str) -> None:
    with h5py.File(path, "r+") as file:
        del file["ep_len"]
        file["ep_len"] = values
    with pytest.raises(DatasetError, match=rf"toy\.h5: {message}"):
        EpisodeDataset.open(path)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("{", "attribute 'meta' is not JSON"),
        (b"\xff", "attribute 'meta' is not JSON"),
        (3, "attribute 'meta' is not JSON"),
        ([1, 2], "attribute 'meta' is not JSON"),
        ("[" * 100_000, "attribute 'meta' is not JSON"),
        ("[]", r"attribute 'meta' must be a JSON object, got \[\]"),
        ('{"control_hz": NaN}', "control_hz must be a finite number above 0, got nan"),
        ('{"control_hz": Infinity}', "control_hz must be a finite number above 0, got inf"),
        ('{"control_hz": "20"}', "control_hz must be a finite number above 0, got '20'"),
        ('{"control_hz": 0}', "control_hz must be a finite number above 0, got 0"),
        ('{"limit": [0.05, NaN]}', "limit must be a list of finite numbers above 0"),
        ('{"limit": []}', "limit must be a list of finite numbers above 0"),
        ('{"limit": 0.05}', "limit must be a list of finite numbers above 0"),
        ('{"action_space": 1}', "action_space must be a name, or an object, got 1"),
        ('{"joint_names": "abcdefg"}', "joint_names must be a list of names"),
        ('{"config": []}', "config must be an object"),
        ('{"episodes": {}}', "episodes must be a list of objects"),
        ('{"episodes": [{}, {"anchor": "a"}, {}]}', "episodes must be a list of objects, whose anchor"),
        ('{"episodes": [{}, {}]}', "episodes has 2 entries, the file 3 episodes"),
        (
            '{"action_space": "joint_delta", "limit": [0.05], "control_hz": 20, "joint_names": ["elbow"]}',
            "proprio has .* numbers per row, expected 1",
        ),
    ],
)
def test_a_meta_that_says_nothing_sensible_is_named(path: Path, meta: Any, message: str) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["meta"] = meta
    with pytest.raises(DatasetError, match=rf"toy\.h5: .*{message}") as raised:
        EpisodeDataset.open(path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("column", ["action", "proprio", "pixels"])
def test_columns_of_no_numbers_are_named(path: Path, column: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[column]
        file.create_dataset(column, (60,), h5py.vlen_dtype(np.float32))
    if column == "proprio":  # one may do without it
        assert "proprio" not in EpisodeDataset.open(path).columns
        return
    with pytest.raises(DatasetError, match=f"column '{column}' is no column of numbers; found action"):
        EpisodeDataset.open(path)


def test_actions_are_rows_of_numbers(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["action"]
        file["action"] = np.zeros(60)
    with pytest.raises(DatasetError, match=r"column 'action' has the shape \(60,\), expected \(N, numbers\)"):
        EpisodeDataset.open(path)


def test_what_was_meant_is_as_large_as_what_was_done(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["intended_action"] = np.zeros((60, 6), np.float32)
    with pytest.raises(DatasetError, match=r"'intended_action' has the shape \(60, 6\), 'action' \(60, 7\)"):
        EpisodeDataset.open(path)


def test_what_is_no_dataset_is_told_what_to_do(tmp_path: Path) -> None:
    for name, content in (("bag", "metadata.yaml"), ("mcap", "0.mcap"), ("lerobot", "meta"), ("other", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / content).touch()
    (tmp_path / "take.db3").write_bytes(b"SQLite format 3\0")
    (tmp_path / "pointer.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")
    (tmp_path / "empty.h5").touch()
    for name, message in (
        ("bag", "is a folder, expected an HDF5 file; import it first: lewm import --from rosbag .*bag --out"),
        ("mcap", "import it first: lewm import --from rosbag "),
        ("lerobot", "import it first: lewm import --from lerobot "),
        ("other", r"import it first: lewm import --from lerobot\|rosbag "),
        ("take.db3", "not a whole HDF5 file .*; import it first: lewm import --from rosbag "),
        ("pointer.h5", "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        ("empty.h5", "not a whole HDF5 file"),
        ("missing.h5", "no such file; `lewm collect` and `lewm import` write one"),
    ):
        with pytest.raises(DatasetError, match=message):
            EpisodeDataset.open(tmp_path / name)


def test_training_and_validation_need_an_episode_each(tmp_path: Path) -> None:
    one = EpisodeDataset.open(write_toy(tmp_path / "one.h5", [toy_columns(0)]))
    with pytest.raises(DatasetError, match=r"one\.h5: training and validation need two episodes, this has 1$"):
        one.split(0.1, seed=0)
    two = EpisodeDataset.open(write_toy(tmp_path / "two.h5", [toy_columns(0), toy_columns(1)]))
    assert [len(part) for part in two.split(0.1, seed=0)] == [1, 1]
    with pytest.raises(DatasetError, match=r"two\.h5: validation_fraction 0.9 of 2 episodes leaves none to train on$"):
        two.split(0.9, seed=0)


def test_joints_that_turn_without_end_may_pass_a_turn(tmp_path: Path) -> None:
    columns = toy_columns(0)
    columns["proprio"][:, 2] += 20.0
    name = META["joint_names"][2]
    dataset = EpisodeDataset.open(write_toy(tmp_path / "toy.h5", [columns], META | {"continuous_joints": [name]}))
    assert dataset.columns["proprio"][:, 2].min() > 18.0
    with pytest.raises(DatasetError, match="proprio is beyond 2 pi rad"):
        EpisodeDataset.open(write_toy(tmp_path / "other.h5", [columns]))


def test_episodes_with_other_frames_or_columns_are_not_joined(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'pixels' is uint8 \(8, 8, 3\), before it was uint8 \(16, 16, 3\), in ep"):
        write_toy(tmp_path / "toy.h5", [toy_columns(0), toy_columns(1, size=8)])
    lacking = toy_columns(1)
    del lacking["ee_position"]
    with pytest.raises(DatasetError, match="column 'ee_position' is missing in episode 1"):
        write_toy(tmp_path / "toy.h5", [toy_columns(0), lacking])
    assert not (tmp_path / "toy.h5").exists()


def test_a_file_cut_short_is_not_read(path: Path) -> None:
    whole = path.read_bytes()
    for share in (0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DatasetError, match="not a whole HDF5 file"):
            EpisodeDataset.open(path)


WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from lewm_training.data.writing import new_file
with new_file(Path(sys.argv[1])) as file:
    file["action"] = [[0.0] * 7] * 1000
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_that_is_killed_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    done = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, path], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    os.replace(path.with_name("toy.h5.writing"), path)  # what somebody might do
    with pytest.raises(DatasetError, match=r"was never finished|not a whole HDF5 file"):
        EpisodeDataset.open(path)
    write_episode(path, toy_columns(0), {})  # and the next attempt is not in its way
    with h5py.File(path) as file:
        assert len(file["action"]) == STEPS
