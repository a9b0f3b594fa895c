"""A camera that is not there and somebody who listens, as processes: what arrives of its frames, and when."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from lewm_ros.config import ConfigError
from lewm_training.judge.processes import ProcessError, config_folder, last_words, ros_environment, start, stop

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
TRANSPORTS_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
SETTINGS = ("defaults", "profile", "large_data")
"""Fast DDS as it comes, with the shipped profile, and with TCP for what is large."""
TIMEOUT_S = 120.0
QUIET_S = 10.0
"""The listener ends when nothing has come for less than that."""


class Stream(NamedTuple):
    """Frames as a camera sends them; compressed ones are JPEGs."""

    width: int = 640
    height: int = 480
    encoding: str = "rgb8"
    reliable: bool = False
    compressed: bool = False

    def flags(self) -> list[str]:
        """What camera and listener have to agree on."""
        return [f"--{name}" for name in ("reliable", "compressed") if getattr(self, name)]


STREAMS = {
    "raw": Stream(),
    "raw reliable": Stream(reliable=True),
    "raw 224": Stream(width=224, height=224),
    "jpeg": Stream(compressed=True),
}


def shipped_profile() -> Path:
    """The Fast DDS profile that comes with the package.

    Raises:
        ConfigError: it is not where the parameter files are.
    """
    path = config_folder() / "fastdds.xml"
    if not path.is_file():
        raise ConfigError(f"{path}: not found")
    return path


def transport_environment(setting: str) -> dict[str, str]:
    """The environment of ROS processes that use one of the `SETTINGS`."""
    environment = ros_environment()
    for name in (PROFILE_VARIABLE, TRANSPORTS_VARIABLE):
        environment.pop(name, None)
    if setting == "profile":
        environment[PROFILE_VARIABLE] = str(shipped_profile())
    elif setting == "large_data":
        environment[TRANSPORTS_VARIABLE] = "LARGE_DATA"
    return environment


def watch_camera(
    environment: dict[str, str],
    folder: Path,
    stream: Stream,
    frames: int,
    rate_hz: float,
    listen_to: str | None = None,
) -> dict[str, Any]:
    """Send frames, and listen until nothing comes any more.

    Args:
        environment: of both processes.
        folder: for what they say and report.
        stream: of the camera.
        frames: how many.
        rate_hz: how many per second.
        listen_to: another topic of images than the camera's.

    Returns:
        the report of `lewm_ros.nodes.tools.image_listener`.

    Raises:
        ProcessError: one of them ended without a report.
    """
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    listener = [sys.executable, "-m", "lewm_ros.nodes.tools.image_listener", "--out", str(report)]
    listener += ["--ros-args", "-r", f"image:={listen_to}"] if listen_to else stream.flags()
    camera = [sys.executable, "-m", "lewm_ros.nodes.tools.camera", "--frames", str(frames), "--rate-hz", str(rate_hz)]
    camera += ["--width", str(stream.width), "--height", str(stream.height), "--encoding", stream.encoding]
    with contextlib.ExitStack() as at_end:
        listening = start(listener, environment, folder / "listener.log")
        at_end.callback(stop, listening)
        sending = start([*camera, *stream.flags()], environment, folder / "camera.log")
        at_end.callback(stop, sending)
        if sending.wait(TIMEOUT_S + frames / rate_hz):
            raise ProcessError(last_words(folder))
        # One that has heard nothing at all waits for longer; it writes when it is stopped.
        with contextlib.suppress(subprocess.TimeoutExpired):
            listening.wait(QUIET_S)
    if not report.exists():
        raise ProcessError(last_words(folder))
    return json.loads(report.read_text(encoding="utf-8"))
