"""What the view hears: frames and goals with their embeddings, and what the planner says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, String

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.pixels import fit_frame
from lewm_ros.nodes.conversions import CameraMessage
from lewm_ros.nodes.image_transport import Transport
from lewm_ros.nodes.inputs import Input
from lewm_ros.nodes.planner.inputs import encoder_mismatch
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE
from lewm_ros.observation.embeddings import image_to_embedding
from lewm_ros.observation.gallery import Pairs
from lewm_ros.observation.stamps import stamp_to_ns

T = TypeVar("T")
Frame = NDArray[np.uint8]
Vector = NDArray[np.float32]

PREDICTED = "planner_node/predicted_embedding"
LOG_PERIOD_S = 5.0
PAIRED_FRAMES = 10
"""The newest frames are kept until their embeddings are there."""
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


class Goal(NamedTuple):
    """A frame (height, width, 3) and, once it is known, its embedding (D,)."""

    frame: Frame
    embedding: Vector | None


class ViewInputs:
    """Subscribes to what is shown. Frames are fitted to the model, as it sees them.

    Args:
        node: subscribes.
        checkpoint: what the inputs must fit.
        transport: of the camera's frames.
        max_age_s: oldest frame that counts as current.
        on_pair: called with the stamp, the message and the embedding (D,) of every frame for which both came.
    """

    def __init__(
        self,
        node: Node,
        checkpoint: Checkpoint,
        transport: Transport,
        max_age_s: Callable[[], float],
        on_pair: Callable[[int, CameraMessage, Vector], None],
    ) -> None:
        self._to_rgb = transport.to_rgb
        self._node, self._checkpoint, self._on_pair = node, checkpoint, on_pair
        self.image: Input[Frame] = Input(transport.topic, max_age_s)
        self.newest: CameraMessage | None = None
        self.goal: Goal | None = None
        self.predicted: Recent[tuple[int, Vector]] = Recent()
        self.cost: Recent[float] = Recent()
        self.surprise: Recent[float] = Recent()
        self._goal_image: Input[Frame] = Input("goal_image")
        self._embeddings = {name: Input[Vector](name) for name in ("embedding", "goal_embedding", PREDICTED)}
        self._seen: Pairs[CameraMessage, Vector] = Pairs(PAIRED_FRAMES)
        self._goals: Pairs[Image, Vector] = Pairs(1)
        self._model_error = ""
        node.create_subscription(transport.kind, transport.topic, self._on_image, NEWEST_FRAME)
        node.create_subscription(Image, "embedding", self._on_embedding, RELIABLE)
        node.create_subscription(Image, "goal_image", self._on_goal_image, LATCHED)
        node.create_subscription(Image, "goal_embedding", self._on_goal_embedding, LATCHED)
        node.create_subscription(String, "model_info", self._on_model_info, LATCHED)
        node.create_subscription(Image, PREDICTED, self._on_predicted, RELIABLE)
        node.create_subscription(Float64, "planner_node/plan_cost", lambda m: self.cost.put(m.data), RELIABLE)
        node.create_subscription(Float64, "planner_node/surprise", lambda m: self.surprise.put(m.data), RELIABLE)

    def frame(self, message: CameraMessage) -> Frame | None:
        """A frame of the camera as RGB (height, width, 3); None if it cannot be read."""
        return self._read(self.image, lambda: self._fitted(self._to_rgb(message)))

    def problem(self) -> str:
        """What came in and cannot be used; empty if all can."""
        sources = (self.image, self._goal_image, *self._embeddings.values())
        errors = [self._model_error, *(f"{source.name}: {source.error}" for source in sources if source.error)]
        return "; ".join(filter(None, errors))

    def report(self, now_ns: int) -> dict[str, object]:
        """Rates and ages for the diagnostics."""
        sources = (self.image, *self._embeddings.values())
        return {key: value for source in sources for key, value in source.report(now_ns).items()}

    def _on_image(self, message: CameraMessage) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        self.image.arrived(stamp_ns)
        self.newest = message
        embedding = self._seen.left(stamp_ns, message)
        if embedding is not None:
            self._on_pair(stamp_ns, message, embedding)

    def _on_embedding(self, message: Image) -> None:
        stamp_ns, embedding = self._read_embedding("embedding", message)
        if embedding is None:
            return
        frame = self._seen.right(stamp_ns, embedding)
        if frame is not None:
            self._on_pair(stamp_ns, frame, embedding)

    def _on_goal_image(self, message: Image) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        self._goal_image.arrived(stamp_ns)
        self.goal = None
        if message.data:
            self._see_goal(message, self._goals.left(stamp_ns, message))

    def _on_goal_embedding(self, message: Image) -> None:
        if not message.data:
            self.goal = None
            return
        stamp_ns, embedding = self._read_embedding("goal_embedding", message)
        if embedding is None:
            return
        shown = self._goals.right(stamp_ns, embedding)
        if shown is None:  # the goal may be a frame of the camera
            shown = self._seen.right(stamp_ns, embedding)
        if shown is not None:
            self._see_goal(shown, embedding)

    def _see_goal(self, message: CameraMessage, embedding: Vector | None) -> None:
        frame = self._read(self._goal_image, lambda: self._fitted(self._to_rgb(message)))
        self.goal = None if frame is None else Goal(frame, embedding)

    def _on_predicted(self, message: Image) -> None:
        stamp_ns, embedding = self._read_embedding(PREDICTED, message)
        if embedding is not None:
            self.predicted.put((stamp_ns, embedding))

    def _on_model_info(self, message: String) -> None:
        self._model_error = encoder_mismatch(message, self._checkpoint.identity)

    def _read_embedding(self, name: str, message: Image) -> tuple[int, Vector | None]:
        source, stamp_ns = self._embeddings[name], stamp_to_ns(message.header.stamp)
        source.arrived(stamp_ns)
        dimension = self._checkpoint.model.config.embedding_dim
        return stamp_ns, self._read(source, lambda: image_to_embedding(message, dimension))

    def _read(self, source: Input[T], parse: Callable[[], T]) -> T | None:
        value = source.read(parse)
        if value is None:
            self._node.get_logger().error(f"{source.name}: {source.error}", throttle_duration_sec=LOG_PERIOD_S)
        return value

    def _fitted(self, frame: Frame) -> Frame:
        return fit_frame(frame, self._checkpoint.model.config.encoder.image_size)
