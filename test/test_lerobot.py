"""LeRobot v3 folders, there and back, and what is wrong with them named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from toy_dataset import CONTROL_HZ, META, toy_columns, write_toy

from lewm_ros.config import ConfigError
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import joint_delta
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.formats import lerobot_layout
from lewm_training.data.formats.declaration import read_declaration
from lewm_training.data.locking import OutputError, exclusive
from lewm_training.data.spec import DatasetSpec, camera_columns

av = pytest.importorskip("av", reason="needs the extra `lerobot`")
pa = pytest.importorskip("pyarrow", reason="needs the extra `lerobot`")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `lerobot`")
lerobot = pytest.importorskip("lewm_training.data.formats.lerobot", reason="needs the extra `lerobot`")

LENGTHS = (20, 33, 17)
CAMERA = "videos/observation.images.camera"
Rows = list[dict[str, Any]]
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
    config, out = folder.parent / "import.yaml", folder.parent / "imported.h5"
    out.unlink(missing_ok=True)
    config.write_text(yaml.safe_dump({**DECLARED, **declared}))
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


def edit_episodes(folder: Path, edit: Callable[[Rows], Any]) -> None:
    """Change the rows of `meta/episodes`."""
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


def encode(folder: Path, frames: Sequence[np.ndarray]) -> None:
    """Other frames in the place of the video's."""
    with av.open(str(next(folder.rglob("*.mp4"))), "w") as container:
        stream = container.add_stream("libx264", int(CONTROL_HZ), options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def read(folder: Path, name: str) -> np.ndarray:
    return np.array(pq.read_table(folder / "data/chunk-000/file-000.parquet")[name].to_pylist())


def assert_same_episodes(dataset: EpisodeDataset) -> None:
    assert_rows_are_right(dataset, LENGTHS)
    for number, steps in enumerate(LENGTHS):
        frames = toy_columns(number, steps, 32)["pixels"].astype(int)
        assert np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)).min() > MEAN_PIXEL_ERROR


def assert_rows_are_right(dataset: EpisodeDataset, lengths: Sequence[int]) -> None:
    """The dataset holds the episodes of these lengths, each row with its own frame."""
    assert list(dataset.lengths) == list(lengths)
    for number, steps in enumerate(lengths):
        true, rows = toy_columns(LENGTHS.index(steps), steps, 32), dataset.rows(number)
        for name in ("action", "proprio", "ee_position"):
            np.testing.assert_array_equal(dataset.columns[name][rows], true[name])
        np.testing.assert_allclose(dataset.columns["timestamp_s"][rows], true["timestamp_s"], atol=1e-6)
        error = np.abs(dataset.pixels[rows].astype(int) - true["pixels"]).mean(axis=(1, 2, 3))
        assert error.max() < MEAN_PIXEL_ERROR


def test_there_and_back(folder: Path) -> None:
    dataset = import_folder(folder)
    assert_same_episodes(dataset)
    source = EpisodeDataset.open(write_toy(folder.parent / "toy.h5", [toy_columns(0)])).spec
    assert dataset.spec == source
    assert (source.action_space.control_hz, source.joints) == (CONTROL_HZ, tuple(META["joint_names"]))


SCENE, WRIST = "observation.images.scene", "observation.images.wrist"
TWO_CAMERAS: dict[str, Any] = {
    "pixels": "",
    "cameras": {"scene": SCENE, "wrist": WRIST},
    "limit": [*META["limit"], 1.0],
    "vectors": {"gripper": {"column": "observation.gripper", "names": ["finger"]}},
    "labels": {"ee_position": "observation.ee_position", "contact": "observation.contact"},
}


def two_camera_columns(number: int, steps: int) -> dict[str, np.ndarray]:
    """A toy episode with a wrist camera, which shows less and upside down, a gripper and a label of one number."""
    columns = toy_columns(number, steps, 32)
    frames, opening = columns.pop("pixels"), np.linspace(0.0, 0.04, steps, dtype=np.float32)[:, None]
    return columns | {
        "pixels_scene": frames,
        "pixels_wrist": np.ascontiguousarray(frames[:, ::-1, :24]),
        "action": np.hstack([columns["action"], np.where(opening > 0.02, -1.0, 1.0).astype(np.float32)]),
        "gripper": opening,
        "contact": (opening > 0.01).astype(np.float32),
    }


