"""What `meta/episodes` of a LeRobot dataset says of each episode, checked against itself.

Most of it is said twice: lengths in rows and in seconds, and where an episode begins in a video follows from the
lengths of those before it. Where the two differ, frames and rows would be paired that do not belong together.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lewm_training.data import EpisodeError
from lewm_training.data.formats.lerobot_layout import EPISODES, FRAME_TOLERANCE

INDICES = ("dataset_from_index", "dataset_to_index")
OPTIONAL = ("tasks", *INDICES)
HIGHEST_NUMBER = 2**53
"""Up to which floats hold every whole number."""
LONGEST_S = 1e9
"""No video is longer."""


@dataclass(frozen=True)
class FileNumber:
    """Which of the data or video files."""

    chunk: int
    file: int


@dataclass(frozen=True)
class VideoRange:
    """Where an episode lies in a video file, in seconds from its beginning."""

    place: FileNumber
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class ListedEpisode:
    """A row of `meta/episodes`.

    Args:
        number: `episode_index`.
        length: rows, at least one.
        tasks: what it shows.
        data: the file that holds its rows.
        first_index: number of its first row in the dataset, if that is said.
        videos: where the frames of every camera lie that is in videos.
    """

    number: int
    length: int
    tasks: tuple[str, ...]
    data: FileNumber
    first_index: int | None
    videos: Mapping[str, VideoRange]


@dataclass(frozen=True)
class Listing:
    """What is known of the episodes.

    Args:
        episodes: each, or why it cannot be used, by its number in ascending order.
        video_frames: how many frames a video file of a camera can hold; without those in which episodes can lie of
            which nothing is known.
    """

    episodes: Mapping[int, ListedEpisode | EpisodeError]
    video_frames: Mapping[str, Mapping[FileNumber, Collection[int]]]


def column_names_of(cameras: Sequence[str]) -> list[str]:
    """The columns of `meta/episodes` that are read; `cameras` are those whose frames are in videos."""
    video = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    names = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index", *INDICES]
    return names + [f"videos/{camera}/{name}" for camera in cameras for name in video]


def list_episodes(rows: Sequence[Mapping[str, Any]], cameras: Sequence[str], fps: float, total: Any) -> Listing:
    """Read the rows of `meta/episodes`.

    Args:
        rows: the rows.
        cameras: whose frames are taken from videos.
        fps: frames per second.
        total: how many episodes there are, as far as `meta/info.json` says it.

    Raises:
        EpisodeError: a column is missing, or a row does not say which episode it is of.
    """
    for name in column_names_of(cameras):
        if name not in OPTIONAL and not any(name in row for row in rows):
            raise EpisodeError(f"{EPISODES} has no column '{name}'")
    listed: dict[int, ListedEpisode] = {}
    lengths: dict[int, int] = {}
    faults: dict[int, EpisodeError] = {}
    numbers = [_whole(row, "episode_index") for row in rows]
    for number, row in zip(numbers, rows, strict=True):
        try:
            lengths[number] = _whole(row, "length", 1)
            listed[number] = _parse(number, row, cameras)
            _check_lengths(listed[number], row, fps)
        except EpisodeError as error:
            faults[number] = error
    complete = total == len(numbers) and set(numbers) == set(range(len(numbers)))
    last, misplaced, video_frames = max(numbers) if complete else None, {}, {}
    for camera in cameras:
        astray, video_frames[camera] = _follow_videos(camera, listed, lengths, last, fps)
        misplaced |= astray
        for number in faults.keys() & listed.keys():
            video_frames[camera].pop(listed[number].videos[camera].place, None)  # its length is not certain
    faults = misplaced | faults
    for number, times in Counter(numbers).items():
        if times > 1:
            faults[number] = EpisodeError(f"{EPISODES} has {times} rows")
    return Listing({number: faults.get(number) or listed[number] for number in sorted(set(numbers))}, video_frames)


def _parse(number: int, row: Mapping[str, Any], cameras: Sequence[str]) -> ListedEpisode:
    tasks = row.get("tasks")
    return ListedEpisode(
        number,
        _whole(row, "length", 1),
        tuple(map(str, tasks)) if isinstance(tasks, list) else (),
        FileNumber(_whole(row, "data/chunk_index"), _whole(row, "data/file_index")),
        _whole(row, INDICES[0]) if INDICES[0] in row else None,
        {camera: _parse_video(row, f"videos/{camera}/") for camera in cameras},
    )


def _parse_video(row: Mapping[str, Any], prefix: str) -> VideoRange:
    place = FileNumber(_whole(row, f"{prefix}chunk_index"), _whole(row, f"{prefix}file_index"))
    return VideoRange(place, _seconds(row, f"{prefix}from_timestamp"), _seconds(row, f"{prefix}to_timestamp"))


def _check_lengths(episode: ListedEpisode, row: Mapping[str, Any], fps: float) -> None:
    """Raise EpisodeError where the length of an episode differs from what its ranges say."""
    if all(name in row for name in INDICES):
        first, end = (_whole(row, name) for name in INDICES)
        if end - first != episode.length:
            raise EpisodeError(f"{' to '.join(INDICES)} is {first} to {end}, length is {episode.length},")
    for camera, video in episode.videos.items():
        frames = (video.end_s - video.begin_s) * fps
        if abs(frames - episode.length) > FRAME_TOLERANCE:
            raise EpisodeError(
                f"'{camera}': its video from {video.begin_s:.6g} to {video.end_s:.6g} s is {frames:.4g} frames at "
                f"{fps:.4g} Hz, length is {episode.length},"
            )


def _follow_videos(
    camera: str, listed: Mapping[int, ListedEpisode], lengths: Mapping[int, int], last: int | None, fps: float
) -> tuple[dict[int, EpisodeError], dict[FileNumber, set[int]]]:
    """Lay the episodes of each video file of a camera one after the other.

    Args:
        camera: the camera's column.
        listed: episodes by number.
        lengths: of these, and of those of which nothing else is known.
        last: number of the last episode of all, if that is known.
        fps: frames per second.

    Returns:
        Why those cannot be used that do not begin where the ones before them end, and how many frames each file can
        hold, as far as that is known.
    """
    misplaced: dict[int, EpisodeError] = {}
    ends: dict[FileNumber, tuple[int, float]] = {}
    for number in sorted(listed):
        video = listed[number].videos[camera]
        begin, (_, end) = video.begin_s * fps, ends.get(video.place, (0, 0.0))
        gaps = _gaps(number, -1, listed, lengths, last)
        right = max(end, begin) if gaps is None else min((end + gap for gap in gaps), key=lambda at: abs(at - begin))
        if abs(begin - right) > FRAME_TOLERANCE:
            misplaced[number] = EpisodeError(
                f"'{camera}': its video begins at {video.begin_s:.6g} s, the episodes before it in the file end at "
                f"{end / fps:.6g} s,"
            )
        ends[video.place] = number, right + listed[number].length
    frames = {}
    for place, (number, end) in ends.items():
        gaps = _gaps(number, 1, listed, lengths, last)
        if gaps is not None:
            frames[place] = {round(end) + gap for gap in gaps}
    return misplaced, frames


def _gaps(
    number: int, step: int, listed: Mapping[int, ListedEpisode], lengths: Mapping[int, int], last: int | None
) -> set[int] | None:
    """How many frames can lie next to an episode because it is not known where its neighbours are.

    Args:
        number: the episode's.
        step: -1 for those before it, 1 for those after it.
        listed: the episodes that lie elsewhere.
        lengths: of all whose length is known.
        last: number of the last episode of all, if that is known.

    Returns:
        None if it can be any number of frames.
    """
    gaps, total = {0}, 0
    while (number := number + step) >= 0 and number not in listed and (last is None or number <= last):
        if number not in lengths:
            return None
        total += lengths[number]
        gaps.add(total)
    return gaps


def _whole(row: Mapping[str, Any], name: str, lowest: int = 0) -> int:
    value = _number(row, name)
    if not float(value).is_integer() or not lowest <= value <= HIGHEST_NUMBER:
        raise EpisodeError(f"{EPISODES}: {name} is {value}, expected a whole number from {lowest} on,")
    return int(value)


def _seconds(row: Mapping[str, Any], name: str) -> float:
    value = float(_number(row, name))
    if not 0.0 <= value <= LONGEST_S:
        raise EpisodeError(f"{EPISODES}: {name} is {value}, expected seconds,")
    return value


def _number(row: Mapping[str, Any], name: str) -> int | float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EpisodeError(f"{EPISODES}: {name} is {reprlib.repr(value)}, expected a number,")
    return value
