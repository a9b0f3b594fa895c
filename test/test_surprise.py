"""Disturb the simulated scene while the shipped model drives the arm: the planner sees it, says so and stops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_processes import Probe, Processes, node_command
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.qos import NEWEST

THRESHOLD = 5.0
REASON = f"surprise above {THRESHOLD:g}: the world is not as predicted"
RAMP_STEPS, CALM_STEPS = 4, 4
"""Steps of a loop that are not judged, and of those that are before the scene is disturbed."""


class Scene:
    """The three nodes, what the planner says about the scene, and ways to disturb it."""

    def __init__(self) -> None:
        processes = Processes()
        self.probe = Probe(processes)
        processes.start(node_command("sim_node", seed=1))
        processes.start(node_command("encoder_node", use_sim_time=True))
        self._planner = {"use_sim_time": True, "on_surprise": "stop", "surprise_threshold": THRESHOLD}
        processes.start(node_command("planner_node", **self._planner))
        self.surprises = self.probe.listen(Float64, "planner_node/surprise")
        self.commands = self.probe.listen(JointTrajectory, "joint_trajectory", NEWEST)
        self.joints = self.probe.listen(JointState, "joint_states", NEWEST)

    def close(self) -> None:
        self.probe.processes.interrupt()
        self.probe.close()

    def set(self, node: str, name: str, value: object) -> str:
        """Set a parameter while the node runs; returns why it was refused."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        [result] = self.probe.ask(SetParameters, f"{node}/set_parameters", request).results
        return result.reason

    def status(self) -> str:
        return self.probe.messages().get("planner_node", "")

    def drive(self) -> None:
        """Put everything in its place, and wait until the arm has moved for a while in peace, on some problem.

        A false alarm now and then is the threshold's, and no fault of what is tested.
        """
        for _ in range(3):
            if self._moves_in_peace():
                self.surprises.clear()
                return
        raise AssertionError("surprised by every problem")

    def _moves_in_peace(self) -> bool:
        self.disturb(camera_offset_m=[0.0] * 3, obstacle_position_m=[0.0, 0.0, -1.0])
        self.probe.call("planner_node/stop")
        assert self.probe.call("sim_node/reset").success
        self.probe.wait(self._enabled, "the planner to be enabled")
        self.surprises.clear()
        self.probe.wait(lambda: len(self.surprises) >= RAMP_STEPS + CALM_STEPS, "predictions to be judged")
        return max(heard.data for heard in self.surprises[RAMP_STEPS:]) < THRESHOLD and self.status() == "moving"

    def disturb(self, **parameters: list[float]) -> None:
        for name, value in parameters.items():
            assert self.set("sim_node", name, value) == ""

    def is_surprised(self) -> bool:
        return any(heard.data > THRESHOLD for heard in self.surprises)

    def positions(self) -> np.ndarray:
        return np.array(self.joints[-1].position[:7])

    def _enabled(self) -> bool:
        return self.probe.enable().success


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    scene = Scene()
    try:
        scene.probe.wait(lambda: scene.joints and scene.probe.call("sim_node/reset").success, "the simulator")
        yield scene
    finally:
        scene.close()


@pytest.mark.parametrize(
    "disturbance",
    [{"camera_offset_m": [0.0, 0.5, 0.0]}, {"obstacle_position_m": [0.6, 0.2, 0.06]}],
    ids=["the camera is moved", "a box appears"],
)
def test_a_disturbed_scene_stops_the_arm_until_it_is_enabled(scene: Scene, disturbance: dict[str, list[float]]) -> None:
    scene.drive()
    scene.disturb(**disturbance)
    scene.probe.wait(lambda: scene.status() == f"stopped: {REASON}", "the arm to be stopped")
    assert scene.is_surprised()

    scene.probe.wait(lambda: scene.probe.value("planner_node", "state") == "idle", "the arm to stand still")
    last = scene.commands[-1]
    assert list(last.points[-1].velocities) == [0.0] * 7, "a smooth stop ends at rest"
    commands = len(scene.commands)
    scene.probe.spin(1.0)
    assert len(scene.commands) == commands, "it stays stopped"
    assert scene.status() == f"stopped: {REASON}"
    np.testing.assert_allclose(scene.positions(), last.points[-1].positions, atol=0.02)

    assert scene.probe.enable().success
    scene.probe.wait(lambda: len(scene.commands) > commands, "commands again")


def test_the_same_surprise_is_only_a_warning_if_that_is_wanted(scene: Scene) -> None:
    assert scene.set("planner_node", "on_surprise", "warn") == ""
    scene.drive()
    scene.disturb(obstacle_position_m=[0.6, 0.2, 0.06])
    scene.probe.wait(lambda: scene.status() == f"moving: {REASON}", "a warning")


def test_a_surprise_may_be_ignored(scene: Scene) -> None:
    assert scene.set("planner_node", "on_surprise", "ignore") == ""
    scene.drive()
    scene.disturb(obstacle_position_m=[0.6, 0.2, 0.06])
    scene.probe.wait(scene.is_surprised, "a surprise")
    assert scene.status() == "moving"


def test_a_place_has_three_finite_numbers(scene: Scene) -> None:
    assert scene.set("sim_node", "camera_offset_m", [0.1, 0.0]) == "camera_offset_m: must be 3 finite numbers"
    nan = scene.set("sim_node", "obstacle_position_m", [0.5, 0.0, float("nan")])
    assert nan == "obstacle_position_m: must be 3 finite numbers"