@pytest.fixture(scope="module")
def two_cameras_exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three episodes of two cameras as a dataset and as a LeRobot folder."""
    folder = tmp_path_factory.mktemp("two_cameras")
    spec = DatasetSpec(
        camera_columns(["scene", "wrist"]),
        {"proprio": PANDA.joint_names, "gripper": ("finger",)},
        joint_delta(PANDA.joint_names, META["limit"], CONTROL_HZ, gripper=True),
    )
    episodes = [two_camera_columns(n, steps) for n, steps in enumerate(LENGTHS)]
    source = write_toy(folder / "toy.h5", episodes, spec.meta())
    lerobot.export_data(source, folder / "exported")
    return source, folder / "exported"


@pytest.fixture
def two_cameras(two_cameras_exported: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the folder that a test may spoil."""
    return shutil.copytree(two_cameras_exported[1], tmp_path / "folder")


def test_cameras_vectors_and_channels_there_and_back(
    two_cameras_exported: tuple[Path, Path], two_cameras: Path
) -> None:
    source, dataset = EpisodeDataset.open(two_cameras_exported[0]), import_folder(two_cameras, **TWO_CAMERAS)
    assert dataset.spec == source.spec
    assert list(dataset.lengths) == list(LENGTHS)
    assert set(dataset.columns) == set(source.columns)
    for name, values in source.columns.items():
        np.testing.assert_allclose(dataset.columns[name], values, rtol=0, atol=1e-6 * (name == "timestamp_s"))
    for camera, width in (("scene", 32), ("wrist", 24)):
        assert dataset.frames[camera].shape == (sum(LENGTHS), 32, width, 3)
        error = np.abs(dataset.frames[camera][:].astype(int) - source.frames[camera][:]).mean(axis=(1, 2, 3))
        assert error.max() < MEAN_PIXEL_ERROR


def test_one_of_several_cameras_is_enough(two_cameras_exported: tuple[Path, Path], two_cameras: Path) -> None:
    """And what is wrong with the other does no harm."""
    next(two_cameras.rglob("*scene*/**/*.mp4")).unlink()
    dataset = import_folder(two_cameras, **TWO_CAMERAS | {"cameras": {}, "pixels": WRIST})
    wrist = EpisodeDataset.open(two_cameras_exported[0]).frames["wrist"][:]
    assert np.abs(dataset.pixels[:].astype(int) - wrist).mean(axis=(1, 2, 3)).max() < MEAN_PIXEL_ERROR


def test_numbers_of_a_column_are_found_by_their_names(two_cameras: Path) -> None:
    """The folder has the gripper first and the joints from the last to the first."""
    joints, opening = read(two_cameras, "observation.state"), read(two_cameras, "observation.gripper")
    joined = np.hstack([opening[:, None], joints[:, ::-1]]).astype(np.float32)
    rewrite(two_cameras, {"observation.state": joined})
    names = ["finger", *PANDA.joint_names[::-1]]
    for said in (names, {"motors": names}):
        state = {"dtype": "float32", "shape": [8], "names": said}
        edit_info(two_cameras, features={"observation.state": state})
        gripper = {"column": "observation.state", "names": ["finger"]}
        dataset = import_folder(two_cameras, **TWO_CAMERAS | {"vectors": {"gripper": gripper}})
        np.testing.assert_array_equal(dataset.columns["proprio"], joints.astype(np.float32))
        np.testing.assert_array_equal(dataset.columns["gripper"][:, 0], opening.astype(np.float32))
    edit_info(two_cameras, features={"observation.state": state | {"names": None}})
    with pytest.raises(DatasetError, match="proprio has 8 numbers and 7 names in episode 0"):
        import_folder(two_cameras, **TWO_CAMERAS)


def test_what_is_wrong_with_one_of_several_cameras_is_named(two_cameras: Path) -> None:
    def move(rows: Rows) -> None:
        rows[1][f"videos/{WRIST}/from_timestamp"] += 0.05  # a frame
        rows[1][f"videos/{WRIST}/to_timestamp"] += 0.05

    edit_episodes(two_cameras, move)
    message = rf"'{WRIST}': its video begins at 1.05 s, the episodes before it in the file end at 1 s, in episode 1"
    with pytest.raises(DatasetError, match=message):
        import_folder(two_cameras, **TWO_CAMERAS)
    assert list(import_folder(two_cameras, skip_bad=True, **TWO_CAMERAS).lengths) == [20, 17]


