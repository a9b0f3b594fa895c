"""LeRobot v3 folders, there and back, and what is wrong with them named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from toy_dataset import CONTROL_HZ, META, toy_columns, write_toy

from lewm_ros.config import ConfigError
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.formats import lerobot_layout

pa = pytest.importorskip("pyarrow", reason="needs the extra `lerobot`")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `lerobot`")
lerobot = pytest.importorskip("lewm_training.data.formats.lerobot", reason="needs the extra `lerobot`")

LENGTHS = (20, 33, 17)
MEAN_PIXEL_ERROR = 2.0
"""Of 255: what the video may lose. Two frames of a toy episode that follow one another differ by more."""

DECLARED: dict[str, Any] = {
    "action_space": "joint_delta",
    "angles": "radians",
    "limit": META["limit"],
    "joint_names": META["joint_names"],
    "pixels": "observation.images.camera",
    "state": "observation.state",
    "labels": {"ee_position": "observation.ee_position"},
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three toy episodes as a LeRobot folder."""
    folder = tmp_path_factory.mktemp("lerobot")
    source = write_toy(folder / "toy.h5", [toy_columns(n, steps, 32) for n, steps in enumerate(LENGTHS)])
    lerobot.export_data(source, folder / "exported")
    return folder / "exported"


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(exported, tmp_path / "folder")


def import_folder(folder: Path, skip_bad: bool = False, **declared: Any) -> EpisodeDataset:
    config = folder.parent / "import.yaml"
    config.write_text(yaml.safe_dump({**DECLARED, **declared}))
    out = folder.parent / "imported.h5"
    lerobot.import_data(folder, out, config, skip_bad)
    return EpisodeDataset.open(out)


def rewrite(folder: Path, change: dict[str, np.ndarray]) -> None:
    """Replace columns of the first data file."""
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    for name, values in change.items():
        column = pa.array(values) if values.ndim == 1 else pa.array(list(values))
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)


def edit_info(folder: Path, **changes: Any) -> None:
    """Change what `meta/info.json` says; in `features` only those that are given."""
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    features = info["features"] | changes.pop("features", {})
    path.write_text(json.dumps(info | {"features": features} | changes))


def read(folder: Path, name: str) -> np.ndarray:
    return np.array(pq.read_table(folder / "data/chunk-000/file-000.parquet")[name].to_pylist())


def assert_same_episodes(dataset: EpisodeDataset) -> None:
    assert list(dataset.lengths) == list(LENGTHS)
    for number, steps in enumerate(LENGTHS):
        true, rows = toy_columns(number, steps, 32), dataset.rows(number)
        for name in ("action", "proprio", "ee_position"):
            np.testing.assert_array_equal(dataset.columns[name][rows], true[name])
        np.testing.assert_allclose(dataset.columns["timestamp_s"][rows], true["timestamp_s"], atol=1e-6)
        error = np.abs(dataset.pixels[rows].astype(int) - true["pixels"]).mean(axis=(1, 2, 3))
        assert error.max() < MEAN_PIXEL_ERROR
        assert np.abs(np.diff(true["pixels"].astype(int), axis=0)).mean(axis=(1, 2, 3)).min() > MEAN_PIXEL_ERROR


def test_there_and_back(folder: Path) -> None:
    dataset = import_folder(folder)
    assert_same_episodes(dataset)
    assert dataset.meta["control_hz"] == CONTROL_HZ
    assert dataset.meta["joint_names"] == META["joint_names"]


def test_there_and_back_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_layout, "DATA_FILE_MB", 0)
    monkeypatch.setattr(lerobot_layout, "VIDEO_FILE_MB", 0)
    monkeypatch.setattr(lerobot_layout, "FILES_PER_CHUNK", 2)
    source = write_toy(tmp_path / "toy.h5", [toy_columns(n, steps, 32) for n, steps in enumerate(LENGTHS)])
    lerobot.export_data(source, tmp_path / "exported")
    videos = tmp_path / "exported/videos/observation.images.camera"
    assert sorted(str(p.relative_to(videos)) for p in videos.rglob("*.mp4")) == [
        "chunk-000/file-000.mp4",
        "chunk-000/file-001.mp4",
        "chunk-001/file-000.mp4",
    ]
    assert_same_episodes(import_folder(tmp_path / "exported"))


def test_the_folder_says_what_it_holds(exported: Path) -> None:
    info = json.loads((exported / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 20)
    assert (info["total_episodes"], info["total_frames"]) == (3, sum(LENGTHS))
    assert info["features"]["observation.state"]["names"] == META["joint_names"]
    assert info["features"]["observation.images.camera"]["shape"] == [32, 32, 3]
    stored = pq.read_table(exported / "data/chunk-000/file-000.parquet")
    assert set(stored.column_names) == set(info["features"]) - {"observation.images.camera"}
    statistics = json.loads((exported / "meta/stats.json").read_text())
    actions = np.concatenate([toy_columns(n, steps)["action"] for n, steps in enumerate(LENGTHS)])
    np.testing.assert_allclose(statistics["action"]["mean"], actions.mean(0), atol=1e-7)
    assert np.shape(statistics["observation.images.camera"]["std"]) == (3, 1, 1)


def test_degrees_and_targets_become_radians_and_deltas(folder: Path) -> None:
    state, action = read(folder, "observation.state"), read(folder, "action")
    # A target is where the joints are told to be: where they are, plus the delta.
    rewrite(folder, {"observation.state": np.rad2deg(state), "action": np.rad2deg(state + action)})
    dataset = import_folder(folder, angles="degrees", actions="target")
    np.testing.assert_allclose(dataset.columns["proprio"], state, atol=1e-6)
    np.testing.assert_allclose(dataset.columns["action"], action, atol=1e-6)


def test_actions_can_be_measured(folder: Path) -> None:
    dataset = import_folder(folder, actions="measured")
    assert list(dataset.lengths) == [steps - 1 for steps in LENGTHS]
    np.testing.assert_allclose(dataset.columns["action"][:19], toy_columns(0)["action"][:19], atol=1e-6)


def test_degrees_declared_as_radians_are_named(folder: Path) -> None:
    state = read(folder, "observation.state")
    rewrite(folder, {"observation.state": np.rad2deg(state)})
    with pytest.raises(DatasetError, match=r"beyond 2 pi rad \(are these degrees\? .*\) in episode 0, row 0"):
        import_folder(folder)


def test_radians_declared_as_degrees_are_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"'observation\.state' is declared in degrees, but stays within"):
        import_folder(folder, angles="degrees")


