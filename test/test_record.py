"""record.launch.py records what the example of the importer reads. Run for real where the launch packages are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lewm_ros.config import read_yaml

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch" / "record.launch.py"

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

arguments = [argument.split(":=") for argument in sys.argv[2:]]
service = LaunchService()
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""

RECORDER = """#!/bin/sh
printf '%s\\n' "$@" > "$RECORDER_ARGUMENTS"
"""
"""In place of `ros2`, whose `bag` no wheel has: notes how it was called."""


def test_its_topics_are_those_of_the_example() -> None:
    (topics,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(LAUNCH.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TOPICS"
    )
    example = read_yaml(ROOT / "config" / "rosbag.yaml")
    assert {name: topics[name][0] for name in topics if name in example} == {
        name: example[name] for name in ("image", "joint_states", "command", "gripper")
    }


CHOSEN = {
    "bag": "pick",
    "image": "/camera/image/compressed",
    "command": "/commands",
    "extra": "/tf /clock",
    "use_sim_time": "true",
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "--topics /image /joint_states"),
        (CHOSEN, "--output pick --use-sim-time --topics /camera/image/compressed /joint_states /commands /tf /clock"),
    ],
)
def test_it_starts_the_recorder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str], expected: str
) -> None:
    pytest.importorskip("launch_ros", reason="launch comes with a ROS 2 installation; no wheel has it")
    recorder, called = tmp_path / "ros2", tmp_path / "arguments"
    recorder.write_text(RECORDER, encoding="utf-8")
    recorder.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("RECORDER_ARGUMENTS", str(called))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    command = [sys.executable, "-c", RUN, str(LAUNCH), *(f"{name}:={value}" for name, value in arguments.items())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert called.read_text(encoding="utf-8").split("\n")[:-1] == [
        "bag",
        "record",
        "--storage",
        "mcap",
        *expected.split(),
    ]
