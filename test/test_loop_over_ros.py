"""`lewm demo` and `lewm eval --transport ros`: the three nodes as processes over DDS, a tiny random checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from lewm_training.__main__ import main

pytest.importorskip("rclpy", reason="no ROS 2: neither sourced nor installed with the extra 'ros'")


def test_the_demo_leaves_pictures_a_plot_and_a_video(
    checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--checkpoint", str(checkpoint_path), "--goals", "1", "--out", str(tmp_path)]) == 0
    assert "goal 1/1" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "goal_1.png")) is not None
    assert cv2.imread(str(tmp_path / "run.png")) is not None
    video = cv2.VideoCapture(str(tmp_path / "run.mp4"))
    frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    assert 30 <= frames <= 80  # six seconds at ten frames per second, fewer if the machine was busy
    read, frame = video.read()
    assert read
    assert frame.shape == (384, 768, 3)  # camera and goal side by side, four times 96 pixels each


def test_eval_over_ros_reports_rates_and_the_same_start_as_the_direct_loop(
    checkpoint_path: Path, tmp_path: Path
) -> None:
    search = tmp_path / "search.yaml"
    search.write_text("{horizon: 1, samples: 2, iterations: 1, elites: 1}")
    common = ["--checkpoint", str(checkpoint_path), "--episodes", "1", "--seed", "7", "--planner", str(search)]
    reports = {}
    for transport in ("direct", "ros"):
        path = tmp_path / f"{transport}.json"
        assert main(["eval", *common, "--transport", transport, "--json", str(path)]) == 0
        reports[transport] = json.loads(path.read_text())
    assert reports["ros"].keys() >= reports["direct"].keys()
    start = [report["start_distance_m"]["median"] for report in reports.values()]
    assert start[0] == pytest.approx(start[1], abs=1e-3)
    assert reports["ros"]["cycles"] > 0
    assert reports["ros"]["control_hz"] == pytest.approx(20.0, rel=0.2)
