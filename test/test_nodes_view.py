"""Markers of plans, and the four nodes over DDS: the annotated picture, and what RViz and Foxglove are told to show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from conftest import joint_delta_space, random_model, small_model_config
from ros_processes import ROOT, SMALL_SEARCH, Probe, Processes, node_command, nodes_command, refusal
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Header
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from lewm_ros.config import DecoderConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.model.decoder import Decoder
from lewm_ros.nodes.conversions import ns_to_stamp, rgb_to_image
from lewm_ros.nodes.planner.markers import path_markers, tip_paths_m
from lewm_ros.nodes.view_node import ViewNode
from lewm_ros.observation.embedding_images import image_to_embedding
from lewm_ros.observation.images import image_to_rgb
from lewm_ros.observation.input_spec import CameraSpec, InputSpec
from lewm_ros.observation.stamps import stamp_to_ns
from lewm_ros.robot.arm_actions import ArmChannels, ee_delta
from lewm_ros.robot.kinematics import Kinematics

RVIZ, FOXGLOVE = ROOT / "config/lewm.rviz", ROOT / "config/lewm_foxglove.json"
OF_OTHERS = {"/robot_description"}
"""Topics of robot_state_publisher."""
PANEL_PX = 96


def planar_arm() -> Kinematics:
    """Seven joints about the vertical: the first at the base, the others 1 m from it, and the tip 1 m further."""
    origins = np.tile(np.eye(4), (7, 1, 1))
    tool = np.eye(4)
    origins[1, 0, 3] = tool[0, 3] = 1.0
    return Kinematics(origins, tool)


def test_paths_of_joint_deltas_go_through_kinematics() -> None:
    plans, start_rad = np.zeros((1, 2, 7)), np.zeros(7)
    start_rad[0] = np.pi / 2  # the arm is stretched along y
    plans[0, 0, 1] = np.pi / 2  # the elbow bends: (0, 1) for the elbow, and the tip is 1 m to its left
    plans[0, 1, 0] = -np.pi / 2  # the shoulder turns back: the elbow to (1, 0), the tip above it
    paths_m = tip_paths_m(ArmChannels.of(joint_delta_space()), planar_arm(), start_rad, plans)
    np.testing.assert_allclose(paths_m, [[[0, 2, 0], [-1, 1, 0], [1, 1, 0]]], atol=1e-12)


def test_paths_of_twists_are_sums_of_their_translations() -> None:
    plans = np.zeros((2, 2, 7))
    plans[1] = [[0.0, 0.0, 0.3, 9.0, 9.0, 9.0, 1.0], [0.5, 0.0, 0.0, 9.0, 9.0, 9.0, 1.0]]
    paths_m = tip_paths_m(ArmChannels.of(ee_delta((9.0,) * 6, 20.0)), planar_arm(), np.zeros(7), plans)
    begin = [2.0, 0.0, 0.0]  # the stretched arm's tip
    np.testing.assert_allclose(paths_m, [[begin] * 3, [begin, [2.0, 0.0, 0.3], [2.5, 0.0, 0.3]]])


def test_markers_replace_the_old_ones_and_make_the_plan_stand_out() -> None:
    paths_m = np.arange(18.0).reshape(3, 2, 3)
    paths_m[1, 0, 0] = np.nan
    clear, plan, candidate = path_markers(paths_m, "base", lifetime_s=1.25).markers
    assert clear.action == Marker.DELETEALL
    assert [plan.ns, candidate.ns] == ["plan", "candidates"], "the path that is not finite is left out"
    assert plan.type == candidate.type == Marker.LINE_STRIP
    assert plan.header.frame_id == candidate.header.frame_id == "base"
    assert [[p.x, p.y, p.z] for p in candidate.points] == paths_m[2].tolist()
    assert plan.scale.x > candidate.scale.x
    assert plan.color.a == 1.0 > candidate.color.a
    assert (plan.lifetime.sec, plan.lifetime.nanosec) == (1, 250_000_000)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """Simulator, encoder, planner and view at work, with a tiny random checkpoint that has a decoder."""
    processes = Processes()
    probe = Probe(processes)
    model = random_model()
    painting = Checkpoint(model, joint_delta_space(), decoder=Decoder(DecoderConfig(width=8, hidden=16), model))
    checkpoint_path = save_checkpoint(painting, tmp_path_factory.mktemp("checkpoint") / "painting")
    shared = {"checkpoint": checkpoint_path, "device": "cpu", "use_sim_time": True}
    # A random model leads anywhere: so slowly that the arm meets nothing while the tests last.
    planner = shared | SMALL_SEARCH | {"enable_on_activate": True, "ramp_s": 60.0, "show_paths": 3}
    processes.start(nodes_command({"encoder_node": shared, "planner_node": planner}))
    processes.start(node_command("view_node", **shared, panel_px=PANEL_PX, gallery_hz=10.0))
    for kind, topic in (
        (Image, "view_node/annotated_image"),
        (Image, "planner_node/predicted_embedding"),
        (JointTrajectory, "planner_node/plan"),
        (Float64, "planner_node/plan_cost"),
        (MarkerArray, "planner_node/paths"),
    ):
        probe.listen(kind, topic)
    processes.start(node_command("sim_node", image_size=32))
    try:
        probe.wait(lambda: probe.call("sim_node/reset").success, "a goal")
        yield probe
        ends = processes.interrupt()
        assert [status for status, _ in ends] == [0] * 3, ends
    finally:
        processes.interrupt()
        probe.close()


def test_the_picture_shows_frame_goal_and_prediction(probe: Probe) -> None:
    pictures = probe.heard["view_node/annotated_image"]

    def panels() -> list[np.ndarray]:
        """Where the views are in the newest picture, without its margins."""
        line_px = round(0.085 * PANEL_PX)
        picture = image_to_rgb(pictures[-1])[8 + line_px :][:PANEL_PX]
        return [picture[:, 8 + k * (PANEL_PX + 8) :][:, :PANEL_PX] for k in range(4)]

    probe.wait(lambda: pictures and all(np.ptp(panel) > 50 for panel in panels()[:3]), "three views")
    # An untrained decoder paints on a mean frame of half brightness; before there is a plan, the panel is darker.
    probe.wait(lambda: 100 < panels()[3].mean() < 155, "a painted prediction")
    probe.wait(lambda: int(probe.value("view_node", "gallery_frames")) > 3, "frames that came in")
    assert probe.status["view_node"].message == "showing"


def test_the_prediction_is_of_the_time_where_the_plan_ends(probe: Probe) -> None:
    predicted, paths = probe.heard["planner_node/predicted_embedding"], probe.heard["planner_node/paths"]
    probe.wait(lambda: len(predicted) > 3 and len(paths) > 3, "predictions and paths")
    assert image_to_embedding(predicted[-1], 1, 16).shape == (1, 16)
    plans = probe.heard["planner_node/plan"]
    ends_ns = {stamp_to_ns(plan.header.stamp) + len(plan.points) * 50_000_000 for plan in plans}
    assert stamp_to_ns(predicted[-1].header.stamp) in ends_ns, "the last step of a plan, all of 50 ms"
    _, plan, *candidates = paths[-1].markers
    assert len(plan.points) == 1 + 4 * 5, "four blocks of five steps"
    assert len(candidates) == 2
    begins = {(marker.points[0].x, marker.points[0].y, marker.points[0].z) for marker in (plan, *candidates)}
    assert len(begins) == 1, "all begin where the arm will be"


def test_rviz_and_foxglove_show_what_the_nodes_publish(probe: Probe) -> None:
    probe.wait(lambda: probe.heard["planner_node/plan_cost"], "a plan")
    published = {name: kinds[0] for name, kinds in probe.node.get_topic_names_and_types()}
    services = dict(probe.node.get_service_names_and_types())

    displays = yaml.safe_load(RVIZ.read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    expected = {"Image": "sensor_msgs/msg/Image", "MarkerArray": "visualization_msgs/msg/MarkerArray"}
    shown = [d for d in displays if "Topic" in d]
    assert {d["Topic"]["Value"]: expected[d["Class"].rpartition("/")[2]] for d in shown}.items() <= published.items()
    assert {d["Description Topic"]["Value"] for d in displays if "Description Topic" in d} <= OF_OTHERS

    layout = json.loads(FOXGLOVE.read_text(encoding="utf-8"))
    assert set(panels_in(layout["layout"])) == set(layout["configById"]), "every panel has its place"
    configured = list(strings(layout["configById"]))
    topics = {re.match(r"/[\w/]+", value).group() for key, value in configured if key in TOPIC_KEYS}
    topics |= {name for panel in layout["configById"].values() for name in panel.get("topics", {})}
    assert topics <= set(published) | OF_OTHERS
    called = {value for key, value in configured if key == "serviceName"}
    assert called <= set(services) and len(called) == 3


def test_every_camera_has_its_row_and_one_without_a_partner_is_named(tmp_path: Path) -> None:
    spec = InputSpec((CameraSpec("scene", 32), CameraSpec("wrist", 32)))
    path = save_checkpoint(Checkpoint(LeWorldModel(small_model_config(), spec), joint_delta_space()), tmp_path / "two")
    processes = Processes()
    own = Probe(processes)
    pictures = own.listen(Image, "two/view_node/annotated_image")
    cameras = {name: own.node.create_publisher(Image, f"two/{name}/image", 1) for name in ("scene", "wrist")}
    given = [word for value in (f"checkpoint:={path}", "panel_px:=64") for word in ("-p", value)]
    processes.start([*node_command("view_node"), *given, "-r", "__ns:=/two"])

    def send(late_s: float) -> None:
        """A light frame of the scene, and a dark one of the wrist so much later."""
        now_ns = own.node.get_clock().now().nanoseconds
        for publisher, value, late_ns in zip(cameras.values(), (200, 100), (0, int(late_s * 1e9)), strict=True):
            header = Header(stamp=ns_to_stamp(now_ns + late_ns))
            publisher.publish(rgb_to_image(np.full((8, 8, 3), value, np.uint8), header))

    def rows() -> list[int]:
        """What is in the middle of the current view, from above."""
        picture = image_to_rgb(pictures[-1])
        return [int(picture[8 + 5 + row * (64 + 8) + 32, 8 + 32, 0]) for row in range(2)]

    timer = own.node.create_timer(0.05, lambda: send(late_s=0.01))
    try:
        own.wait(lambda: pictures and rows() == [200, 100], "a row for each camera")
        timer.cancel()
        own.node.create_timer(0.2, lambda: send(late_s=0.1))  # as far from the scene's next frame
        words = "camera wrist has no frame within 0.025 s of camera scene's"
        own.wait(lambda: own.messages().get("two/view_node") == words, "the camera to be named", 20.0)
    finally:
        processes.interrupt()
        own.close()


TOPIC_KEYS = ("imageTopic", "topic", "topicToRender", "value")


def panels_in(layout: Any) -> Iterator[str]:
    """The panels of a Foxglove layout: a name, or two layouts side by side."""
    if isinstance(layout, str):
        yield layout
    else:
        yield from (*panels_in(layout["first"]), *panels_in(layout["second"]))


def strings(config: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Keys and values of all texts in nested settings."""
    if isinstance(config, str):
        yield name, config
    elif isinstance(config, dict):
        for key, value in config.items():
            yield from strings(value, key)
    elif isinstance(config, list):
        for value in config:
            yield from strings(value, name)


@pytest.mark.parametrize("content", ["missing", "text", "no frames"])
def test_a_gallery_that_cannot_be_used_is_one_line(
    content: str, checkpoint_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gallery = tmp_path / "gallery.h5"
    if content == "text":
        gallery.write_text("frames")
    elif content == "no frames":
        with h5py.File(gallery, "w") as file:
            file["pixels"] = np.zeros(3)
    line = refusal({"view_node": ViewNode}, capfd, f"checkpoint:={checkpoint_path}", f"gallery:={gallery}")
    assert line.startswith(f"view_node: gallery {gallery}: ")
