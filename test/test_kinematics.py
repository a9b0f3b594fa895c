"""Forward kinematics and differential inverse kinematics, against the arm in the simulator."""

from __future__ import annotations

import sys

import mujoco
import numpy as np
import pytest

from lewm_ros.config import ConfigError
from lewm_ros.environments.panda.arm import MJCF, SimArm
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.differential_ik import DifferentialIK, franka_ik
from lewm_ros.robot.kinematics import franka_kinematics, kinematics_from_urdf
from lewm_ros.robot.limits import load_limits
from lewm_ros.robot.rotations import quaternions_of

LIMITS = load_limits("panda")
CONTROL_HZ = 20.0


@pytest.fixture(scope="module")
def arm() -> SimArm:
    return SimArm()


def random_positions(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(PANDA.lower_rad, PANDA.upper_rad, (count, 7))


def test_the_stretched_arm_is_where_its_lengths_put_it() -> None:
    # All joints at 0: 0.333 + 0.316 + 0.384 m up, 0.088 m forward, then the flange (0.107 m) and the tool point down.
    pose = franka_kinematics(tool_m=0.1, tool_yaw_rad=0.0).poses(np.zeros(7))
    np.testing.assert_allclose(pose[:3, 3], [0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - 0.1], atol=1e-12)
    np.testing.assert_allclose(pose[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)


def test_poses_are_the_simulators(arm: SimArm) -> None:
    positions = random_positions(100)
    poses = franka_kinematics().poses(positions.reshape(10, 10, 7)).reshape(100, 4, 4)
    data = mujoco.MjData(arm.model)
    for position, pose in zip(positions, poses, strict=True):
        data.qpos[:7] = position
        mujoco.mj_kinematics(arm.model, data)
        site = data.site("tcp")
        np.testing.assert_allclose(pose[:3, 3], site.xpos, atol=1e-6)
        np.testing.assert_allclose(pose[:3, :3], site.xmat.reshape(3, 3), atol=1e-6)


URDF = """<robot name="three">
  <link name="world"/><link name="base"/><link name="a"/><link name="b"/><link name="bend"/><link name="c"/>
  <link name="tip"/>
  <joint name="mount" type="fixed"><parent link="world"/><child link="base"/><origin xyz="5 5 5"/></joint>
  <joint name="j1" type="revolute"><parent link="base"/><child link="a"/>
    <origin xyz="0 0 0.3" rpy="0.1 0.2 0.3"/><axis xyz="0 0 -1"/></joint>
  <joint name="j2" type="continuous"><parent link="a"/><child link="b"/>
    <origin xyz="0.1 0 0.2" rpy="-1.57 0.4 0"/><axis xyz="0 2 0"/></joint>
  <joint name="elbow" type="fixed"><parent link="b"/><child link="bend"/><origin xyz="0 0.2 0" rpy="0 0 1"/></joint>
  <joint name="j3" type="revolute"><parent link="bend"/><child link="c"/><axis xyz="0.6 0 0.8"/></joint>
  <joint name="tool" type="fixed"><parent link="c"/><child link="tip"/><origin xyz="0.1 0.2 0.3" rpy="0 1 0"/></joint>
</robot>"""


def about(axis: list[float], angle: float) -> np.ndarray:
    """A rotation (4, 4) by Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    pose = np.eye(4)
    pose[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return pose


def at(xyz: list[float], rpy: list[float] | None = None) -> np.ndarray:
    roll, pitch, yaw = rpy or [0.0, 0.0, 0.0]
    pose = about([0, 0, 1], yaw) @ about([0, 1, 0], pitch) @ about([1, 0, 0], roll)
    pose[:3, 3] = xyz
    return pose


def test_a_robot_description_gives_the_chain_from_the_first_joint_to_the_tip() -> None:
    q = np.array([0.3, -0.7, 1.1])
    expected = at([0, 0, 0.3], [0.1, 0.2, 0.3]) @ about([0, 0, -1], q[0])
    expected = expected @ at([0.1, 0, 0.2], [-1.57, 0.4, 0]) @ about([0, 1, 0], q[1])
    expected = expected @ at([0, 0.2, 0], [0, 0, 1]) @ about([0.6, 0, 0.8], q[2]) @ at([0.1, 0.2, 0.3], [0, 1, 0])
    np.testing.assert_allclose(kinematics_from_urdf(URDF, ("j1", "j2", "j3"), "tip").poses(q), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("joints", "tip", "words"),
    [
        (("j1", "j3", "j2"), "tip", "must hang on the joints j1, j3, j2, in this order; on the way to it: j1, j2, j3"),
        (("j1", "j2", "j3"), "b", "on the way to it: j1, j2"),
        (("j1", "j2", "j3"), "nowhere", "link 'nowhere' must hang on .* none of them"),
        ((), "tip", "none of them"),
    ],
)
def test_a_chain_that_does_not_lead_to_the_tip_is_refused(joints: tuple[str, ...], tip: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        kinematics_from_urdf(URDF, joints, tip)


def test_a_joint_without_a_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match="joint 'j1': <axis> must not be zero"):
        kinematics_from_urdf(URDF.replace("0 0 -1", "0 0 0"), ("j1", "j2", "j3"), "tip")
    with pytest.raises(ConfigError, match=r"joint 'j1': <axis> needs 3 finite numbers as xyz, got '0 0'"):
        kinematics_from_urdf(URDF.replace("0 0 -1", "0 0"), ("j1", "j2", "j3"), "tip")


def test_joint_velocities_follow_a_twist() -> None:
    solver, tip = DifferentialIK(MJCF, LIMITS, CONTROL_HZ), franka_kinematics()
    delta = np.array([0.004, 0.003, -0.002, 0.0, 0.0, 0.02])  # 0.1 m/s and 0.4 rad/s about the base's z axis
    positions = PANDA.home_rad
    for _ in range(20):
        velocity = solver.velocities(positions, delta)
        assert np.all(np.abs(velocity) <= LIMITS.velocity_rad_s)
        positions = positions + velocity / CONTROL_HZ
    start, end = tip.poses(PANDA.home_rad), tip.poses(positions)
    np.testing.assert_allclose(end[:3, 3] - start[:3, 3], 20 * delta[:3], atol=1e-3)
    turned = end[:3, :3] @ start[:3, :3].T
    assert np.arctan2(turned[1, 0], turned[0, 0]) == pytest.approx(20 * 0.02, abs=2e-3)


def test_a_twist_that_is_too_fast_is_slowed_to_the_velocity_limits() -> None:
    velocity = DifferentialIK(MJCF, LIMITS, CONTROL_HZ).velocities(PANDA.home_rad, np.array([0.5, 0, 0, 0, 0, 0]))
    share = np.abs(velocity) / LIMITS.velocity_rad_s
    assert share.max() == pytest.approx(1.0, abs=1e-6)


def test_joints_stay_within_their_position_limits() -> None:
    solver = DifferentialIK(MJCF, LIMITS, CONTROL_HZ)
    positions = PANDA.home_rad
    for _ in range(100):
        positions = positions + solver.velocities(positions, np.array([0.02, 0, 0, 0, 0, 0])) / CONTROL_HZ
    assert np.all(positions >= np.array(LIMITS.lower_rad) - 1e-6)
    assert np.all(positions <= np.array(LIMITS.upper_rad) + 1e-6)
    with pytest.raises(ValueError, match="is a joint outside them"):
        solver.velocities(np.full(7, 9.0), np.zeros(6))


def test_joints_of_a_franka_are_known_by_their_names_in_any_order() -> None:
    delta = np.array([[0.004, 0.0, 0.0, 0.0, 0.0, 0.0]])
    there = DifferentialIK(MJCF, LIMITS, CONTROL_HZ).follow(PANDA.home_rad, delta)
    order, fr3 = [6, 5, 4, 3, 2, 1, 0], load_limits("fr3")
    reversed_fr3 = fr3.ordered([fr3.joint_names[joint] for joint in order])
    found = franka_ik(reversed_fr3, CONTROL_HZ).follow(PANDA.home_rad[order], delta)
    np.testing.assert_allclose(found, there[:, order], atol=1e-6)
    with pytest.raises(ConfigError, match=r"knows the joints of panda and fr3 only, not panda_joint1, panda_joint2$"):
        franka_ik(LIMITS.ordered(LIMITS.joint_names[:2]), CONTROL_HZ)


def test_a_motion_that_cannot_be_followed_leaves_the_joints_where_they_are() -> None:
    solver, still = DifferentialIK(MJCF, LIMITS, CONTROL_HZ), np.zeros(6)
    outside = np.full(7, 9.0)
    np.testing.assert_array_equal(solver.follow(outside, still[np.newaxis]), [outside])
    unknown = np.array([still, np.full(6, np.nan), still])
    np.testing.assert_allclose(solver.follow(PANDA.home_rad, unknown), [PANDA.home_rad] * 3, atol=1e-6)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"panda_primitives\.xml: Invalid name 'fr3_joint1'"):
        DifferentialIK(MJCF, load_limits("fr3"), CONTROL_HZ)
    with pytest.raises(ConfigError, match="Invalid name 'nowhere'"):
        DifferentialIK(MJCF, LIMITS, CONTROL_HZ, site="nowhere")
    with pytest.raises(ConfigError, match=r"none\.xml: .*Error opening file"):
        DifferentialIK(MJCF.with_name("none.xml"), LIMITS, CONTROL_HZ)
    monkeypatch.setitem(sys.modules, "mink", None)
    with pytest.raises(ConfigError, match=r"needs the library mink: pip install 'lewm_ros\[ik\]'"):
        DifferentialIK(MJCF, LIMITS, CONTROL_HZ)


def test_a_quaternion_says_the_same_as_its_matrix() -> None:
    turns = [about([0, 0, 1], 0.6), about([1, 0, 0], np.pi), about([1, 2, 3], 2.5), np.eye(4)]
    half = 1.0 / np.sqrt(14.0)
    expected = [
        [np.cos(0.3), 0.0, 0.0, np.sin(0.3)],
        [0.0, 1.0, 0.0, 0.0],
        [np.cos(1.25), *(np.sin(1.25) * half * np.array([1, 2, 3]))],
        [1.0, 0.0, 0.0, 0.0],
    ]
    found = quaternions_of(np.stack(turns)[:, :3, :3])
    found *= np.sign((found * expected).sum(1, keepdims=True))  # of half a turn, both signs are right
    np.testing.assert_allclose(found, expected, atol=1e-12)
