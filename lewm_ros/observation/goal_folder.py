"""Goals in a folder: numbered images, in the order in which they are to be reached.

A folder holds `1.png`, `2.png`, ... (or JPEG) where goals are of one camera, and else a subfolder for each camera, that
holds them. Numbers may have leading zeros and gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from lewm_ros.config import ConfigError
from lewm_ros.observation.observation import Frame, Observation

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Other files are left alone."""


def read_goal_folder(folder: Path, cameras: Sequence[str]) -> list[Observation]:
    """The goals in a folder, in order, each with an RGB frame (height, width, 3) of every camera.

    Raises:
        ConfigError: there is no such folder, it has no images, one has no number or cannot be read, or cameras have
            images of other numbers.
    """
    places = camera_folders(folder, cameras)
    numbered = {camera: _numbered(place) for camera, place in places.items()}
    first, *_ = cameras
    for camera in cameras:
        other = sorted(numbered[camera].keys() ^ numbered[first].keys())
        if other:
            raise ConfigError(f"{folder}: goal {other[0]} has no image of every camera ({', '.join(cameras)})")
    return [
        Observation({camera: _read(numbered[camera][number]) for camera in cameras})
        for number in sorted(numbered[first])
    ]


def write_goal_folder(folder: Path, goals: Sequence[Observation], cameras: Sequence[str]) -> list[Path]:
    """Write the frames of goals as numbered PNG; returns the paths, goal by goal.

    Raises:
        ConfigError: there are images in the folder, or one cannot be written.
    """
    places, paths = camera_folders(folder, cameras), []
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
        if any(file.suffix.lower() in SUFFIXES for file in place.iterdir()):
            raise ConfigError(f"{place}: has images already; choose another folder")
    for number, goal in enumerate(goals, 1):
        for camera, place in places.items():
            paths.append(place / f"{number:02d}.png")
            if not cv2.imwrite(str(paths[-1]), cv2.cvtColor(goal.frames[camera], cv2.COLOR_RGB2BGR)):
                raise ConfigError(f"{paths[-1]}: cannot be written")
    return paths


def read_goal_images(path: Path, cameras: Sequence[str]) -> Observation:
    """What one file shows to the only camera, or a folder of `CAMERA.png` to several.

    Raises:
        ConfigError: an image is missing or cannot be read.
    """
    if len(cameras) == 1 and not path.is_dir():
        return Observation({cameras[0]: _read(path)})
    return Observation({camera: _read(path / f"{camera}.png") for camera in cameras})


def camera_folders(folder: Path, cameras: Sequence[str]) -> dict[str, Path]:
    """Where the images of every camera are."""
    return {camera: folder if len(cameras) == 1 else folder / camera for camera in cameras}


def _numbered(folder: Path) -> dict[int, Path]:
    """The images in a folder by number."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; goals are 1.png, 2.png, ... in it")
    numbered: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES:
            continue
        if not file.stem.isdecimal():
            raise ConfigError(f"{file}: goals are named by their place in the order: 1.png, 2.png, ...")
        other = numbered.setdefault(int(file.stem), file)
        if other is not file:
            raise ConfigError(f"{file}: {other.name} has the same number")
    if not numbered:
        raise ConfigError(f"{folder}: no goals; they are 1.png, 2.png, ... in it")
    return numbered


def _read(path: Path) -> Frame:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if pixels is None:
        raise ConfigError(f"{path}: {'not an image that can be read' if path.is_file() else 'no such image'}")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
