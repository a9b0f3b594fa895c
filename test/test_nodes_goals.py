"""Goals in order over DDS: from a folder or from the camera, and pursued one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from conftest import joint_delta_space, random_model
from ros_processes import SMALL_SEARCH, Probe, Processes, node_command, nodes_command, refusal
from sensor_msgs.msg import Image
from std_msgs.msg import Header, Int32

from lewm_ros.config import FamiliarityConfig, PolicyConfig
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lewm_ros.model.familiarity import Familiarity
from lewm_ros.model.policy import make_policy
from lewm_ros.nodes.conversions import ns_to_stamp, rgb_to_image
from lewm_ros.nodes.encoder_node import EncoderNode
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.observation.embedding_images import image_to_goals
from lewm_ros.observation.goal_folder import write_goal_folder
from lewm_ros.observation.observation import Observation


def views(count: int) -> list[Observation]:
    rng = np.random.default_rng(0)
    return [Observation({"camera": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)}) for _ in range(count)]


@pytest.fixture
def probe() -> Iterator[Probe]:
    processes = Processes()
    probe = Probe(processes)
    yield probe
    processes.interrupt()
    probe.close()


def test_a_goal_unlike_those_of_demonstrations_is_refused(probe: Probe, tmp_path: Path) -> None:
    model, familiarity = random_model(), Familiarity(FamiliarityConfig(), 16)
    familiarity.mean.fill_(1e3)  # where no view's embedding lies
    path = save_checkpoint(Checkpoint(model, joint_delta_space(), familiarity=familiarity), tmp_path / "particular")
    shared = {"checkpoint": path, "device": "cpu", "use_sim_time": True}
    probe.processes.start(node_command("sim_node", image_size=32, seed=3))
    probe.processes.start(nodes_command({"encoder_node": shared, "planner_node": shared | SMALL_SEARCH}))
    embeddings = probe.listen(Image, "embedding")
    probe.wait(lambda: embeddings, "a view")
    probe.wait(lambda: probe.call("encoder_node/set_goal_from_current").success, "the view as a goal")
    reason = "the goal looks unlike those of the demonstrations"
    probe.wait(lambda: reason in probe.messages().get("planner_node", ""), "the reason why this goal is refused")
    assert not probe.enable().success


def goals_of(message: Image) -> NDArray[np.float32]:
    return image_to_goals(message, 1, 16)[:, 0]


def test_goals_come_from_a_folder_and_from_the_camera(probe: Probe, checkpoint_path: Path, tmp_path: Path) -> None:
    *in_folder, current = views(3)
    write_goal_folder(tmp_path / "goals", in_folder, ["camera"])
    shared = {"checkpoint": checkpoint_path, "device": "cpu"}
    encoder = shared | {"goal_folder": tmp_path / "goals", "max_input_age_s": 60.0}
    probe.processes.start(nodes_command({"encoder_node": encoder, "planner_node": shared | SMALL_SEARCH}))
    goals, embeddings = probe.listen(Image, "goal_embedding", LATCHED), probe.listen(Image, "embedding")
    checkpoint = load_checkpoint(checkpoint_path)
    expected = [checkpoint.encode_goal(view)[0].numpy() for view in (*in_folder, current)]

    probe.wait(lambda: goals, "the goals of the folder")
    np.testing.assert_allclose(goals_of(goals[-1]), expected[:2], atol=1e-4)
    refused = "goals: several in order need a checkpoint with a policy"
    probe.wait(lambda: refused in probe.messages().get("planner_node", ""), "the reason why these goals are refused")

    frames = probe.node.create_publisher(Image, "image", 10)

    def show() -> None:
        stamp = ns_to_stamp(probe.node.get_clock().now().nanoseconds)
        frames.publish(rgb_to_image(current.frames["camera"], Header(stamp=stamp)))

    probe.node.create_timer(0.1, show)
    probe.wait(lambda: embeddings, "an embedding")
    # A request that is not answered soon is repeated, so the view may be there more than once.
    assert "goal 3 is the view of" in probe.call("encoder_node/add_goal_from_current").message
    probe.wait(lambda: goals[-1].height >= 3, "one goal more")
    np.testing.assert_allclose(goals_of(goals[-1])[:3], expected, atol=1e-4)
    assert probe.call("encoder_node/set_goal_from_current").success
    probe.wait(lambda: goals[-1].height == 1, "the view as the only goal")
    assert probe.call("encoder_node/clear_goals").success
    probe.wait(lambda: goals[-1].height == 0, "no goal")
    assert probe.call("encoder_node/add_goal_from_current").success
    probe.wait(lambda: goals[-1].height >= 1, "the view as the first goal")


def test_a_folder_without_goals_is_named(
    checkpoint_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = (f"checkpoint:={checkpoint_path}", "device:=cpu", f"goal_folder:={tmp_path}")
    line = refusal({"encoder_node": EncoderNode}, capfd, *given)
    assert f"parameter goal_folder: {tmp_path}: no goals; they are 1.png, 2.png, ... in it" in line


def test_the_planner_goes_from_goal_to_goal(probe: Probe, tmp_path: Path) -> None:
    model = random_model()
    policy = make_policy(PolicyConfig(width=16, depth=1), model, joint_delta_space()).eval()
    path = save_checkpoint(Checkpoint(model, joint_delta_space(), policy=policy), tmp_path / "with_policy")
    shared = {"checkpoint": path, "device": "cpu", "use_sim_time": True}
    # A random model leads anywhere, and its policy may guess any time: however long, it counts as near.
    search = SMALL_SEARCH | {"planner__goal_reached_steps": 1000.0, "planner__goal_frames": 2, "ramp_s": 5.0}
    probe.processes.start(node_command("sim_node", image_size=32, seed=3))
    probe.processes.start(nodes_command({"encoder_node": shared, "planner_node": shared | search}))
    goals, embeddings = probe.listen(Image, "goal_embedding", LATCHED), probe.listen(Image, "embedding")
    indices = probe.listen(Int32, "planner_node/goal_index", LATCHED)
    left = probe.listen(Int32, "planner_node/goals_left", LATCHED)
    probe.wait(lambda: embeddings, "a view")
    for service in ("set_goal_from_current", "add_goal_from_current", "add_goal_from_current"):
        probe.wait(lambda name=service: probe.call(f"encoder_node/{name}").success, "the view as a goal")
    probe.wait(lambda: goals and goals[-1].height >= 3, "three goals")
    last = goals[-1].height - 1
    probe.wait(lambda: probe.enable().success, "the planner to be enabled")
    probe.wait(lambda: indices and indices[-1].data == last, "the last goal")
    assert [index.data for index in indices][-last:] == list(range(1, last + 1)), "one after the other"
    probe.wait(lambda: left[-1].data == 0, "no goal to be left")
    probe.wait(lambda: probe.value("planner_node", "goals_left") == "0", "the diagnostics to say so")
    assert probe.value("planner_node", "goal_index") == str(last)
