"""What the view hears: frames and goals with their embeddings, and what the planner says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Header, String

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.nodes.conversions import CameraMessage
from lewm_ros.nodes.image_transport import Transport, camera_topics
from lewm_ros.nodes.planner.planner_inputs import encoder_mismatch
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE
from lewm_ros.nodes.subscriptions import Input
from lewm_ros.nodes.view.gallery import EmbeddedFrames, Embedding
from lewm_ros.observation.alignment import FramePairing
from lewm_ros.observation.embedding_images import image_to_embedding, image_to_goals
from lewm_ros.observation.observation import Frame
from lewm_ros.observation.stamps import stamp_to_ns
from lewm_ros.observation.timeline import ClockJump, Held

T = TypeVar("T")

PREDICTED = "planner_node/predicted_embedding"
LOG_PERIOD_S = 5.0
PAIRED_VIEWS = 10
"""The newest views are kept until their embeddings are there."""
SHOWN_S = 3.0
"""How long the planner's figures are shown after the newest one."""


class Recent(Generic[T]):
    """A value that is forgotten after `SHOWN_S`."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._taken_s = -math.inf

    def put(self, value: T) -> None:
        """Take in a value."""
        self._value, self._taken_s = value, time.monotonic()

    def get(self) -> T | None:
        """The newest value, if it is still recent."""
        return self._value if time.monotonic() - self._taken_s < SHOWN_S else None


class View(NamedTuple):
    """Messages of the cameras that belong together, by camera, and the header of the leading one."""

    header: Header
    messages: dict[str, CameraMessage]


class Goal(NamedTuple):
    """Frames (height, width, 3) by camera and, once it is known, the embedding (Kg, D)."""

    frames: dict[str, Frame]
    embedding: Embedding | None


class Prediction(NamedTuple):
    """The state (K, D) that a plan is to end in, and when."""

    stamp_ns: int
    state: NDArray[np.float32]


class ViewInputs:
    """Subscribes to what is shown. Frames are fitted to the model, as it sees them.

    Args:
        node: subscribes.
        checkpoint: what the inputs must fit.
        transport: of the cameras' frames.
        tolerance_s: how far stamps of two cameras may differ that belong together.
        max_age_s: oldest frame that counts as current.
        on_pair: called with every view whose embedding has come, and what a goal has of that (Kg, D).
    """

    def __init__(
        self,
        node: Node,
        checkpoint: Checkpoint,
        transport: Transport,
        tolerance_s: float,
        max_age_s: Callable[[], float],
        on_pair: Callable[[View, Embedding], None],
    ) -> None:
        spec = checkpoint.inputs
        cameras, goal_cameras = ([camera.name for camera in some.cameras] for some in (spec, spec.of_goal()))
        topics, goal_topics = transport.topics(cameras), camera_topics(cameras, "goal_image")
        self._to_rgb = transport.to_rgb
        self._node, self._checkpoint, self._on_pair = node, checkpoint, on_pair
        self._fit = {camera.name: camera.fit for camera in spec.cameras}
        self._images: dict[str, Input[Frame]] = {name: Input(topics[name], max_age_s) for name in cameras}
        self._goal_images: dict[str, Input[Frame]] = {name: Input(goal_topics[name]) for name in goal_cameras}
        self._embeddings = {name: Input[Embedding](name) for name in ("embedding", "goal_embedding", PREDICTED)}
        self._pairing = FramePairing(cameras, tolerance_s)
        self._goal_pairing = FramePairing(goal_cameras, tolerance_s)
        self._seen: EmbeddedFrames[View, Embedding] = EmbeddedFrames(PAIRED_VIEWS)
        self._goals: EmbeddedFrames[View, Embedding] = EmbeddedFrames(1)
        self._model_error = ""
        self.newest: View | None = None
        self.goal: Goal | None = None
        self.predicted: Recent[Prediction] = Recent()
        self.cost: Recent[float] = Recent()
        self.surprise: Recent[float] = Recent()
        for name, topic in topics.items():
            node.create_subscription(transport.kind, topic, partial(self._on_image, name), NEWEST_FRAME)
        for name in goal_cameras:
            node.create_subscription(Image, goal_topics[name], partial(self._on_goal_image, name), LATCHED)
        node.create_subscription(Image, "embedding", self._on_embedding, RELIABLE)
        node.create_subscription(Image, "goal_embedding", self._on_goal_embedding, LATCHED)
        node.create_subscription(String, "model_info", self._on_model_info, LATCHED)
        node.create_subscription(Image, PREDICTED, self._on_predicted, RELIABLE)
        node.create_subscription(Float64, "planner_node/plan_cost", lambda m: self.cost.put(m.data), RELIABLE)
        node.create_subscription(Float64, "planner_node/surprise", lambda m: self.surprise.put(m.data), RELIABLE)

    def frames(self, view: View) -> dict[str, Frame]:
        """The frames (height, width, 3) of a view by camera, without those that cannot be read."""
        return self._read_frames(self._images, view)

    def missing(self, now_ns: int) -> str:
        """Why there is no current view; empty if there is one."""
        problems = (source.problem(now_ns) for source in self._images.values())
        return next(filter(None, problems), "") or self._pairing.problem

    def problem(self) -> str:
        """What came in and cannot be used; empty if all can."""
        sources = (*self._images.values(), *self._goal_images.values(), *self._embeddings.values())
        errors = [self._model_error, *(f"{source.name}: {source.error}" for source in sources if source.error)]
        return "; ".join(filter(None, errors))

    def report(self, now_ns: int) -> dict[str, object]:
        """Rates and ages for the diagnostics."""
        sources = (*self._images.values(), *self._embeddings.values())
        return {key: value for source in sources for key, value in source.report(now_ns).items()}

    def _on_image(self, camera: str, message: CameraMessage) -> None:
        source = self._images[camera]
        source.arrived(stamp_to_ns(message.header.stamp))
        for view in pair(self._pairing, source, camera, message):
            self.newest = view
            embedding = self._seen.left(stamp_to_ns(view.header.stamp), view)
            if embedding is not None:
                self._on_pair(view, embedding)

    def _on_embedding(self, message: Image) -> None:
        stamp_ns, state = self._read_state("embedding", message)
        if state is None:
            return
        embedding = state[list(self._checkpoint.goal_tokens)]
        view = self._seen.right(stamp_ns, embedding)
        if view is not None:
            self._on_pair(view, embedding)

    def _on_goal_image(self, camera: str, message: Image) -> None:
        source = self._goal_images[camera]
        source.arrived(stamp_to_ns(message.header.stamp))
        self.goal = None
        if message.data:
            for view in pair(self._goal_pairing, source, camera, message):
                self._see_goal(view, self._goals.left(stamp_to_ns(view.header.stamp), view))

    def _on_goal_embedding(self, message: Image) -> None:
        if not message.data:
            self.goal = None
            return
        tokens = len(self._checkpoint.goal_tokens)
        stamp_ns, goals = self._read_embedding("goal_embedding", message, tokens, image_to_goals)
        if goals is None:
            return
        embedding = goals[-1]  # of several in order the last, whose stamp they have
        view = self._goals.right(stamp_ns, embedding)
        if view is None:  # the goal may be what the cameras saw
            view = self._seen.right(stamp_ns, embedding)
        if view is not None:
            self._see_goal(view, embedding)

    def _see_goal(self, view: View, embedding: Embedding | None) -> None:
        frames = self._read_frames(self._goal_images, view)
        self.goal = Goal(frames, embedding) if frames else None

    def _on_predicted(self, message: Image) -> None:
        stamp_ns, state = self._read_state(PREDICTED, message)
        if state is not None:
            self.predicted.put(Prediction(stamp_ns, state))

    def _on_model_info(self, message: String) -> None:
        self._model_error = encoder_mismatch(message, self._checkpoint.identity)

    def _read_state(self, name: str, message: Image) -> tuple[int, NDArray[np.float32] | None]:
        """The stamp of a state, and the state (K, D)."""
        return self._read_embedding(name, message, self._checkpoint.state_shape[0], image_to_embedding)

    def _read_embedding(
        self, name: str, message: Image, tokens: int, parse: Callable[[Image, int, int], Embedding]
    ) -> tuple[int, Embedding | None]:
        source, stamp_ns = self._embeddings[name], stamp_to_ns(message.header.stamp)
        source.arrived(stamp_ns)
        _, dimension = self._checkpoint.state_shape
        return stamp_ns, self._read(source, lambda: parse(message, tokens, dimension))

    def _read_frames(self, sources: dict[str, Input[Frame]], view: View) -> dict[str, Frame]:
        frames = {
            name: self._read(source, partial(self._fitted, name, view.messages[name]))
            for name, source in sources.items()
        }
        return {name: frame for name, frame in frames.items() if frame is not None}

    def _read(self, source: Input[T], parse: Callable[[], T]) -> T | None:
        value = source.read(parse)
        if value is None:
            self._node.get_logger().error(f"{source.name}: {source.error}", throttle_duration_sec=LOG_PERIOD_S)
        return value

    def _fitted(self, camera: str, message: CameraMessage) -> Frame:
        return self._fit[camera](self._to_rgb(message))


def pair(pairing: FramePairing, source: Input[Frame], camera: str, message: CameraMessage) -> list[View]:
    """The views that a message completes; where a clock jumps back, pairing begins anew with it."""
    stamp_ns = stamp_to_ns(message.header.stamp)
    held = Held(stamp_ns, stamp_ns, message)
    try:
        complete = pairing.push(camera, held)
    except ClockJump:
        pairing.restart()
        complete = pairing.push(camera, held)
    except ValueError as error:  # a stamp of zero, which has no time to be paired by
        source.error = str(error)
        return []
    views = ({name: frame.value for name, frame in paired.frames.items()} for paired in complete)
    return [View(next(iter(messages.values())).header, messages) for messages in views]
