"""The simulated arm, its tasks, the scripted experts, and the recording of episodes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from lewm_ros.config import ConfigError
from lewm_ros.environments.panda import SimArm
from lewm_ros.environments.panda.actions import apply_action, panda_space
from lewm_ros.environments.panda.arm import GRIPPER_OPEN_M, WORKSPACE_M
from lewm_ros.environments.panda.cube_tasks import cube_on_table, hand_down, wrap, yaw_of
from lewm_ros.environments.panda.tasks import TASKS, make_task
from lewm_ros.robot.arm import PANDA
from lewm_training.collect.recording import CollectConfig, collect, record_episode
from lewm_training.collect.workers import over_processes
from lewm_training.data import EpisodeDataset

CUBE_TASKS = ("push", "pick_place")
STEPS = 8
JOINTS, TWISTS = panda_space("joint_delta", 20.0, gripper=False), panda_space("ee_delta", 20.0, gripper=True)


@pytest.fixture(scope="module")
def arm() -> Iterator[SimArm]:
    """An arm with a cube beside it; each test resets it."""
    arm = SimArm(cube=True)
    yield arm
    arm.close()


def settle(arm: SimArm, steps: int = 30) -> None:
    target = arm.target_rad
    for _ in range(steps):
        arm.step(target)


# The arm


def test_servo_reaches_its_target(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    target = PANDA.home_rad + np.array([0.3, -0.2, 0.2, 0.3, -0.4, 0.3, 0.5])
    for fraction in np.linspace(0.05, 1.0, 20):
        arm.step(PANDA.home_rad + fraction * (target - PANDA.home_rad))
    settle(arm)
    np.testing.assert_allclose(arm.positions_rad, target, atol=0.005)
    np.testing.assert_allclose(arm.velocities_rad_s, 0.0, atol=0.01)


def test_a_step_is_dynamics_not_a_teleport(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    arm.step(PANDA.home_rad + 0.05)
    moved = arm.positions_rad - PANDA.home_rad
    assert arm.time_s == pytest.approx(1.0 / arm.control_hz)
    assert np.all(moved > 0.0)
    assert np.all(moved < 0.05)
    assert np.all(arm.velocities_rad_s > 0.0)


@pytest.mark.parametrize("control_hz", [30.0, 29.97, 7.0, 20.0, 600.0])
def test_a_step_takes_exactly_its_time_at_any_rate(control_hz: float) -> None:
    arm = SimArm(control_hz, image_size=16)
    for _ in range(10):
        arm.step(arm.target_rad)
    assert arm.time_s == pytest.approx(10.0 / control_hz, rel=1e-9)
    # Physics never takes longer steps than those that the scene was made for.
    assert arm.model.opt.timestep <= 0.0025 + 1e-12


def test_rates_that_divide_400_hz_keep_the_steps_of_the_scene() -> None:
    assert [SimArm(control_hz).model.opt.timestep for control_hz in (10.0, 20.0, 40.0, 400.0)] == [0.0025] * 4


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_commands_stay_inside_the_joint_limits(arm: SimArm, sign: float) -> None:
    arm.reset(PANDA.home_rad)
    arm.step(PANDA.home_rad + sign * 10.0)
    np.testing.assert_allclose(arm.target_rad, PANDA.upper_rad if sign > 0.0 else PANDA.lower_rad)


def test_zero_position_is_where_the_dh_parameters_put_it(arm: SimArm) -> None:
    # Stretched upwards: the elbow's offsets cancel, the flange hangs down 88 mm in front of the wrist.
    expected = [0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - 0.1034]
    np.testing.assert_allclose(arm.forward_kinematics(np.zeros(7)), expected, atol=1e-3)


def test_ready_position_is_where_the_dh_parameters_put_it(arm: SimArm) -> None:
    # The manufacturer's ready position. In the vertical plane: the upper arm leans back 45 degrees, the forearm is
    # level and 82.5 mm above the elbow joint, the hand points down.
    half = math.sqrt(0.5)
    elbow_x, elbow_z = half * (0.0825 - 0.316), 0.333 + half * (0.0825 + 0.316)
    expected = [elbow_x + 0.384 + 0.088, 0.0, elbow_z + 0.0825 - 0.107 - 0.1034]
    ready = np.pi * np.array([0.0, -1 / 4, 0.0, -3 / 4, 0.0, 1 / 2, 1 / 4])
    np.testing.assert_allclose(arm.forward_kinematics(ready), expected, atol=1e-3)
    # Turning joint 1 turns everything about the vertical.
    ready[0] = np.pi / 2
    np.testing.assert_allclose(arm.forward_kinematics(ready), [0.0, expected[0], expected[2]], atol=1e-3)


def test_forward_kinematics_leaves_the_arm_alone_and_agrees_with_it(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    arm.forward_kinematics(np.zeros(7))
    np.testing.assert_array_equal(arm.positions_rad, PANDA.home_rad)
    np.testing.assert_allclose(arm.forward_kinematics(PANDA.home_rad), arm.tcp_position_m)


@pytest.mark.parametrize("axis", range(6))
def test_a_twist_moves_the_hand_by_that_much(arm: SimArm, axis: int) -> None:
    arm.reset(PANDA.home_rad)
    start_m, start = arm.tcp_position_m, arm.tcp_quaternion
    step = 0.01 if axis < 3 else 0.04
    for _ in range(5):
        apply_action(arm, TWISTS, np.r_[step * np.eye(6)[axis], -1.0])
    settle(arm)
    moved = -arm.twist_to(start_m, start, arm.positions_rad)
    np.testing.assert_allclose(moved[:3], 5 * step * np.eye(6)[axis, :3], atol=0.003)
    np.testing.assert_allclose(moved[3:], 5 * step * np.eye(6)[axis, 3:], atol=0.02)


def test_solve_pose_finds_a_pose_or_says_that_it_cannot(arm: SimArm) -> None:
    position, quaternion = np.array([0.5, 0.1, 0.2]), hand_down(0.3)
    found = arm.solve_pose(position, quaternion, PANDA.home_rad)
    np.testing.assert_allclose(arm.twist_to(position, quaternion, found), 0.0, atol=1e-3)
    with pytest.raises(ValueError, match="no joint positions"):
        arm.solve_pose(np.array([2.0, 0.0, 0.2]), quaternion, PANDA.home_rad)


def test_is_free_only_in_the_workspace_and_clear_of_the_table(arm: SimArm) -> None:
    def free(position_m: list[float]) -> bool:
        return arm.is_free(arm.solve_pose(np.array(position_m), hand_down(0.0), PANDA.home_rad))

    assert arm.is_free(PANDA.home_rad)
    assert free([0.5, 0.0, 0.1])
    assert not free([0.5, 0.0, WORKSPACE_M[0, 2] - 0.01])
    assert not free([0.5, WORKSPACE_M[1, 1] + 0.05, 0.2])


def test_gripper_opens_at_minus_one_and_closes_at_plus_one(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    for command, opening_m in ((1.0, 0.0), (0.0, GRIPPER_OPEN_M / 2), (-1.0, GRIPPER_OPEN_M)):
        for _ in range(20):
            apply_action(arm, TWISTS, np.r_[np.zeros(6), command])
        assert arm.gripper_m == pytest.approx(opening_m, abs=0.002)


def test_joint_deltas_add_to_the_command(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    for _ in range(3):
        apply_action(arm, JOINTS, np.full(7, 0.02))
    np.testing.assert_allclose(arm.target_rad, PANDA.home_rad + 0.06)


def test_an_unknown_action_space_is_named() -> None:
    with pytest.raises(ConfigError, match="'torque': the simulated Panda acts in joint_delta or ee_delta"):
        panda_space("torque", 20.0, gripper=False)


# Cameras


def test_every_camera_has_its_frame() -> None:
    arm = SimArm(image_size=64, cameras=("scene", "wrist"))
    frames = arm.frames()
    arm.close()
    assert list(frames) == ["scene", "wrist"]
    for frame in frames.values():
        assert (frame.shape, frame.dtype) == ((64, 64, 3), np.uint8)
        assert frame.std() > 10.0
    assert np.abs(frames["scene"].astype(int) - frames["wrist"]).max() > 50


def test_turning_joint_7_alone_is_visible(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    before = arm.frames()["scene"].astype(int)
    arm.reset(PANDA.home_rad + np.array([0, 0, 0, 0, 0, 0, 0.3]))
    changed = np.abs(arm.frames()["scene"] - before).max(axis=2) > 30
    assert changed.sum() >= 50


def test_closing_the_gripper_is_visible(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad)
    before = arm.frames()["scene"].astype(int)
    arm.reset(PANDA.home_rad, gripper_m=0.0)
    assert (np.abs(arm.frames()["scene"] - before).max(axis=2) > 30).sum() >= 4


# Tasks


@pytest.mark.parametrize("name", TASKS)
def test_problems_start_unsolved_and_end_at_distance_zero(arm: SimArm, name: str) -> None:
    task, rng = make_task(name), np.random.default_rng(1)
    for _ in range(20):
        problem = task.sample(arm, rng)
        task.start(arm, problem)
        assert task.distance_m(arm, problem) > 2.0 * task.success_m
        task.show_goal(arm, problem)
        assert task.distance_m(arm, problem) == pytest.approx(0.0, abs=1e-6)
        np.testing.assert_allclose(arm.tcp_position_m, problem.goal_position_m, atol=1e-3)


@pytest.mark.parametrize("name", TASKS)
def test_problems_follow_from_the_seed(arm: SimArm, name: str) -> None:
    first, again, other = (make_task(name).sample(arm, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for field, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(again, field))
    assert not np.array_equal(first.goal_position_m, other.goal_position_m)


@pytest.mark.parametrize("name", TASKS)
def test_the_goal_image_shows_another_state(arm: SimArm, name: str) -> None:
    task = make_task(name)
    problem = task.sample(arm, np.random.default_rng(5))
    task.start(arm, problem)
    start = arm.frames()["scene"].astype(int)
    task.show_goal(arm, problem)
    assert (np.abs(arm.frames()["scene"] - start).max(axis=2) > 30).sum() >= 200


@pytest.mark.parametrize("name", CUBE_TASKS)
def test_goals_are_at_rest_and_show_the_cube(arm: SimArm, name: str) -> None:
    task, rng = make_task(name), np.random.default_rng(6)
    for _ in range(5):
        problem = task.sample(arm, rng)
        task.show_goal(arm, problem)
        red, green, blue = np.moveaxis(arm.frames()["scene"].astype(int), 2, 0)
        assert ((green > 1.5 * red) & (green > 1.5 * blue)).sum() >= 12
        settle(arm, 10)
        assert task.distance_m(arm, problem) < 0.001


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="'juggle' is unknown; known: reach, push, pick_place"):
        make_task("juggle")


def test_yaw_survives_the_cubes_pose() -> None:
    for yaw in (-1.2, 0.0, 0.7):
        assert yaw_of(cube_on_table(np.zeros(2), yaw)) == pytest.approx(yaw)


def test_wrap_takes_the_equivalent_nearest_to_zero() -> None:
    assert wrap(math.radians(100.0), math.pi / 2) == pytest.approx(math.radians(10.0))
    assert wrap(math.radians(-170.0), math.pi) == pytest.approx(math.radians(10.0))


# Recorded episodes


def config(task: str, episodes: int = 2, seed: int = 0) -> CollectConfig:
    return CollectConfig(task, episodes, STEPS, image_size=32, seed=seed)


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_follows_from_seed_and_number(task: str) -> None:
    first, again, other = (record_episode(config(task), number) for number in (2, 2, 3))
    assert first.notes["number"] == 2
    cameras = ("pixels_scene", "pixels_wrist") if task in CUBE_TASKS else ("pixels",)
    assert all(first.columns[camera].shape == (STEPS, 32, 32, 3) for camera in cameras)
    for name, column in first.columns.items():
        assert len(column) == STEPS
        np.testing.assert_array_equal(column, again.columns[name])
    assert not np.array_equal(first.columns["action"], other.columns["action"])


@pytest.mark.parametrize("task", TASKS)
def test_actions_are_within_their_bounds_and_move_the_arm(task: str) -> None:
    columns, notes, _ = record_episode(config(task), 0)
    high = (TWISTS if task in CUBE_TASKS else JOINTS).high
    assert np.all(np.abs(columns["action"]) <= np.float32(high))
    if task in CUBE_TASKS:
        assert set(columns) >= {"object_pose", "object_goal"}
        assert notes["success"] in (False, True)
        # What was asked of the hand is, servo lag aside, the way that it went.
        asked, went = columns["action"][:-1, :3].sum(0), np.ptp(columns["ee_position"][[0, -1]], axis=0)
        assert np.abs(np.abs(asked) - went).max() < 0.04


def test_collect_writes_one_dataset(tmp_path: Path) -> None:
    out = collect(config("push"), tmp_path / "push.h5", over_processes(1))
    dataset = EpisodeDataset.open(out)
    assert dataset.lengths.tolist() == [STEPS, STEPS]
    assert dataset.offsets.tolist() == [0, STEPS]
    assert dataset.pixels.shape == (2 * STEPS, 32, 32, 3)
    assert {name: column.shape[1:] for name, column in dataset.columns.items()} == {
        "action": (7,),
        "intended_action": (7,),
        "proprio": (7,),
        "joint_velocity": (7,),
        "gripper": (1,),
        "ee_position": (3,),
        "ee_quaternion": (4,),
        "object_pose": (7,),
        "contact": (1,),
        "object_goal": (7,),
    }
    assert all(len(column) == 2 * STEPS for column in dataset.columns.values())
    assert dataset.spec.action_space == TWISTS
    assert dataset.spec.vectors["proprio"] == PANDA.joint_names
    assert dataset.meta["config"]["steps"] == STEPS
    assert [note["number"] for note in dataset.meta["episodes"]] == [0, 1]
    assert list(tmp_path.iterdir()) == [out]
    columns = record_episode(config("push"), 1).columns
    np.testing.assert_array_equal(dataset.pixels[STEPS:], columns["pixels_scene"])
    np.testing.assert_array_equal(dataset.columns["action"][STEPS:], columns["action"])


def test_an_interrupted_collect_keeps_what_was_finished(tmp_path: Path) -> None:
    out, episodes = tmp_path / "reach.h5", 200
    command = f"collect --task reach --episodes {episodes} --steps {STEPS} --image-size 32 --processes 1 --out {out}"
    call = f"import sys; from lewm_training.__main__ import main; sys.exit(main({command.split()!r}))"
    process = subprocess.Popen([sys.executable, "-c", call], stderr=subprocess.PIPE, start_new_session=True, text=True)
    first = tmp_path / "reach.h5.parts" / "000000.h5"
    try:
        while not first.exists() and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, messages = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, messages
    assert "Traceback" not in messages
    assert not out.exists()
    finished = len(list(first.parent.glob("*.h5")))
    assert 1 <= finished < episodes

    # A mark in the finished episode shows that it is not recorded again.
    with h5py.File(first, "r+") as file:
        file["gripper"][:] = 7.0
    dataset = EpisodeDataset.open(collect(config("reach", finished + 1), out, over_processes(1)))
    assert len(dataset.lengths) == finished + 1
    assert np.all(dataset.columns["gripper"][:STEPS] == 7.0)
    assert not first.parent.exists()