def test_cameras_do_not_share_a_video(two_cameras: Path) -> None:
    edit_info(two_cameras, video_path=f"videos/{SCENE}/chunk-{{chunk_index:03d}}/file-{{file_index:03d}}.mp4")
    with pytest.raises(DatasetError, match=r"video_path lacks \{video_key\}: cameras would share their videos"):
        import_folder(two_cameras, **TWO_CAMERAS)


def test_a_camera_that_the_format_cannot_name_is_not_exported(tmp_path: Path) -> None:
    columns = two_camera_columns(0, 20)
    cameras = {"left/eye": "pixels_scene", "wrist": "pixels_wrist"}
    source = write_toy(tmp_path / "toy.h5", [columns], META | {"limit": TWO_CAMERAS["limit"], "cameras": cameras})
    with pytest.raises(DatasetError, match=r"a camera would be 'observation\.images\.left/eye'; .* have no '/'"):
        lerobot.export_data(source, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_example_is_read() -> None:
    example = Path(__file__).parents[1] / lerobot.EXAMPLE
    spec = read_declaration(example, lerobot.EXAMPLE).spec(30.0)
    assert spec.cameras == {"scene": "pixels_scene", "wrist": "pixels_wrist"}
    assert spec.vectors["gripper"] == ("finger",)
    assert spec.action_space.names == (*(f"joint{n}" for n in range(1, 8)), "gripper")


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


PNG = "observation.images.png"


def add_pictures(folder: Path, pictures: Sequence[Any]) -> None:
    """A column of pictures beside the video, as whatever the table can hold."""
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).append_column(PNG, pa.array(pictures)), path)
    edit_info(folder, features={PNG: {"dtype": "image", "shape": [32, 32, 3], "names": None}})


def all_frames() -> list[np.ndarray]:
    return [frame for n, steps in enumerate(LENGTHS) for frame in toy_columns(n, steps, 32)["pixels"]]


def png(frame: np.ndarray) -> bytes:
    """RGB, RGB with alpha or grey."""
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(frame.shape[-1])
    return cv2.imencode(".png", frame if order is None else cv2.cvtColor(frame, order))[1].tobytes()


def test_images_in_the_tables_are_read(folder: Path) -> None:
    frames = all_frames()
    add_pictures(folder, [{"bytes": b"none" if n == 60 else png(f), "path": None} for n, f in enumerate(frames)])
    with pytest.raises(DatasetError, match=r"the image cannot be decoded .* in episode 2, row 7"):
        import_folder(folder, pixels=PNG)
    dataset = import_folder(folder, skip_bad=True, pixels=PNG)
    np.testing.assert_array_equal(dataset.pixels[:], frames[:53])


def test_images_in_files_of_the_folder_are_read(folder: Path) -> None:
    frames = all_frames()
    (folder / "images").mkdir()
    for number, frame in enumerate(frames):
        (folder / f"images/{number}.png").write_bytes(png(frame))
    add_pictures(folder, [{"path": f"images/{number}.png"} for number in range(len(frames))])
    np.testing.assert_array_equal(import_folder(folder, pixels=PNG).pixels[:], frames)
    (folder / "images/23.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DatasetError, match=r"images/23\.png: is a Git LFS pointer"):
        import_folder(folder, pixels=PNG)
    (folder / "images/23.png").unlink()
    with pytest.raises(DatasetError, match=r"is images/23\.png, which is no file in the folder in episode 1, row 3"):
        import_folder(folder, pixels=PNG)


@pytest.mark.parametrize("path", ["../outside.png", "/etc/hostname", "images", "x" * 300, ""])
def test_images_outside_the_folder_are_not_read(folder: Path, path: str) -> None:
    (folder.parent / "outside.png").write_bytes(png(all_frames()[0]))
    add_pictures(folder, [path] * sum(LENGTHS))
    with pytest.raises(DatasetError, match=r"which is no file in the folder in episode 0, row 0"):
        import_folder(folder, pixels=PNG)


def test_grey_and_transparent_images_become_rgb_and_deep_ones_are_refused(folder: Path) -> None:
    frames = all_frames()
    grey, alpha = frames[0][..., 0], np.dstack([frames[1], np.full((32, 32), 7, np.uint8)])
    deep = frames[20][..., 0].astype(np.uint16) * 257
    changed = {0: grey, 1: alpha, 20: deep}
    add_pictures(folder, [png(changed.get(number, frame)) for number, frame in enumerate(frames)])
    with pytest.raises(DatasetError, match="the image is uint16, expected uint8, in episode 1, row 0"):
        import_folder(folder, pixels=PNG)
    pixels = import_folder(folder, skip_bad=True, pixels=PNG).pixels
    np.testing.assert_array_equal(pixels[0], np.dstack([grey] * 3))
    np.testing.assert_array_equal(pixels[1], frames[1])


def test_a_depth_map_is_refused(folder: Path) -> None:
    details = {"dtype": "video", "shape": [32, 32, 3], "info": {"video.is_depth_map": True}}
    edit_info(folder, features={"observation.images.camera": details})
    with pytest.raises(DatasetError, match=r"'observation\.images\.camera' is a depth map"):
        import_folder(folder)


def test_frames_of_another_size_are_named_and_skipped_only_when_asked(folder: Path) -> None:
    frames = [f for n, steps in enumerate(LENGTHS) for f in toy_columns(n, steps, 16 if n == 1 else 32)["pixels"]]
    add_pictures(folder, [{"bytes": png(frame), "path": None} for frame in frames])
    message = r"'pixels' is uint8 \(16, 16, 3\), before it was uint8 \(32, 32, 3\), in episode 1"
    with pytest.raises(DatasetError, match=message):
        import_folder(folder, pixels=PNG)
    assert list(import_folder(folder, skip_bad=True, pixels=PNG).lengths) == [20, 17]


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


SHORTER = r"file-000\.parquet holds 15 of its 17 rows in episode 2"


def test_rows_that_are_not_there_are_named(folder: Path) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, sum(LENGTHS) - 2), path)
    with pytest.raises(DatasetError, match=SHORTER):
        import_folder(folder)


