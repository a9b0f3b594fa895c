"""Goals in a folder, written and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lewm_ros.config import ConfigError
from lewm_ros.observation.goal_folder import read_goal_folder, read_goal_images, write_goal_folder
from lewm_ros.observation.observation import Observation


def goals(count: int, *cameras: str) -> list[Observation]:
    """Frames of different colours."""
    return [
        Observation(
            {name: np.full((4, 6, 3), (10 * goal, 20 * camera, 200), np.uint8) for camera, name in enumerate(cameras)}
        )
        for goal in range(count)
    ]


@pytest.mark.parametrize("cameras", [("scene",), ("left", "right")])
def test_what_is_written_is_read_in_order(cameras: tuple[str, ...], tmp_path: Path) -> None:
    written = goals(11, *cameras)
    paths = write_goal_folder(tmp_path / "goals", written, cameras)
    assert len(paths) == 11 * len(cameras)
    read = read_goal_folder(tmp_path / "goals", cameras)
    assert len(read) == 11
    for one, other in zip(written, read, strict=True):
        for camera in cameras:
            np.testing.assert_array_equal(one.frames[camera], other.frames[camera])


def test_numbers_are_numbers_and_other_files_are_left_alone(tmp_path: Path) -> None:
    first, second = goals(2, "scene")
    path = write_goal_folder(tmp_path, [first], ["scene"])[0]
    path.rename(tmp_path / "9.png")
    other = write_goal_folder(tmp_path / "other", [second], ["scene"])[0]
    other.rename(tmp_path / "10.png")
    (tmp_path / "notes.txt").write_text("grasp, lift")
    read = read_goal_folder(tmp_path, ["scene"])
    assert [goal.frames["scene"][0, 0, 0] for goal in read] == [0, 10]
    assert read_goal_images(tmp_path / "10.png", ["scene"]).frames["scene"][0, 0].tolist() == [10, 0, 200]


def test_what_is_wrong_with_a_folder_is_named(tmp_path: Path) -> None:
    def refused(match: str, *cameras: str) -> None:
        with pytest.raises(ConfigError, match=match):
            read_goal_folder(tmp_path / "goals", cameras or ["scene"])

    refused("no such folder")
    (tmp_path / "goals").mkdir()
    refused("no goals; they are 1.png")
    (tmp_path / "goals" / "1.png").write_text("no picture")
    refused("1.png: not an image that can be read")
    (tmp_path / "goals" / "01.png").write_text("no picture")
    refused("1.png: 01.png has the same number")
    (tmp_path / "goals" / "01.png").unlink()
    (tmp_path / "goals" / "grasp.png").write_text("no picture")
    refused("named by their place")
    write_goal_folder(tmp_path / "goals" / "left", goals(2, "left"), ["left"])
    write_goal_folder(tmp_path / "goals" / "right", goals(1, "right"), ["right"])
    refused("goal 2 has no image of every camera", "left", "right")
    with pytest.raises(ConfigError, match="has images already"):
        write_goal_folder(tmp_path / "goals" / "left", goals(2, "left"), ["left"])
    with pytest.raises(ConfigError, match="no such image"):
        read_goal_images(tmp_path / "none.png", ["scene"])
