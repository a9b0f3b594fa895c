"""`lewm demo` and `lewm eval --transport ros`: the three nodes as processes over DDS, a tiny random checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import joint_delta_space, random_model, small_model_config

from lewm_ros.config import FamiliarityConfig
from lewm_ros.environments.panda.actions import panda_space
from lewm_ros.environments.panda.environment import FINGER
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lewm_ros.model.familiarity import Familiarity
from lewm_ros.observation.input_spec import CameraSpec, InputSpec, VectorSpec
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.arm import PANDA
from lewm_training.__main__ import main
from lewm_training.judge.goals import drive_goals
from lewm_training.judge.processes import ProcessError, planner_config

pytest.importorskip("rclpy", reason="no ROS 2: neither sourced nor installed with the extra 'ros'")


def test_the_demo_leaves_pictures_a_plot_and_a_video(
    checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--checkpoint", str(checkpoint_path), "--goals", "1", "--out", str(tmp_path)]) == 0
    assert "goal 1/1" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "goal_1.png")) is not None
    assert cv2.imread(str(tmp_path / "run.png")) is not None
    with av.open(str(tmp_path / "run.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert video.streams.video[0].codec_context.name == "h264"
    assert 30 <= len(frames) <= 80  # six seconds at ten frames per second, fewer if the machine was busy
    assert frames[0].shape == (536, 720, 3)  # the camera, the goal beside it, and a caption below


def test_camera_rate_and_budget_are_the_checkpoints(tmp_path: Path) -> None:
    """A random tiny checkpoint with a camera and a rate that are not the simulator's own; a slower one is below."""
    image_size, control_hz = 48, 40.0
    config = small_model_config()
    config = replace(config, encoder=replace(config.encoder, image_size=image_size))
    checkpoint = Checkpoint(LeWorldModel(config).eval(), replace(joint_delta_space(), control_hz=control_hz))
    path = save_checkpoint(checkpoint, tmp_path / "other")
    search = PlannerConfig(horizon=3, samples=2, iterations=1, elites=1, knots_per_block=1, precision="fp32")
    (goal,) = drive_goals(str(path), "reach", 1, 0, search, record=tmp_path)
    assert goal["trace"]["time_s"][-1] == pytest.approx(6.0, abs=0.1)
    assert goal["plan_rate_hz"] > 0.0
    assert 3.0 * control_hz < goal["cycles"] < 6.5 * control_hz, "six seconds, fewer if the machine was busy"
    assert goal["closest_distance_m"] <= min(goal["start_distance_m"], *goal["trace"]["distance_m"])
    with np.load(tmp_path / "goal_000.npz") as film:
        assert film["frames"].shape[1:] == film["goal"].shape == (1, image_size, image_size, 3)


def test_two_cameras_joints_and_a_gripper_go_round_the_loop(tmp_path: Path) -> None:
    space = replace(panda_space("joint_delta", 10.0, gripper=True), action_block=5)
    vectors = (("proprio", PANDA.joint_names), ("gripper", (FINGER,)))
    inputs = InputSpec(
        tuple(CameraSpec(name, 32) for name in ("scene", "wrist")),
        tuple(VectorSpec(name, parts, (0.0,) * len(parts), (1.0,) * len(parts)) for name, parts in vectors),
    )
    model = LeWorldModel(replace(small_model_config(), action_dim=space.block_dim), inputs).eval()
    assert (model.tokens, model.goal_tokens) == (3, (0, 1)), "a token per camera, and one of the vectors"
    path = save_checkpoint(Checkpoint(model, space), tmp_path / "two")
    search = PlannerConfig(horizon=3, samples=2, iterations=1, elites=1, knots_per_block=1, precision="fp32")
    (goal,) = drive_goals(str(path), "pick_place", 1, 0, search, record=tmp_path)
    assert goal["trace"]["time_s"][-1] == pytest.approx(10.0, abs=0.1)
    assert goal["plan_rate_hz"] > 0.0
    assert 50 < goal["cycles"] < 105, "ten seconds at 10 Hz, fewer if the machine was busy"
    with np.load(tmp_path / "goal_000.npz") as film:
        assert film["frames"].shape[1:] == film["goal"].shape == (2, 32, 32, 3)
        assert np.ptp(film["goal"], axis=(1, 2)).min() > 50, "there is something to see on both"


def test_a_goal_that_the_planner_refuses_counts_as_one_without_a_plan(tmp_path: Path) -> None:
    familiarity = Familiarity(FamiliarityConfig(), 16)
    familiarity.mean.fill_(1e3)  # where no view's embedding lies
    checkpoint = Checkpoint(random_model(), joint_delta_space(), familiarity=familiarity)
    search = PlannerConfig(horizon=3, samples=2, iterations=1, elites=1, knots_per_block=1, precision="fp32")
    path = save_checkpoint(checkpoint, tmp_path / "particular")
    goals = list(drive_goals(str(path), "reach", 2, 0, search))
    assert [goal["index"] for goal in goals] == [0, 1]
    for goal in goals:
        assert goal["plan_latency_p50_s"] is None and goal["cycles"] == 0 and not goal["success"]
        assert goal["final_distance_m"] == pytest.approx(goal["start_distance_m"], abs=1e-3), "the arm stays"


def test_a_node_that_cannot_start_is_said_at_once(checkpoint_path: Path) -> None:
    slow = replace(load_checkpoint(checkpoint_path).action_space, control_hz=0.01)
    path = save_checkpoint(Checkpoint(random_model(), slow), checkpoint_path.with_name("slow"))
    with pytest.raises(ProcessError, match=r"sim_node: .*tick_hz out of range") as caught:
        list(drive_goals(str(path), "reach", 1, 0, planner_config()))
    assert "in vain" not in str(caught.value), "nobody waited for a service of the node"


def test_eval_over_ros_reports_rates_and_the_same_start_as_the_direct_loop(
    checkpoint_path: Path, tmp_path: Path
) -> None:
    search = tmp_path / "search.yaml"
    search.write_text("{horizon: 3, samples: 2, iterations: 1, elites: 1}")
    common = ["--checkpoint", str(checkpoint_path), "--episodes", "1", "--seed", "7", "--planner", str(search)]
    reports = {}
    for transport in ("direct", "ros"):
        path = tmp_path / f"{transport}.json"
        assert main(["eval", *common, "--transport", transport, "--json", str(path)]) == 0
        reports[transport] = json.loads(path.read_text())
    # Where the environment waits for the planner, there is no timing but the one that was asked for; and only there
    # something can come between, or goals be found on the way.
    asked_for = {"replan_steps", "delay_steps", "plans_slower_than_delay"}
    asked_for |= {"actor", "cost_variation", "interference", "subgoals"}
    assert reports["ros"].keys() >= reports["direct"].keys() - asked_for
    assert reports["ros"]["unit"] == "m"
    start = [report["start_distance_m"]["median"] for report in reports.values()]
    assert start[0] == pytest.approx(start[1], abs=1e-3)
    assert reports["ros"]["cycles"] > 0
    assert reports["ros"]["control_hz"] == pytest.approx(20.0, rel=0.2)