# What stands twice, changed in one place: of the second of three episodes, if nothing else is said. FRAME is one frame.
FRAME, BEGIN, END = 1.0 / CONTROL_HZ, f"{CAMERA}/from_timestamp", f"{CAMERA}/to_timestamp"


def begins_late(rows: Rows) -> None:
    for row in rows[1:]:
        row[BEGIN], row[END] = row[BEGIN] + FRAME, row[END] + FRAME


def lasts_a_frame_too_long(rows: Rows) -> None:
    """As when the durations of videos are added up that are a frame longer than their episodes."""
    rows[1][END] += FRAME
    rows[2][BEGIN], rows[2][END] = rows[2][BEGIN] + FRAME, rows[2][END] + FRAME


def overlaps(rows: Rows) -> None:
    rows[1][BEGIN], rows[1][END] = 0.0, LENGTHS[1] * FRAME


def all_begin_late(rows: Rows) -> None:
    for row in rows:
        row[BEGIN], row[END] = row[BEGIN] + FRAME, row[END] + FRAME


def is_shorter(rows: Rows) -> None:
    rows[1]["length"] -= 1


def ends_elsewhere(rows: Rows) -> None:
    rows[1]["dataset_to_index"] += 1


@pytest.mark.parametrize(
    ("edit", "message", "kept"),
    [
        (begins_late, r"its video begins at 1.05 s, the episodes before it in the file end at 1 s, in episode 1", [20]),
        (lasts_a_frame_too_long, r"from 1 to 2.7 s is 34 frames at 20 Hz, length is 33, in episode 1", [20]),
        (overlaps, "its video begins at 0 s, the episodes before it in the file end at 1 s, in episode 1", [20, 17]),
        (all_begin_late, r"its video begins at 0.05 s, .* end at 0 s, in episode 0", []),
        (is_shorter, "dataset_from_index to dataset_to_index is 20 to 53, length is 32, in episode 1", [20]),
        (ends_elsewhere, "dataset_from_index to dataset_to_index is 20 to 54, length is 33, in episode 1", [20, 17]),
    ],
)
def test_episodes_whose_ranges_contradict_are_refused(
    folder: Path, edit: Callable[[Rows], None], message: str, kept: list[int]
) -> None:
    edit_episodes(folder, edit)
    with pytest.raises(DatasetError, match=message):
        import_folder(folder)
    if kept:
        assert_rows_are_right(import_folder(folder, skip_bad=True), kept)


def test_stamps_that_go_on_over_episodes_are_refused(folder: Path) -> None:
    rewrite(folder, {"timestamp": (np.arange(sum(LENGTHS)) / CONTROL_HZ).astype(np.float32)})
    with pytest.raises(DatasetError, match="timestamp is 1, expected 0, in episode 1, row 0"):
        import_folder(folder)
    assert_rows_are_right(import_folder(folder, skip_bad=True), [20])


