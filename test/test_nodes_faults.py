"""Bad input: one line and status 2 from a node that starts, diagnostics ERROR and no motion from one that runs."""

from __future__ import annotations

import subprocess
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from conftest import random_model, small_model_config
from diagnostic_msgs.msg import DiagnosticStatus
from ros_processes import SMALL_SEARCH, TIMEOUT_S, Probe, Processes, node_command
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String

from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lewm_ros.nodes.conversions import matrix_to_image, rgb_to_image
from lewm_ros.nodes.encoder_node import EncoderNode
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.planner_node import PlannerNode
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.nodes.runner import run
from lewm_ros.nodes.sim_node import SimNode
from lewm_ros.nodes.tools import episode_runner
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import ee_delta


def test_missing_checkpoint_ends_a_process_with_one_line(tmp_path: Path) -> None:
    command = node_command("encoder_node", checkpoint=tmp_path / "nowhere")
    end = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert end.returncode == 2
    [line] = end.stderr.splitlines()
    assert line.startswith("encoder_node: checkpoint")
    assert "nowhere.json" in line


@pytest.mark.parametrize(
    ("make_node", "parameters", "right"),
    [
        (EncoderNode, {"checkpont": "default"}, "'checkpont' is unknown; known: autostart, checkpoint"),
        (EncoderNode, {"image_transport": "theora"}, "known: raw, compressed"),
        (PlannerNode, {"planner.sampels": 3}, "'planner.sampels' is unknown"),
        (
            PlannerNode,
            {"planner.elites": 1000, "planner.samples": 10},
            "elites: must be at most samples, 10",
        ),
        (PlannerNode, {"planner.running_weight": ".nan"}, "planner.running_weight out of range"),
        (PlannerNode, {"ramp_s": ".inf"}, "ramp_s out of range"),
        (PlannerNode, {"seed": -1}, "seed out of range"),
        (PlannerNode, {"seed": 2**31}, "seed out of range"),
        (PlannerNode, {"workspace_low_m": "[.nan, 0.0, 0.0]"}, "workspace_low_m: must be 3 numbers"),
        (PlannerNode, {"workspace_low_m": "[0.0, 0.0]"}, "workspace_low_m: must be 3 numbers"),
        (PlannerNode, {"workspace_low_m": "[.inf, .inf, .inf]"}, "workspace: needs x, y, z with low below high"),
        (
            PlannerNode,
            {"command_interface": "twist"},
            "command_interface twist: it takes twists, the checkpoint acts in 'joint_delta'",
        ),
        (PlannerNode, {"planner.actor": "policy"}, "policy needs a checkpoint with a policy; teach it one with"),
        (PlannerNode, {"planner.knots_per_block": 2}, "knots_per_block 2 does not divide action_block 5"),
        (PlannerNode, {"max_lead_rad": -1.0}, "max_lead_rad out of range"),
        (PlannerNode, {"max_lead_rad": "far"}, "expecting type 'DOUBLE'"),
        (SimNode, {"image_hz": 30.0}, "image_hz: must divide tick_hz 40"),
        (SimNode, {"brightness": ".nan"}, "brightness out of range"),
        (SimNode, {"camera_offset_m": "[0.0, .inf, 0.0]"}, "camera_offset_m: must be 3 finite numbers"),
        (SimNode, {"image_size": 10**12}, "image_size out of range"),
        (SimNode, {"task": "juggle"}, "'juggle' is unknown; known: "),
    ],
)
def test_bad_parameters_get_one_line(
    make_node: Callable[[], ManagedNode],
    parameters: dict,
    right: str,
    checkpoint_path: Path,
    capfd: pytest.CaptureFixture,
) -> None:
    if make_node is not SimNode:
        parameters = {"checkpoint": checkpoint_path} | parameters
    given = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
    assert run({"node": make_node}, ["--ros-args", *given]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert right in line


def test_unknown_key_in_a_parameter_file_gets_one_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    file = tmp_path / "sim.yaml"
    file.write_text("/**/sim_node:\n  ros__parameters:\n    image_sise: 96\n")
    assert run({"sim_node": SimNode}, ["--ros-args", "--params-file", str(file)]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "'image_sise' is unknown; known: " in line


def test_motions_of_the_hand_become_those_of_a_known_arm_only(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    space = replace(ee_delta((0.01,) * 6, 20.0), action_block=5)
    path = save_checkpoint(Checkpoint(random_model(), space), tmp_path / "hand")
    given = ["-p", f"checkpoint:={path}", "-p", "limits:=robot_description"]
    assert run({"planner_node": PlannerNode}, ["--ros-args", *given]) == 2
    assert "joint_names: must name the joints" in capfd.readouterr().err
    given += ["-p", f"joint_names:={list(PANDA.joint_names)}"]
    assert run({"planner_node": PlannerNode}, ["--ros-args", *given]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "to turn ee_delta into joint_trajectory they must be of a known arm (panda or fr3" in line


def test_actions_that_no_arm_carries_out_get_one_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    channels = (Channel("x", "absolute"), Channel("y", "absolute"))
    model = LeWorldModel(replace(small_model_config(), action_dim=10))
    space = ActionSpace("pusht", channels, control_hz=10.0, action_block=5)
    path = save_checkpoint(Checkpoint(model.eval(), space), tmp_path / "flat")
    assert run({"planner_node": PlannerNode}, ["--ros-args", "-p", f"checkpoint:={path}"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "no arm carries out channel 'x' of 'pusht' (x, y) at 10 Hz" in line


def test_episode_runner_names_the_node_that_is_missing(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert episode_runner.main(["--out", str(tmp_path / "goals.jsonl"), "--timeout-s", "0.2"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "/planner_node/stop" in line


class Arm:
    """A camera and an arm, as far as an encoder and a planner can tell; it goes wherever it is commanded if told so."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        create = probe.node.create_publisher
        self._image = create(Image, "image", 1)
        self._embedding = create(Image, "embedding_in", 1)
        self._goal = create(Image, "goal_in", LATCHED)
        self._joints = create(JointState, "joint_states", 1)
        self._info = create(String, "model_info_in", LATCHED)
        self.names = list(PANDA.joint_names)
        self.embedding: np.ndarray | None = np.zeros(16, np.float32)
        self.frame: Image | None = None
        self.follows, self.positions = True, PANDA.home_rad.tolist()
        probe.node.create_timer(0.05, self._publish)

    def show_goal(self) -> None:
        self._goal.publish(matrix_to_image(np.ones((1, 16), np.float32), self._header()))

    def claim_checkpoint(self, identity: str) -> None:
        self._info.publish(String(data=f'{{"checkpoint": "{identity}"}}'))

    def _header(self) -> Header:
        return Header(stamp=self.probe.node.get_clock().now().to_msg(), frame_id="camera")

    def _publish(self) -> None:
        header = self._header()
        if self.follows and self.probe.heard["commands"]:
            self.positions = list(self.probe.heard["commands"][-1].data)
        self._joints.publish(JointState(header=header, name=self.names, position=self.positions))
        if self.embedding is not None:
            seen = self.embedding + np.float32(self.positions[0])  # what moves is not seen the same twice
            self._embedding.publish(matrix_to_image(seen[np.newaxis], header))
        if self.frame is not None:
            self.frame.header = header
            self._image.publish(self.frame)


@pytest.fixture(scope="module")
def arm(checkpoint_path: Path) -> Iterator[Arm]:
    """An encoder and a planner that are not connected to each other: the planner hears only what a test publishes."""
    processes = Processes()
    probe = Probe(processes)
    processes.start(node_command("encoder_node", checkpoint=checkpoint_path, device="cpu"))
    aside = [
        part
        for topic, heard in (
            ("embedding", "embedding_in"),
            ("goal_embedding", "goal_in"),
            ("model_info", "model_info_in"),
        )
        for part in ("-r", f"{topic}:={heard}")
    ]
    planner = node_command(
        "planner_node",
        checkpoint=checkpoint_path,
        device="cpu",
        command_interface="commands",
        max_input_age_s=2.0,
        **SMALL_SEARCH,
    )
    processes.start([*planner, *aside])
    probe.listen(Float64MultiArray, "commands")
    probe.listen(Image, "embedding")
    try:
        yield Arm(probe)
    finally:
        processes.interrupt()
        probe.close()


def wait_for_status(probe: Probe, name: str, level: bytes, words: str) -> None:
    probe.wait(
        lambda: name in probe.status and probe.status[name].level == level and words in probe.status[name].message,
        f"{name} to say '{words}'",
    )


def assert_moving(arm: Arm) -> None:
    commands = arm.probe.heard["commands"]
    before = len(commands)
    arm.probe.wait(lambda: len(commands) > before + 5, "commands")


def assert_at_rest(arm: Arm) -> None:
    arm.probe.spin(0.2)
    before = len(arm.probe.heard["commands"])
    arm.probe.spin(0.6)
    assert len(arm.probe.heard["commands"]) == before


def test_unknown_encoding_is_an_error_and_publishes_nothing(arm: Arm) -> None:
    embeddings = arm.probe.heard["embedding"]
    arm.frame = Image(encoding="rgb888", height=2, width=2, step=6, data=array("B", bytes(12)))
    wait_for_status(arm.probe, "encoder_node", DiagnosticStatus.ERROR, "'rgb888'")
    assert not embeddings
    arm.frame = rgb_to_image(np.arange(24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8), Header())
    arm.probe.wait(lambda: embeddings, "an embedding, once the frames are sound")
    wait_for_status(arm.probe, "encoder_node", DiagnosticStatus.OK, "encoding")


def test_planner_moves_only_on_sound_and_fresh_inputs(arm: Arm, checkpoint_path: Path) -> None:
    probe = arm.probe
    probe.wait(lambda: "nothing received on goal" in probe.enable().message, "the planner to hear all but a goal")
    arm.show_goal()
    probe.wait(lambda: probe.enable().success, "the planner to be enabled")
    assert_moving(arm)

    arm.names = [*PANDA.joint_names[:6], "wrist"]
    wait_for_status(probe, "planner_node", DiagnosticStatus.ERROR, "joint 'panda_joint7' is missing; received: ")
    assert_at_rest(arm)
    arm.names = list(PANDA.joint_names)
    assert_moving(arm)

    arm.embedding = np.full(16, np.nan, np.float32)
    wait_for_status(probe, "planner_node", DiagnosticStatus.ERROR, "embedding: embedding is not finite")
    assert_at_rest(arm)
    arm.embedding = np.zeros(12, np.float32)
    wait_for_status(probe, "planner_node", DiagnosticStatus.ERROR, "got 32FC1 of 1 x 12")
    assert_at_rest(arm)

    arm.embedding = np.zeros(16, np.float32)
    assert_moving(arm)
    arm.embedding = None
    wait_for_status(probe, "planner_node", DiagnosticStatus.ERROR, "embedding: nothing new for 2 s")
    assert_at_rest(arm)
    arm.embedding = np.zeros(16, np.float32)
    assert_moving(arm)

    arm.claim_checkpoint("another-0123")
    wait_for_status(probe, "planner_node", DiagnosticStatus.ERROR, "the encoder runs 'another-0123'")
    assert_at_rest(arm)
    arm.claim_checkpoint(load_checkpoint(checkpoint_path).identity)
    assert_moving(arm)

    assert probe.call("planner_node/stop").success
    assert_at_rest(arm)


def test_an_arm_that_stands_still_while_commanded_is_named_and_no_longer_commanded(arm: Arm) -> None:
    probe = arm.probe
    arm.show_goal()
    probe.wait(lambda: probe.enable().success, "the planner to be enabled")
    assert_moving(arm)
    arm.follows, before = False, len(probe.heard["commands"])
    arm.embedding = np.linspace(0.0, 1.0, 16, dtype=np.float32)
    wait_for_status(probe, "planner_node", DiagnosticStatus.ERROR, "stands still while commanded to move")
    assert_at_rest(arm)
    targets = np.array([command.data for command in probe.heard["commands"][before:]])
    assert np.abs(targets - arm.positions).max() <= 0.3 + 1e-9, "the arm stands still, so targets stay near it"
    arm.follows = True
    probe.wait(lambda: probe.enable().success, "the planner to be enabled again")
    assert_moving(arm)
    assert probe.call("planner_node/stop").success
    assert_at_rest(arm)
