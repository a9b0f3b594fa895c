"""Joint limits: the shipped files, robot descriptions, and what is refused with one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lewm_ros.config import ConfigError
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.limits import JointLimits, limits_from_urdf, load_limits
from lewm_ros.robot.safety import SafetyFilter

LIMITS = JointLimits(("a", "b"), (-1.0, -2.0), (1.0, 2.0), (1.5, 2.5), (5.0, 6.0), (500.0, 600.0))

URDF = """<?xml version="1.0"?>
<robot name="two">
  <link name="base"/>
  <joint name="world" type="fixed"/>
  <joint name="a" type="revolute"><limit lower="-1" upper="1" velocity="1.5" effort="10"/></joint>
  <joint name="b" type="revolute">
    <limit lower="-2" upper="2" velocity="2.5" effort="10"/>
    <safety_controller soft_lower_limit="-1.9" soft_upper_limit="2.1" k_velocity="4"/>
  </joint>
  <joint name="wheel" type="continuous"><limit velocity="1" effort="1"/></joint>
  <joint name="bare" type="revolute"/>
  <joint name="odd" type="revolute"><limit lower="-1" upper="one" velocity="1"/></joint>
  <joint name="empty" type="revolute"><limit effort="1"/></joint>
  <joint name="endless" type="revolute"><limit lower="-inf" upper="1" velocity="1"/></joint>
  <joint name="degrees" type="revolute"><limit lower="-170" upper="170" velocity="1.7"/></joint>
  <joint name="fast" type="revolute"><limit lower="-3" upper="3" velocity="98"/></joint>
  <joint name="unlimited" type="revolute"><limit lower="-1e16" upper="1e16" velocity="1"/></joint>
  <joint name="stuck" type="revolute"><limit lower="-1" upper="1" velocity="0"/></joint>
  <ros2_control name="arm" type="system"><joint name="a"><command_interface name="position"/></joint></ros2_control>
</robot>
"""


def test_the_pandas_limits_are_the_manufacturers() -> None:
    limits = load_limits("panda")
    assert limits.joint_names == tuple(f"panda_joint{index}" for index in range(1, 8))
    assert limits.lower_rad == (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
    assert limits.upper_rad == (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    assert limits.velocity_rad_s == (2.175,) * 4 + (2.61,) * 3
    assert limits.acceleration_rad_s2 == limits.braking_rad_s2 == (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
    assert limits.jerk_rad_s3 == (7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)
    assert PANDA.joint_names == limits.joint_names and tuple(PANDA.upper_rad) == limits.upper_rad


def fr3_speed_limit(positions_rad: np.ndarray, direction: int) -> np.ndarray:
    """The sizes of what libfranka's computeUpper- (1) and computeLowerLimitsJointVelocity (-1) give."""
    ends = {
        1: [2.75010, 1.79180, 2.90650, -0.1458, 2.81010, 4.52050, 3.01960],
        -1: [2.75010, 1.79180, 2.90650, 3.04810, 2.81010, -0.54092, 3.01960],
    }
    offset = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
    slope = np.array([12.0, 5.17, 7.00, 8.00, 34.0, 11.0, 34.0])
    room = np.maximum(ends[direction] - direction * positions_rad, 0.0)
    return np.minimum(load_limits("fr3").velocity_rad_s, np.maximum(0.0, np.sqrt(slope * room) - offset))


@pytest.mark.parametrize("control_hz", [20.0, 250.0])
@pytest.mark.parametrize("direction", [1, -1])
def test_an_fr3_slows_down_before_its_limits_as_its_controller_demands(control_hz: float, direction: int) -> None:
    limits = load_limits("fr3")
    safety = SafetyFilter(limits, control_hz, max_lead_rad=10.0)
    middle = np.add(limits.lower_rad, limits.upper_rad) / 2.0
    safety.begin(middle)
    sent = [safety.filter(middle + 9.0 * direction, safety.position_rad) for _ in range(round(4 * control_hz))]
    positions, velocities = (np.array([getattr(s, key) for s in sent]) for key in ("position_rad", "velocity_rad_s"))
    assert np.all(direction * velocities <= fr3_speed_limit(positions, direction) + 1e-9)
    end = np.array(limits.upper_rad if direction > 0 else limits.lower_rad)
    np.testing.assert_allclose(positions[-1], end - direction * 0.02, atol=1e-3)


