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
        video: where its frames lie, if they are in a video.
    """

    number: int
    length: int
    tasks: tuple[str, ...]
    data: FileNumber
    first_index: int | None
    video: VideoRange | None


@dataclass(frozen=True)
class Listing:
    """What is known of the episodes.

    Args:
        episodes: each, or why it cannot be used, by its number in ascending order.
        video_frames: how many frames a video file holds, where no episode can lie in it that is not listed.
    """

    episodes: Mapping[int, ListedEpisode | EpisodeError]
    video_frames: Mapping[FileNumber, int]


def column_names_of(camera: str | None) -> list[str]:
    """The columns of `meta/episodes` that are read; `camera` if its frames are in videos."""
    video = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    names = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index", *INDICES]
    return names + [f"videos/{camera}/{name}" for name in video if camera]


def list_episodes(rows: Sequence[Mapping[str, Any]], camera: str | None, fps: float, total: Any) -> Listing:
    """Read the rows of `meta/episodes`.

    Args:
        rows: the rows.
        camera: whose video the frames are taken from; None: there is none.
        fps: frames per second.
        total: how many episodes there are, as far as `meta/info.json` says it.

    Raises:
        EpisodeError: a column is missing, or a row does not say which episode it is of.
    """
    for name in column_names_of(camera):
        if name not in OPTIONAL and not any(name in row for row in rows):
            raise EpisodeError(f"{EPISODES} has no column '{name}'")
    listed: dict[int, ListedEpisode] = {}
    faults: dict[int, EpisodeError] = {}
    numbers = [_whole(row, "episode_index") for row in rows]
    for number, row in zip(numbers, rows, strict=True):
        try:
            listed[number] = _parse(number, row, camera)
            _check_lengths(listed[number], row, fps)
        except EpisodeError as error:
            faults[number] = error
    complete = set(numbers) == set(range(total)) if isinstance(total, int) and total == len(numbers) else False
    misplaced, video_frames = _follow_videos(listed, set(faults), fps, max(numbers) if complete else None)
    faults = misplaced | faults
    for number, times in Counter(numbers).items():
        if times > 1:
            faults[number] = EpisodeError(f"{EPISODES} has {times} rows")
    return Listing({number: faults.get(number) or listed[number] for number in sorted(set(numbers))}, video_frames)


def _parse(number: int, row: Mapping[str, Any], camera: str | None) -> ListedEpisode:
    tasks = row.get("tasks")
    return ListedEpisode(
        number,
        _whole(row, "length", 1),
        tuple(map(str, tasks)) if isinstance(tasks, list) else (),
        FileNumber(_whole(row, "data/chunk_index"), _whole(row, "data/file_index")),
        _whole(row, INDICES[0]) if INDICES[0] in row else None,
        _parse_video(row, f"videos/{camera}/") if camera else None,
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
    if episode.video:
        frames = (episode.video.end_s - episode.video.begin_s) * fps
        if abs(frames - episode.length) > FRAME_TOLERANCE:
            raise EpisodeError(
                f"its video from {episode.video.begin_s:.6g} to {episode.video.end_s:.6g} s is {frames:.4g} frames at "
                f"{fps:.4g} Hz, length is {episode.length},"
            )


def _follow_videos(
    listed: Mapping[int, ListedEpisode], doubtful: Collection[int], fps: float, last: int | None
) -> tuple[dict[int, EpisodeError], dict[FileNumber, int]]:
    """Lay the episodes of each video file one after the other.

    Frames that belong to none may only stand where a number is missing in the list, or after its end if it is not known
    to be complete.

    Args:
        listed: the episodes by number.
        doubtful: numbers of those whose length is not certain.
        fps: frames per second.
        last: number of the last episode of all, if that is known.

    Returns:
        Why those cannot be used that do not begin where the ones before them end, and how many frames the files hold
        whose end is known.
    """
    faults: dict[int, EpisodeError] = {}
    ends: dict[FileNumber, float] = {}
    last_in: dict[FileNumber, int] = {}
    for number in sorted(listed):
        episode = listed[number]
        if episode.video is None:
            continue
        place, begin = episode.video.place, episode.video.begin_s * fps
        expected = ends.get(place, 0.0)
        if number > 0 and number - 1 not in listed:
            expected = max(expected, begin)
        if abs(begin - expected) > FRAME_TOLERANCE:
            faults[number] = EpisodeError(
                f"its video begins at {episode.video.begin_s:.6g} s, the episodes before it in the file end at "
                f"{expected / fps:.6g} s,"
            )
        ends[place], last_in[place] = expected + episode.length, number
    known = {place for place, number in last_in.items() if number == last or number + 1 in listed}
    known -= {listed[number].video.place for number in doubtful if number in listed and listed[number].video}
    return faults, {place: round(end) for place, end in ends.items() if place in known}


def _whole(row: Mapping[str, Any], name: str, lowest: int = 0) -> int:
    value = _number(row, name)
    if not float(value).is_integer() or value < lowest:
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
