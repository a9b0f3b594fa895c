"""Videos: what was written is what is seen, in the format that browsers play."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from lewm_training.judge.video import write_video


def test_frames_come_back_in_order_at_their_rate_as_h264(tmp_path: Path) -> None:
    # Of red frame k, the left half is 20 k bright.
    frames = [np.zeros((32, 64, 3), np.uint8) for _ in range(8)]
    for k, frame in enumerate(frames):
        frame[:, :32, 0] = 20 * k
    write_video(iter(frames), 12.5, tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
        seen = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
    assert seen[0].shape == (32, 64, 3)
    np.testing.assert_allclose([frame[16, 8, 0] for frame in seen], 20 * np.arange(8), atol=6)
    np.testing.assert_allclose([frame[16, 56, 0] for frame in seen], 0, atol=6)


def test_a_film_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield np.zeros((32, 32, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(frames(), 10.0, tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())
