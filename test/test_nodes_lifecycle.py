"""Managed nodes as processes: states, transitions that fail, parameters at run time, SIGINT in every state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter
from ros_processes import SMALL_SEARCH, Probe, Processes, node_command
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from lewm_ros.nodes.qos import LATCHED

NODES = ("sim_node", "encoder_node", "planner_node")
CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
SHUTDOWN_INACTIVE = Transition.TRANSITION_INACTIVE_SHUTDOWN


class Managed(Probe):
    """A probe that changes states and parameters."""

    def change(self, name: str, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.ask(ChangeState, f"{name}/change_state", request).success

    def state(self, name: str) -> int:
        return self.ask(GetState, f"{name}/get_state", GetState.Request()).current_state.id

    def set(self, name: str, parameter: str, value: object) -> str:
        """The reason why a parameter was refused; empty if it was taken."""
        request = SetParameters.Request(parameters=[Parameter(parameter, value=value).to_parameter_msg()])
        (result,) = self.ask(SetParameters, f"{name}/set_parameters", request).results
        return "" if result.successful else result.reason


@pytest.fixture(scope="module")
def managed(checkpoint_path: Path) -> Iterator[Managed]:
    """The three nodes, unconfigured; the encoder with a checkpoint that is not there."""
    processes = Processes()
    probe = Managed(processes)
    processes.start(node_command("sim_node", autostart=False, image_size=32, goal_period_s=1.0))
    processes.start(node_command("encoder_node", autostart=False, device="cpu", checkpoint="/nowhere/model"))
    processes.start(
        node_command("planner_node", autostart=False, device="cpu", checkpoint=checkpoint_path, **SMALL_SEARCH)
    )
    for message, topic in ((Image, "image"), (JointState, "joint_states"), (Image, "embedding")):
        probe.listen(message, topic)
    probe.listen(String, "model_info", LATCHED)
    try:
        yield probe
    finally:
        processes.interrupt()
        probe.close()


def test_a_configuration_that_fails_says_why_and_can_be_mended(managed: Managed, checkpoint_path: Path) -> None:
    assert not managed.change("encoder_node", CONFIGURE)
    assert managed.state("encoder_node") == State.PRIMARY_STATE_UNCONFIGURED
    managed.wait(lambda: "encoder_node" in managed.status, "diagnostics")
    assert "nowhere/model.json" in managed.messages()["encoder_node"]
    assert not managed.change("encoder_node", ACTIVATE), "not from this state"
    assert managed.state("encoder_node") == State.PRIMARY_STATE_UNCONFIGURED, "and the node lives on"
    assert managed.set("encoder_node", "checkpoint", str(checkpoint_path)) == ""
    assert managed.change("encoder_node", CONFIGURE)


def test_nodes_are_silent_until_they_are_active(managed: Managed) -> None:
    for name in ("sim_node", "planner_node"):
        assert managed.change(name, CONFIGURE)
    assert "the node is inactive" in managed.enable().message
    assert managed.change("sim_node", ACTIVATE)
    managed.wait(lambda: managed.heard["image"], "a frame")
    managed.spin(0.5)
    assert not managed.heard["embedding"]
    assert not managed.heard["model_info"]
    for name in ("encoder_node", "planner_node"):
        assert managed.change(name, ACTIVATE)
    managed.wait(lambda: managed.heard["embedding"], "an embedding")
    managed.wait(lambda: managed.enable().success, "the planner to be enabled; the goal came before the encoder")


def test_a_paused_simulator_is_silent_and_goes_on(managed: Managed) -> None:
    assert managed.change("sim_node", DEACTIVATE)
    managed.spin(0.2)
    before = len(managed.heard["joint_states"])
    managed.spin(0.5)
    assert len(managed.heard["joint_states"]) == before
    assert managed.change("sim_node", ACTIVATE)
    managed.wait(lambda: len(managed.heard["joint_states"]) > before + 20, "joint states")


@pytest.mark.parametrize(
    ("parameter", "value", "reason"),
    [
        ("ramp_s", 0.5, ""),
        ("ramp_s", 1e6, "out of range Min: 0.0, Max: 60.0"),
        ("ramp_s", float("nan"), "out of range Min: 0.0, Max: 60.0"),
        ("ramp_s", "slow", "Wrong parameter type"),
        ("workspace_low_m", [float("nan")] * 3, "workspace_low_m: must be 3 numbers"),
        ("planner.elites", 100_000, "fixed while configured"),
        ("on_surprise", "stop", ""),
        ("on_surprise", "panic", "'panic' is unknown; known: warn, stop, ignore"),
        ("max_lead_rad", 0.2, "fixed while configured; first deactivate and clean up /planner_node"),
    ],
)
def test_parameters_at_run_time(managed: Managed, parameter: str, value: object, reason: str) -> None:
    answer = managed.set("planner_node", parameter, value)
    assert reason in answer
    assert bool(answer) == bool(reason)


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        (
            "planner_node",
            {"ramp_s": "s", "max_lead_rad": "rad", "planner.deadline_ms": "ms", "planner.horizon": "blocks"},
        ),
        ("encoder_node", {"max_input_age_s": "s", "min_contrast": "of 255"}),
        ("sim_node", {"tick_hz": "Hz", "image_size": "pixels"}),
    ],
)
def test_every_number_has_a_range_and_its_unit(managed: Managed, node: str, shown: dict[str, str]) -> None:
    listed = managed.ask(ListParameters, f"{node}/list_parameters", ListParameters.Request()).result.names
    request = DescribeParameters.Request(names=listed)
    described = managed.ask(DescribeParameters, f"{node}/describe_parameters", request).descriptors
    numbers = [d for d in described if d.type in (ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_INTEGER)]
    assert all(len(d.floating_point_range) + len(d.integer_range) == 1 for d in numbers), [d.name for d in numbers]
    units = {d.name: d.description.rpartition(" [")[2].rstrip("]") for d in numbers}
    assert {name: units[name] for name in shown} == shown


def test_clean_up_releases_and_sigint_ends_every_state(managed: Managed) -> None:
    assert managed.change("encoder_node", DEACTIVATE)
    assert managed.change("encoder_node", CLEANUP)
    managed.wait(lambda: not managed.node.count_publishers("embedding"), "the encoder's publishers to go")
    assert managed.change("encoder_node", CONFIGURE), "a second time"
    assert managed.change("encoder_node", SHUTDOWN_INACTIVE)
    assert managed.state("encoder_node") == State.PRIMARY_STATE_FINALIZED
    assert managed.change("sim_node", DEACTIVATE)
    # Finalized, inactive and active; unconfigured below.
    ends = managed.processes.interrupt()
    assert [status for status, _ in ends] == [0, 0, 0]
    assert not any("Traceback" in stderr for _, stderr in ends)


def test_an_unconfigured_node_refuses_what_contradicts_and_ends_by_sigint(managed: Managed) -> None:
    managed.processes.start(node_command("planner_node", autostart=False))
    managed.wait(lambda: managed.messages().get("planner_node") == "unconfigured", "the planner")
    assert managed.set("planner_node", "planner.samples", 100) == ""
    assert "elites: must be at most samples, 100, got 101" in managed.set("planner_node", "planner.elites", 101)
    assert managed.set("planner_node", "planner.elites", 100) == ""
    assert [status for status, _ in managed.processes.interrupt()] == [0]
