"""One video file of a LeRobot dataset: where its frames are, and the frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from lewm_training.data import EpisodeError
from lewm_training.data.checks import refuse_lfs_pointer
from lewm_training.data.formats.lerobot_layout import FRAME_TOLERANCE
from lewm_training.data.formats.lerobot_tables import short


class Video:
    """A video file with the time stamps of all its frames, which are read without decoding any.

    Raises:
        EpisodeError: the file is not there, is no video or cannot be read.
        DatasetError: the file is a Git LFS pointer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not os.path.isfile(path):  # unlike Path.is_file, also of a name too long
            raise EpisodeError(f"{short(path)}: no such file")
        refuse_lfs_pointer(path)
        with self._open() as (container, stream):
            packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
            if any(packet.pts is None for packet in packets):
                raise EpisodeError(f"{path}: has frames without a time stamp")
            self._stamps = np.sort(np.array([packet.pts for packet in packets], dtype=np.int64))
            self._times_s = self._stamps * float(stream.time_base or 0)
        if np.any(np.diff(self._stamps) == 0):
            raise EpisodeError(f"{path}: has two frames at the same time")

    @property
    def frame_count(self) -> int:
        """How many frames there are."""
        return len(self._stamps)

    def find(self, begin_s: float, length: int, fps: float) -> int:
        """The number of the first of `length` frames from `begin_s` on, which are one control step apart.

        Raises:
            EpisodeError: frames are missing, or counting them and reading their times lead to different ones.
        """
        first = round(begin_s * fps)
        times_s = self._times_s[first : first + length]
        expected_s = begin_s + np.arange(len(times_s)) / fps
        astray = np.flatnonzero(np.abs(times_s - expected_s) * fps > FRAME_TOLERANCE)
        if len(astray):
            row = int(astray[0])
            raise EpisodeError(
                f"frame {first + row} of {self.path} is at {times_s[row]:.6g} s, expected {expected_s[row]:.6g} s "
                f"(the video runs at {self._rate_hz():.4g} Hz, fps is {fps:.4g})",
                row,
            )
        if len(times_s) < length:
            reason = f"{self.path} has {len(self._times_s)} frames, the episode needs {first} to {first + length - 1},"
            raise EpisodeError(reason, len(times_s))
        return first

    def frames(self, first: int, length: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Row and RGB frame (height, width, 3) of `length` frames from number `first` on.

        Raises:
            EpisodeError: a frame cannot be decoded.
        """
        wanted = {int(stamp): row for row, stamp in enumerate(self._stamps[first : first + length])}
        with self._open() as (container, stream):
            container.seek(int(self._stamps[first]), stream=stream)
            for frame in container.decode(stream):
                row = wanted.pop(round(frame.time / stream.time_base), None) if frame.pts is not None else None
                if row is not None:
                    if frame.is_corrupt:
                        raise EpisodeError(f"{self.path} cannot be decoded (the frame is damaged)", row)
                    yield row, frame.to_ndarray(format="rgb24")
                if not wanted:
                    return

    def _rate_hz(self) -> float:
        return (len(self._times_s) - 1) / max(self._times_s[-1] - self._times_s[0], 1e-9)

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise EpisodeError(f"{self.path}: has no video")
                yield container, container.streams.video[0]
        except EpisodeError:
            raise
        except (OSError, ValueError, MemoryError, av.FFmpegError) as error:
            raise EpisodeError(f"{self.path} cannot be decoded ({short(error)})") from None