def test_numbers_of_rows_that_contradict_are_refused(folder: Path) -> None:
    index = read(folder, "index")
    index[20 + 6] += 1
    rewrite(folder, {"index": index})
    with pytest.raises(DatasetError, match="index is 27, expected 26, in episode 1, row 6"):
        import_folder(folder)
    frame_index = read(folder, "frame_index").astype(float)
    frame_index[20 + 3] = 2.5
    rewrite(folder, {"frame_index": frame_index})
    with pytest.raises(DatasetError, match=r"frame_index is 2\.5, expected 3, in episode 1, row 3"):
        import_folder(folder)


def test_a_video_of_another_rate_is_refused(folder: Path) -> None:
    """All of `meta/` and the rows say 18 Hz. Row k is due at k/18 s, frame k comes at k/20 s: k/10 periods early."""
    scale = CONTROL_HZ / 18.0

    def slow_down(rows: Rows) -> None:
        for row in rows:
            row[BEGIN], row[END] = scale * row[BEGIN], scale * row[END]

    edit_episodes(folder, slow_down)
    edit_info(folder, fps=18)
    rewrite(folder, {"timestamp": (scale * read(folder, "timestamp")).astype(np.float32)})
    with pytest.raises(DatasetError, match=r"the video runs at 20 Hz, fps is 18\) in episode 0, row 5"):
        import_folder(folder)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_video_that_lacks_or_repeats_a_frame_is_refused(folder: Path, change: int) -> None:
    """From there on every frame would be its neighbour's."""
    frames = all_frames()
    encode(folder, frames[:25] + (frames[26:] if change < 0 else [frames[24], *frames[25:]]))
    with pytest.raises(DatasetError, match=rf"mp4 has {70 + change} frames, its episodes have 70 rows, in episode 0"):
        import_folder(folder)


def test_video_files_that_were_exchanged_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_layout, "VIDEO_FILE_MB", 0)
    source = write_toy(tmp_path / "toy.h5", [toy_columns(n, steps, 32) for n, steps in enumerate(LENGTHS)])
    lerobot.export_data(source, tmp_path / "folder")

    def exchange(rows: Rows) -> None:
        for row, file in zip(rows, (1, 0, 2), strict=True):
            row[f"{CAMERA}/file_index"] = file

    edit_episodes(tmp_path / "folder", exchange)
    with pytest.raises(DatasetError, match=r"file-001\.mp4 has 33 frames, its episodes have 20 rows, in episode 0"):
        import_folder(tmp_path / "folder")
    assert_rows_are_right(import_folder(tmp_path / "folder", skip_bad=True), [17])