def test_numbers_are_chosen_and_scaled(folder: Path) -> None:
    action = read(folder, "action")
    rewrite(folder, {"action": np.hstack([np.ones((len(action), 1)), action / 0.05])})
    edit_info(folder, features={"action": {"dtype": "float64", "shape": [8], "names": None}})
    dataset = import_folder(folder, action_indices=list(range(1, 8)), action_scale=[0.05] * 7)
    np.testing.assert_allclose(dataset.columns["action"], action, atol=1e-7)
    with pytest.raises(DatasetError, match="action has 8 numbers, number 9 is asked for in episode 0"):
        import_folder(shutil.copytree(folder, folder.parent / "again" / "folder"), action_indices=[9])


def test_frames_are_cropped_and_resized(folder: Path) -> None:
    assert import_folder(folder, image_size=16).pixels.shape == (sum(LENGTHS), 16, 16, 3)


def test_images_in_the_tables_are_read(folder: Path) -> None:
    frames = [f for n, steps in enumerate(LENGTHS) for f in toy_columns(n, steps, 32)["pixels"]]
    encoded = [cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes() for frame in frames]
    encoded[60] = b"not a picture"
    path = folder / "data/chunk-000/file-000.parquet"
    images = pa.array([{"bytes": image, "path": None} for image in encoded])
    pq.write_table(pq.read_table(path).append_column("observation.images.png", images), path)
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["observation.images.png"] = {"dtype": "image", "shape": [32, 32, 3], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=r"the image cannot be decoded .* in episode 2, row 7"):
        import_folder(folder, pixels="observation.images.png")
    dataset = import_folder(folder, skip_bad=True, pixels="observation.images.png")
    np.testing.assert_array_equal(dataset.pixels[:], frames[:53])


def test_frames_of_another_size_are_named_and_skipped_only_when_asked(folder: Path) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["observation.images.png"] = {"dtype": "image", "shape": [32, 32, 3], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))
    frames = [f for n, steps in enumerate(LENGTHS) for f in toy_columns(n, steps, 16 if n == 1 else 32)["pixels"]]
    images = pa.array([{"bytes": cv2.imencode(".png", frame)[1].tobytes(), "path": None} for frame in frames])
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).append_column("observation.images.png", images), path)
    message = r"'pixels' is uint8 \(16, 16, 3\), before it was uint8 \(32, 32, 3\), in episode 1"
    with pytest.raises(DatasetError, match=message):
        import_folder(folder, pixels="observation.images.png")
    assert list(import_folder(folder, skip_bad=True, pixels="observation.images.png").lengths) == [20, 17]


def test_a_clock_that_jumps_is_named_and_skipped_only_when_asked(folder: Path) -> None:
    stamps_s = read(folder, "timestamp").astype(np.float32)
    stamps_s[20 + 4 :] += 1.0  # in the second episode
    stamps_s[20 + 33 :] -= 1.0
    rewrite(folder, {"timestamp": stamps_s})
    message = "timestamp is 1.2, expected 0.2, in episode 1, row 4"
    with pytest.raises(DatasetError, match=message):
        import_folder(folder)
    dataset = import_folder(folder, skip_bad=True)
    assert list(dataset.lengths) == [20, 17]
    assert [notes["source"] for notes in dataset.meta["episodes"]] == ["0", "2"]


def test_rows_and_frames_that_are_not_there_are_named(folder: Path) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, sum(LENGTHS) - 2), path)
    with pytest.raises(DatasetError, match=r"file-000\.parquet holds 15 of its 17 rows in episode 2"):
        import_folder(folder)


def test_a_video_cut_short_is_named(folder: Path) -> None:
    video = next(folder.rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(DatasetError, match=r"\.mp4 cannot be decoded .* in episode 0"):
        import_folder(folder)


def test_other_versions_columns_and_rates_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'observation.images.wrist' is missing; found action, observation"):
        import_folder(folder, pixels="observation.images.wrist")
    with pytest.raises(DatasetError, match=r"'observation\.state' is float32, not frames"):
        import_folder(folder, pixels="observation.state")
    with pytest.raises(ConfigError, match="control_hz is 30, the dataset's fps is 20"):
        import_folder(folder, control_hz=30.0)
    info = folder / "meta/info.json"
    info.write_text(info.read_text().replace("v3.0", "v2.1"))
    with pytest.raises(DatasetError, match=r"LeRobot v2\.1, expected v3\.0"):
        import_folder(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="not a LeRobot dataset"):
        import_folder(tmp_path / "empty")


def test_a_dataset_without_a_whole_rate_is_not_exported(tmp_path: Path) -> None:
    source = write_toy(tmp_path / "toy.h5", [toy_columns(0)], META | {"control_hz": 12.5})
    with pytest.raises(DatasetError, match=r"control_hz is 12\.5; LeRobot needs a whole number"):
        lerobot.export_data(source, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