def test_limits_are_matched_by_name_in_any_order() -> None:
    turned = LIMITS.ordered(("b", "a"))
    assert turned == JointLimits(("b", "a"), (-2.0, -1.0), (2.0, 1.0), (2.5, 1.5), (6.0, 5.0), (600.0, 500.0))
    assert LIMITS.ordered(("b",)).upper_rad == (2.0,)
    with pytest.raises(ConfigError, match="no limits for joint 'c'; there are limits for a, b"):
        LIMITS.ordered(("a", "c"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"joint_names": ()}, "joint_names: must be at least one name"),
        ({"joint_names": ("a", "a")}, "joint_names: must be at least one name, each only once"),
        ({"upper_rad": (1.0,)}, "upper_rad: must be 2 numbers, one per joint, got 1"),
        ({"upper_rad": (1.0, -2.0)}, "upper_rad: must be above lower_rad, but is -2.0 for joint 'b'"),
        ({"velocity_rad_s": (0.0, 1.0)}, "velocity_rad_s: must be above 0, but is 0.0 for joint 'a'"),
        ({"lower_rad": (float("nan"), 0.0)}, "lower_rad: must be finite, got nan"),
        ({"jerk_rad_s3": (500.0, 1.0)}, "jerk_rad_s3: must be above the acceleration, but is 1.0 for joint 'b'"),
        ({"braking_rad_s2": (9.0, 1.0)}, "braking_rad_s2: must be at most the acceleration, but is 9.0 for joint 'a'"),
    ],
)
def test_impossible_limits_name_key_joint_and_remedy(changes: dict[str, tuple], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(LIMITS, **changes)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "joint_names: [a]\nlower_rad: [-1]\nupper_rad: [1]\nvelocity_rad_s: [2]\nacceleration_rad_s2: [3]\n"
    path.write_text(text + "jerk_rad_s3: [400]\n")
    assert load_limits(path) == JointLimits(("a",), (-1.0,), (1.0,), (2.0,), (3.0,), (400.0,))
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml: missing key 'jerk_rad_s3'"):
        load_limits(path)
    path.write_text(text + "jerk_rad: [400]\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key 'jerk_rad'; did you mean 'jerk_rad_s3'\?"):
        load_limits(path)
    with pytest.raises(ConfigError, match=r"pandas: cannot be read"):
        load_limits("pandas")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("upper_rad", "170", "upper_rad: must be within 12.57 (are these degrees?), but is 170.0 for joint 'a'"),
        ("upper_rad", "6.98", ""),  # 400 degrees, as the last axis of some industrial arms
        ("velocity_rad_s", "180", "velocity_rad_s: must be within 20 (are these degrees?), but is 180.0 for joint 'a'"),
        ("acceleration_rad_s2", "1500", "acceleration_rad_s2: must be within 1000"),
        ("jerk_rad_s3", "1e16", "jerk_rad_s3: must be within 1e+06"),
        ("velocity_rad_s", ".nan", "velocity_rad_s[0]: expected a finite float, got nan"),
        ("upper_rad", ".inf", "upper_rad[0]: expected a finite float, got inf"),
    ],
)
def test_a_file_of_limits_that_no_arm_has_is_refused(tmp_path: Path, key: str, value: str, words: str) -> None:
    numbers = {"lower_rad": "-1", "upper_rad": "1", "velocity_rad_s": "2", "acceleration_rad_s2": "3"}
    numbers |= {"jerk_rad_s3": "2000", key: value}
    path = tmp_path / "mine.yaml"
    path.write_text("joint_names: [a]\n" + "".join(f"{name}: [{number}]\n" for name, number in numbers.items()))
    if not words:
        assert load_limits(path).upper_rad == (float(value),)
        return
    with pytest.raises(ConfigError) as error:
        load_limits(path)
    assert str(error.value).startswith(f"{path}: {words}")


def test_a_robot_description_gives_limits_in_the_order_asked_for() -> None:
    limits = limits_from_urdf(URDF, ("b", "a"), acceleration_rad_s2=4.0, jerk_rad_s3=100.0)
    assert limits == JointLimits(("b", "a"), (-1.9, -1.0), (2.0, 1.0), (2.5, 1.5), (4.0, 4.0), (100.0, 100.0))
    assert limits_from_urdf(URDF, ("a",)).acceleration_rad_s2 == (2.5,)


@pytest.mark.parametrize(
    ("joint", "words"),
    [
        ("c", "joint 'c' is missing"),
        ("wheel", "joint 'wheel' is continuous; only revolute joints have the limits that are needed; give limits as"),
        ("wheel", "a YAML file (parameter limits)"),
        ("world", "joint 'world' is fixed"),
        ("bare", "joint 'bare' has no <limit>"),
        ("odd", "joint 'odd': <limit> needs a finite number as upper, got 'one'"),
        ("empty", "joint 'empty': <limit> needs a finite number as lower, got None"),
        ("endless", "joint 'endless': <limit> needs a finite number as lower, got '-inf'"),
        ("degrees", "lower_rad: must be within 12.57 (are these degrees?), but is -170.0 for joint 'degrees'"),
        ("fast", "velocity_rad_s: must be within 20 (are these degrees?), but is 98.0 for joint 'fast'"),
        ("unlimited", "lower_rad: must be within 12.57 (are these degrees?), but is -1e+16 for joint 'unlimited'"),
        ("stuck", "velocity_rad_s: must be above 0, but is 0.0 for joint 'stuck'"),
    ],
)
def test_a_robot_description_without_usable_limits_is_refused(joint: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        limits_from_urdf(URDF, ("a", joint))
    assert str(error.value).startswith("robot_description: ") and words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "not xml", "<robot>"])
def test_a_robot_description_that_is_not_xml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="robot_description: not XML"):
        limits_from_urdf(text, ("a",))