def test_frames_of_an_episode_that_cannot_be_placed_are_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first says that it is in the file of the second, which does not say where it is: 13 frames are over."""
    monkeypatch.setattr(lerobot_layout, "VIDEO_FILE_MB", 0)
    source = write_toy(tmp_path / "toy.h5", [toy_columns(n, steps, 32) for n, steps in enumerate(LENGTHS)])
    lerobot.export_data(source, tmp_path / "folder")

    def move(rows: Rows) -> None:
        rows[0][f"{CAMERA}/file_index"], rows[1][f"{CAMERA}/file_index"] = 1, -1

    edit_episodes(tmp_path / "folder", move)
    assert_rows_are_right(import_folder(tmp_path / "folder", skip_bad=True), [17])


def test_only_the_camera_that_is_read_is_checked(folder: Path) -> None:
    def add_camera(rows: Rows) -> None:
        for row in rows:
            row |= {f"videos/observation.images.wrist/{name}": None for name in ("chunk_index", "from_timestamp")}

    edit_episodes(folder, add_camera)
    edit_info(folder, features={"observation.images.wrist": {"dtype": "video", "shape": [8, 8, 3], "names": None}})
    assert_same_episodes(import_folder(folder))


def test_episodes_may_be_left_out_of_the_list(folder: Path) -> None:
    edit_episodes(folder, lambda rows: rows.pop(1))
    with pytest.raises(DatasetError, match="total_episodes is 3, meta/episodes lists 2"):
        import_folder(folder)
    edit_info(folder, total_episodes=2, total_frames=37)
    assert_rows_are_right(import_folder(folder), [20, 17])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("length", None, "length is None, expected a number, in episode 1"),
        ("length", 0, "length is 0, expected a whole number from 1 on, in episode 1"),
        ("data/file_index", 0.5, "data/file_index is 0.5, expected a whole number from 0 on, in episode 1"),
        ("data/file_index", 7, r"file-007\.parquet: no such file in episode 1"),
        (BEGIN, float("nan"), "from_timestamp is nan, expected seconds, in episode 1"),
        (f"{CAMERA}/file_index", None, "file_index is None, expected a number, in episode 1"),
    ],
)
def test_values_that_the_list_cannot_have_are_named(folder: Path, column: str, value: Any, message: str) -> None:
    edit_episodes(folder, lambda rows: rows[1].update({column: value}))
    with pytest.raises(DatasetError, match=message):
        import_folder(folder)
    assert_rows_are_right(import_folder(folder, skip_bad=True), [20, 17])


def test_an_episode_that_is_listed_twice_is_named(folder: Path) -> None:
    edit_episodes(folder, lambda rows: rows.append(rows[1]))
    with pytest.raises(DatasetError, match="meta/episodes has 2 rows in episode 1"):
        import_folder(folder)
    assert_rows_are_right(import_folder(folder, skip_bad=True), [20, 17])


def test_a_column_that_the_list_lacks_is_named(folder: Path) -> None:
    edit_episodes(folder, lambda rows: [row.pop(BEGIN) for row in rows])
    with pytest.raises(DatasetError, match=r"meta/episodes has no column 'videos/.*/from_timestamp'"):
        import_folder(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 0}, "fps is 0, expected a number above 0"),
        ({"fps": None}, "fps is None, expected"),
        ({"fps": "20"}, "fps is '20', expected"),
        ({"fps": float("nan")}, "fps is nan, expected"),
        ({"fps": True}, "fps is True, expected"),
        ({"total_frames": 71}, "total_frames is 71, meta/episodes lists 70"),
        ({"data_path": "data/{episode_chunk}.parquet"}, "data_path is 'data/{episode_chunk}.parquet', expected a name"),
        ({"data_path": "data/{chunk_index:q}.parquet"}, "expected a name with {chunk_index}, {file_index}"),
        ({"data_path": "{"}, "data_path is '{', expected a name"),
        ({"video_path": None}, "video_path is None, expected a name"),
        ({"data_path": "../{file_index}.parquet"}, "data_path leads out of the folder"),
        ({"video_path": "/{file_index}.mp4"}, "video_path leads out of the folder"),
        ({"features": {"action": {"dtype": "float32", "shape": [6]}}}, "action has 7 numbers per row, .* says 6"),
        ({"codebase_version": "v1.6"}, r"LeRobot v1.6, expected v3.0 or v2.0, v2.1"),
        ({"codebase_version": None}, "LeRobot None, expected v3.0"),
    ],
)
def test_what_info_cannot_say_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_info(folder, **changes)
    with pytest.raises(DatasetError, match=message):
        import_folder(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"v3.0"', "[" * 100_000])
def test_an_info_file_that_is_no_mapping_is_named(folder: Path, text: str) -> None:
    (folder / "meta/info.json").write_text(text)
    with pytest.raises(DatasetError, match=r"not a LeRobot dataset|expected a mapping"):
        import_folder(folder)


@pytest.mark.parametrize(
    "types",
    [
        {"action": pa.large_list(pa.float64()), "observation.state": pa.list_(pa.float32())},
        {"action": pa.list_(pa.float64(), 7), "observation.state": pa.large_list(pa.float32())},
        {"frame_index": pa.float64(), "index": pa.uint16(), "episode_index": pa.int8(), "timestamp": pa.float64()},
        {"frame_index": pa.dictionary(pa.int8(), pa.int64()), "index": pa.decimal128(20, 3)},
        {"frame_index": pa.list_(pa.int64(), 1), "timestamp": pa.list_(pa.float32())},
    ],
)
def test_numbers_of_other_types_are_read(folder: Path, types: dict[str, Any]) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    for name, kind in types.items():
        values = table[name].to_pylist()
        listed = pa.types.is_nested(kind) and not isinstance(values[0], list)
        column = pa.array([[value] for value in values] if listed else values, kind)
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)
    assert_same_episodes(import_folder(folder))


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("action", lambda row: None, "action is null in episode 1, row 2"),
        ("action", lambda row: [*row[:6], None], "action is null in episode 1, row 2"),
        ("action", lambda row: row[:6], "action has 6 numbers, the first row has 7, in episode 1, row 2"),
        ("action", lambda row: [], "action has 0 numbers, the first row has 7, in episode 1, row 2"),
        ("action", lambda row: [*row[:6], float("inf")], "action is not finite in episode 1, row 2"),
        ("timestamp", lambda row: None, "timestamp is null in episode 1, row 2"),
        ("timestamp", lambda row: float("nan"), "timestamp is nan, expected 0.1, in episode 1, row 2"),
        ("frame_index", lambda row: None, "frame_index is null in episode 1, row 2"),
        ("episode_index", lambda row: None, "frame_index is 3, expected 2, in episode 1, row 2"),
    ],
)
def test_a_value_that_a_row_cannot_have_is_named(
    folder: Path, column: str, change: Callable[[Any], Any], message: str
) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[20 + 2] = change(values[20 + 2])
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), path)
    with pytest.raises(DatasetError, match=message):
        import_folder(folder)
    assert_rows_are_right(import_folder(folder, skip_bad=True), [20, 17])


@pytest.mark.parametrize(
    ("column", "message"),
    [("action", "action holds string, expected numbers in episode 0"), ("episode_index", "cannot be read")],
)
def test_columns_of_text_are_named(folder: Path, column: str, message: str) -> None:
    rewrite(folder, {column: np.array(["text"] * sum(LENGTHS))})
    with pytest.raises(DatasetError, match=message):
        import_folder(folder)


@pytest.mark.parametrize("kind", ["info.json", "*/*.parquet", "*.mp4"])
def test_pointers_of_git_lfs_are_called_by_name(folder: Path, kind: str) -> None:
    for path in folder.rglob(kind):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 5678\n")
    with pytest.raises(DatasetError, match="is a Git LFS pointer"):
        import_folder(folder, skip_bad=True)


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
    info.write_text(info.read_text().replace("v3.0", "v1.6"))
    with pytest.raises(DatasetError, match=r"LeRobot v1\.6, expected v3\.0 or v2\.0, v2\.1"):
        import_folder(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="not a LeRobot dataset"):
        import_folder(tmp_path / "empty")


def test_a_dataset_without_a_whole_rate_is_not_exported(tmp_path: Path) -> None:
    source = write_toy(tmp_path / "toy.h5", [toy_columns(0)], META | {"control_hz": 12.5})
    with pytest.raises(DatasetError, match=r"control_hz is 12\.5; LeRobot needs a whole number"):
        lerobot.export_data(source, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_an_export_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    source, out = write_toy(tmp_path / "toy.h5", [toy_columns(0)]), tmp_path / "exported"
    theirs = tmp_path / "exported.writing"
    theirs.mkdir()
    (theirs / "theirs").touch()
    with exclusive(out), pytest.raises(OutputError, match="exported: is being written by another process"):
        lerobot.export_data(source, out)
    assert (theirs / "theirs").exists()
    assert not out.exists()


def test_an_export_begins_again_after_one_that_was_killed(tmp_path: Path) -> None:
    """Which left its unfinished folder and its lock file behind."""
    source, out = write_toy(tmp_path / "toy.h5", [toy_columns(0, 20, 32)]), tmp_path / "exported"
    (tmp_path / "exported.writing").mkdir()
    (tmp_path / "exported.writing/half").touch()
    (tmp_path / "exported.lock").touch()
    lerobot.export_data(source, out)
    assert_rows_are_right(import_folder(out), [20])
    assert sorted(path.name for path in tmp_path.glob("exported*")) == ["exported"]
    assert not (out / "half").exists()


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_toy(tmp_path / "toy.h5", [toy_columns(0)])
    monkeypatch.setattr(lerobot_layout, "TASKS", "meta/info.json/tasks.parquet")  # a file in the place of a folder
    with pytest.raises(OSError):
        lerobot.export_data(source, tmp_path / "exported")
    assert list(tmp_path.glob("exported*")) == []


@pytest.mark.parametrize("name", ["state", "images.camera"])
def test_columns_that_would_have_the_same_name_are_not_exported(tmp_path: Path, name: str) -> None:
    columns = toy_columns(0)
    source = write_toy(tmp_path / "toy.h5", [columns | {name: columns["action"]}])
    with pytest.raises(DatasetError, match=f"would both be 'observation.{name}'"):
        lerobot.export_data(source, tmp_path / "exported")
