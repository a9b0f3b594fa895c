"""Images between processes: the camera and the listener of the benchmarks, and the Fast DDS profile."""

from __future__ import annotations

import importlib.util
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from ros_processes import ROOT, Probe
from sensor_msgs.msg import Image

from lewm_ros.nodes.qos import NEWEST_FRAME
from lewm_ros.observation.images import image_to_rgb
from lewm_ros.observation.stamps import stamp_to_ns
from lewm_training.bench.camera import PROFILE_VARIABLE, STREAMS, transport_environment, watch_camera

PROFILE = ROOT / "config/fastdds.xml"
SPACE = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
RAW_FRAME_BYTES = 640 * 480 * 3


def test_the_profile_gives_shared_memory_for_many_frames_to_every_participant() -> None:
    root = ET.parse(PROFILE).getroot()
    transports = {
        transport.findtext(f"{SPACE}transport_id"): transport for transport in root.iter(f"{SPACE}transport_descriptor")
    }
    shared = transports["shared_memory"]
    assert shared.findtext(f"{SPACE}type") == "SHM"
    assert int(shared.findtext(f"{SPACE}segment_size", "0")) >= 30 * RAW_FRAME_BYTES
    # A frame is sent in fragments of 64 KB.
    assert int(shared.findtext(f"{SPACE}port_queue_capacity", "0")) >= 30 * RAW_FRAME_BYTES // 65000
    participant = root.find(f"{SPACE}participant")
    assert participant is not None
    assert participant.get("is_default_profile") == "true"
    used = {transport.text for transport in participant.iter(f"{SPACE}transport_id")}
    assert used == set(transports), "UDP too: for discovery and for other hosts"


def test_settings_do_not_inherit_what_the_shell_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "/elsewhere.xml")
    assert PROFILE_VARIABLE not in transport_environment("defaults")
    assert transport_environment("profile")[PROFILE_VARIABLE] == str(PROFILE)
    assert transport_environment("large_data")["FASTDDS_BUILTIN_TRANSPORTS"] == "LARGE_DATA"


@pytest.mark.parametrize(("stream", "reliable"), [("raw reliable", True), ("jpeg", False)])
def test_a_listener_writes_down_what_the_camera_sends(tmp_path: Path, stream: str, reliable: bool) -> None:
    report = watch_camera(transport_environment("profile"), tmp_path, STREAMS[stream], frames=10, rate_hz=20.0)
    arrived = len(report["latencies_s"])
    assert arrived == 10 if reliable else 0 < arrived <= 10
    assert 0.0 < np.median(report["latencies_s"]) < 0.5


def test_the_camera_moves_and_stamps_its_frames(tmp_path: Path) -> None:
    probe = Probe()
    frames: list[Image] = probe.listen(Image, "image", NEWEST_FRAME)
    try:
        camera = [
            sys.executable,
            "-m",
            "lewm_ros.nodes.tools.camera",
            "--width",
            "64",
            "--height",
            "48",
            "--frames",
            "5",
        ]
        process = probe.processes.start([*camera, "--encoding", "bgr8", "--rate-hz", "50"])
        probe.wait(lambda: len(frames) >= 2, "two frames")
        assert process.wait(30) == 0
        probe.processes.running.remove(process)
    finally:
        probe.processes.interrupt()
        probe.close()
    first, second = (image_to_rgb(frame) for frame in frames[:2])
    assert first.shape == (48, 64, 3)
    assert np.any(first != second)
    assert stamp_to_ns(frames[0].header.stamp) < stamp_to_ns(frames[1].header.stamp)


def launch_module() -> ModuleType:
    specification = importlib.util.spec_from_file_location("lewm_launch", ROOT / "launch/lewm.launch.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_launch_argument_sets_the_variable(tmp_path: Path) -> None:
    pytest.importorskip("launch_ros", reason="launch and launch_ros come with a ROS 2 installation; no wheel has them")
    from launch import LaunchContext

    def variable(argument: str) -> str | None:
        context = LaunchContext()
        context.launch_configurations["fastdds_profile"] = argument
        for action in launch_module().use_fastdds_profile(context):
            action.execute(context)
        return context.environment.get(PROFILE_VARIABLE)

    before = os.environ.pop(PROFILE_VARIABLE, None)
    try:
        assert variable("") is None
        assert variable(str(PROFILE)) == str(PROFILE)
        with pytest.raises(FileNotFoundError, match=r"nowhere\.xml does not exist"):
            variable(str(tmp_path / "nowhere.xml"))
    finally:
        os.environ.pop(PROFILE_VARIABLE, None)
        if before is not None:
            os.environ[PROFILE_VARIABLE] = before
