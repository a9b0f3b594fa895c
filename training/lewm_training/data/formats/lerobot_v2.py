"""LeRobot v2 folders (v2.0, v2.1) as the reader of v3 takes them: a file per episode, listed in JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lewm_training.data import EpisodeError

VERSIONS = ("v2.0", "v2.1")
EPISODES_V2 = "meta/episodes.jsonl"
CHUNK_SIZE = 1000
"""Episodes per folder, where `meta/info.json` does not say it."""

FIELDS = {"{episode_chunk": "{chunk_index", "{episode_index": "{file_index"}


def as_v3(info: Mapping[str, Any]) -> dict[str, Any]:
    """What `meta/info.json` says, with the names of files in v3's words."""
    renamed = dict(info)
    for name in ("data_path", "video_path"):
        for old, new in FIELDS.items():
            if isinstance(renamed.get(name), str):
                renamed[name] = renamed[name].replace(old, new)
    return renamed


def read_episodes(path: Path, info: Mapping[str, Any], cameras: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that `meta/episodes` of v3 would have.

    Args:
        path: the folder.
        info: what its `meta/info.json` says.
        cameras: whose frames are taken from videos.

    Raises:
        EpisodeError: the list cannot be read, or is empty.
    """
    try:
        lines = (path / EPISODES_V2).read_text(encoding="utf-8").splitlines()
        listed = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise EpisodeError(f"{EPISODES_V2} cannot be read ({' '.join(str(error).split())})") from None
    if not listed or not all(isinstance(row, dict) for row in listed):
        raise EpisodeError(f"{EPISODES_V2} must hold an object per line, and at least one")
    size = info.get("chunks_size", CHUNK_SIZE)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise EpisodeError(f"chunks_size is {size!r}, expected a whole number above 0,")
    return [_row(row, size, info["fps"], cameras) for row in listed]


def _row(row: Mapping[str, Any], chunk_size: int, fps: float, cameras: Sequence[str]) -> dict[str, Any]:
    number, length = row.get("episode_index"), row.get("length")
    place = {"chunk_index": number // chunk_size if isinstance(number, int) else None, "file_index": number}
    video = place | {"from_timestamp": 0.0, "to_timestamp": length / fps if isinstance(length, int) else None}
    return {
        "episode_index": number,
        "length": length,
        "tasks": row.get("tasks"),
        **{f"data/{name}": value for name, value in place.items()},
        **{f"videos/{camera}/{name}": value for camera in cameras for name, value in video.items()},
    }
