"""The encoder over DDS: what the goal is, and what images are that do not say it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_processes import Probe, Processes, node_command
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lewm_ros.nodes.conversions import ns_to_stamp, rgb_to_image
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.observation.embedding_images import image_to_embedding
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


class Views(Probe):
    """A probe that shows the encoder frames and goals, and knows what came of them."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(processes)
        self._frames = self.node.create_publisher(Image, "image", 10)
        self._goals = self.node.create_publisher(Image, "goal_image", LATCHED)
        self.embeddings = self.listen(Image, "embedding")
        self.goal_embeddings = self.listen(Image, "goal_embedding", LATCHED)

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def show(self, frame: Image) -> NDArray[np.float32]:
        """Send a frame, again and again, until its embedding is there, which is returned."""
        sent_ns: set[int] = set()
        timer = self.node.create_timer(0.1, lambda: sent_ns.add(self._send(frame)))

        def own() -> list[Image]:
            return [message for message in self.embeddings if stamp_to_ns(message.header.stamp) in sent_ns]

        self.wait(own, "an embedding")
        self.node.destroy_timer(timer)
        return image_to_embedding(own()[0], 1, 16)

    def want(self, goal: Image) -> None:
        """Send a goal image."""
        self._goals.publish(goal)

    def change(self, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self.ask(ChangeState, "encoder_node/change_state", request).success

    def _send(self, frame: Image) -> int:
        """Send a frame with the time of now, which is returned."""
        stamp_ns = self.now_ns()
        frame.header = Header(stamp=ns_to_stamp(stamp_ns))
        self._frames.publish(frame)
        return stamp_ns


@pytest.fixture(scope="module")
def views(checkpoint_path: Path) -> Iterator[Views]:
    """An encoder that takes a bare 8UC3 for BGR, and what it is shown."""
    processes = Processes()
    views = Views(processes)
    fixed = {"checkpoint": checkpoint_path, "device": "cpu", "max_input_age_s": 60.0}
    processes.start(node_command("encoder_node", **fixed, image_encoding="bgr8"))
    yield views
    processes.interrupt()
    views.close()


def test_the_goal_is_the_newest_also_after_a_pause(views: Views) -> None:
    def goals() -> list[int]:
        return [stamp_to_ns(goal.header.stamp) for goal in views.goal_embeddings]

    def pause() -> None:
        """Deactivate and activate; two frames later, whatever goal is announced then has been announced."""
        views.change(Transition.TRANSITION_DEACTIVATE)
        views.change(Transition.TRANSITION_ACTIVATE)
        for seed in (8, 9):
            views.show(rgb_to_image(picture(seed), Header()))

    sent_ns = views.now_ns()
    views.want(rgb_to_image(picture(0), Header(stamp=ns_to_stamp(sent_ns))))
    views.wait(lambda: goals() == [sent_ns], "the goal image's embedding")
    pause()
    assert goals()[-1] == sent_ns, "the goal image is still the goal"

    views.show(rgb_to_image(picture(1), Header()))
    assert views.call("encoder_node/set_goal_from_current").success
    views.wait(lambda: goals()[-1] > sent_ns, "the view's embedding as goal")
    before = goals()
    pause()
    assert goals()[-1] == before[-1], "the view is still the goal, not the older goal image"

    newer_ns = views.now_ns() + NS_PER_S
    views.want(rgb_to_image(picture(2), Header(stamp=ns_to_stamp(newer_ns))))
    views.wait(lambda: goals()[-1] == newer_ns, "the newer goal image's embedding")


def test_images_of_a_bare_type_are_what_the_parameter_says(views: Views) -> None:
    rgb = picture(0)
    bare = rgb_to_image(np.ascontiguousarray(rgb[..., ::-1]), Header())
    bare.encoding = "8UC3"
    embedding = views.show(bare)
    np.testing.assert_array_equal(views.show(rgb_to_image(rgb, Header())), embedding)

    views.want(Image(encoding="8UC1", height=1, width=1, step=1, data=array("B", [1])))
    named = "goal_image: image encoding '8UC1' does not say its colours"
    views.wait(lambda: named in views.messages()["encoder_node"], "the reason why this goal is refused")


def test_a_goal_of_two_cameras_is_taken_when_both_images_are_there(two_camera_path: Path) -> None:
    processes = Processes()
    probe = Probe(processes)
    given = [word for value in (f"checkpoint:={two_camera_path}", "device:=cpu") for word in ("-p", value)]
    processes.start([*node_command("encoder_node"), *given, "-r", "__ns:=/two"])
    goals = probe.listen(Image, "two/goal_embedding", LATCHED)
    topics = (f"two/{name}/goal_image" for name in ("scene", "wrist"))
    scene, wrist = (probe.node.create_publisher(Image, topic, LATCHED) for topic in topics)

    def at(time_s: float, seed: int) -> Image:
        return rgb_to_image(picture(seed), Header(stamp=ns_to_stamp(round(time_s * NS_PER_S))))

    def said(words: str) -> None:
        probe.wait(lambda: words in probe.messages().get("two/encoder_node", ""), words)

    try:
        scene.publish(at(100.0, 1))
        said("wrist/goal_image: missing, while other cameras have theirs")
        wrist.publish(at(98.0, 2))
        said("wrist/goal_image: not stamped within 0.025 s of scene/goal_image")
        assert goals == []
        wrist.publish(at(100.01, 2))
        probe.wait(lambda: goals, "the goal")
        assert (goals[0].height, goals[0].width) == (2, 16), "a row of each camera, none of the vectors"
        assert stamp_to_ns(goals[0].header.stamp) == 100 * NS_PER_S
        wrist.publish(Image(header=Header(stamp=ns_to_stamp(101 * NS_PER_S))))
        probe.wait(lambda: goals[-1].height == 0, "the goal to be withdrawn")
    finally:
        processes.interrupt()
        probe.close()
