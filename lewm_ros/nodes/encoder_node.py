"""encoder_node: camera frames in, CLS embeddings out."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import Image, TimeReference
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from lewm_ros.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from lewm_ros.model.pixels import fit_frame, normalise_frame
from lewm_ros.nodes.conversions import CameraMessage, embedding_to_image, matrix_to_image, ns_to_stamp
from lewm_ros.nodes.diagnostics import Status, percentiles
from lewm_ros.nodes.image_transport import declare_transport
from lewm_ros.nodes.inference import Worker, declare_device
from lewm_ros.nodes.inputs import Input
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns

Embedding = NDArray[np.float32]

LOG_PERIOD_S = 5.0
MAX_ENCODE_S = 2.0
KEPT_FRAMES = 200


class Arrival(NamedTuple):
    """A frame, and when it was received, in wall time."""

    message: CameraMessage
    received_ns: int

    @classmethod
    def of(cls, message: CameraMessage, info: dict[str, Any]) -> Arrival:
        """By the middleware's clock, or by this node's if the middleware does not say."""
        return cls(message, info["received_timestamp"] or time.time_ns())


class EncoderNode(ManagedNode):
    """Publishes the embedding of every frame it has time for, always the newest, with the frame's own header."""

    def __init__(self) -> None:
        super().__init__("encoder_node")
        declare = self.parameters.declare
        self._path = declare("checkpoint", "default", "'default' or the path of a checkpoint's NAME.json")
        self._choose_device = declare_device(self.parameters)
        self._choose_transport = declare_transport(self.parameters)
        self._max_age_s = declare(
            "max_input_age_s", 0.4, "oldest frame that counts as current", unit="s", low=0.01, high=60.0, live=True
        )
        self._min_contrast = declare(
            "min_contrast",
            8,
            "a frame whose values differ by less is refused as black or blank",
            unit="of 255",
            low=0,
            high=255,
            live=True,
        )
        self.parameters.seal()
        self._checkpoint: Checkpoint | None = None
        self._worker: Worker[str, Arrival] | None = None

    # Lifecycle

    def configure(self) -> None:
        self._device = self._choose_device()
        self._checkpoint = load_checkpoint(self._path(), self._device)
        self.diagnostics.hardware_id = self._checkpoint.identity
        self._network_s = 0.0
        self._encode(np.zeros((8, 8, 3), np.uint8))  # so that the first frame is as fast as the others
        self._transport = self._choose_transport()
        self._image: Input[Embedding] = Input(self._transport.topic, self._max_age_s)
        self._goal_image: Input[Embedding] = Input("goal_image")
        self._goal: Arrival | None = None  # the newest goal image; None once a view of the camera is the goal
        self._goal_lock = threading.Lock()
        self._current: tuple[Header, Embedding] | None = None
        self._latencies_s: deque[float] = deque(maxlen=KEPT_FRAMES)
        self._around_network_s: deque[float] = deque(maxlen=KEPT_FRAMES)

        self._embedding = self.create_lifecycle_publisher(Image, "embedding", RELIABLE)
        self._received = self.create_lifecycle_publisher(TimeReference, "embedding_received", RELIABLE)
        self._goal_embedding = self.create_lifecycle_publisher(Image, "goal_embedding", LATCHED)
        self._model_info = self.create_lifecycle_publisher(String, "model_info", LATCHED)
        self._worker = Worker(self._handle, self.get_logger().error)
        self.create_subscription(self._transport.kind, self._transport.topic, self._on_image, NEWEST_FRAME)
        self.create_subscription(Image, "goal_image", self._on_goal_image, LATCHED)
        self.create_service(Trigger, "~/set_goal_from_current", self._set_goal_from_current)

    def activate(self) -> None:
        self._model_info.publish(String(data=json.dumps(describe(self._checkpoint))))
        if self._goal is not None:
            self._worker.put("goal_image", self._goal)

    def deactivate(self) -> None:
        self._worker.clear()
        self._current = None

    def cleanup(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = self._checkpoint = None

    # Frames and goals

    def _on_image(self, message: CameraMessage, info: dict[str, Any]) -> None:
        self._image.arrived(stamp_to_ns(message.header.stamp), info["publication_sequence_number"])
        if self.state == "active" and not self._image.mixed:
            self._worker.put("image", Arrival.of(message, info))

    def _on_goal_image(self, message: Image, info: dict[str, Any]) -> None:
        self._goal_image.arrived(stamp_to_ns(message.header.stamp))
        self._goal = Arrival.of(message, info)
        if self.state == "active":
            self._worker.put("goal_image", self._goal)

    def _handle(self, pending: dict[str, Arrival]) -> None:
        """Encode what is pending; runs in the inference thread."""
        # The frame first: once a goal's embedding is out, no frame older than the goal follows it.
        if "image" in pending:
            (message, received_ns), to_rgb = pending["image"], self._transport.to_rgb
            started_s = time.monotonic()
            embedding = self._read(self._image, lambda: self._encode(to_rgb(message), self._min_contrast()))
            if embedding is not None:
                self._latencies_s.append(time.monotonic() - started_s)
                self._current = message.header, embedding
                self._embedding.publish(embedding_to_image(embedding, message.header))
                self._around_network_s.append((time.time_ns() - received_ns) / NS_PER_S - self._network_s)
                reference = TimeReference(header=message.header, time_ref=ns_to_stamp(received_ns), source="system")
                self._received.publish(reference)
        if "goal_image" in pending:
            self._handle_goal(pending["goal_image"])

    def _handle_goal(self, goal: Arrival) -> None:
        message, to_rgb = goal.message, self._transport.to_rgb
        if not message.data:
            self._goal_image.forget("the goal was withdrawn")
            self._announce(goal, matrix_to_image(np.empty((0, 0), np.float32), message.header))
            return
        embedding = self._read(self._goal_image, lambda: self._encode(to_rgb(message), self._min_contrast()))
        if embedding is not None:
            self._announce(goal, embedding_to_image(embedding, message.header))

    def _announce(self, goal: Arrival | None, embedding: Image) -> None:
        """Publish the embedding of a goal, unless another goal came while it was encoded."""
        with self._goal_lock:
            if goal is self._goal:
                self._goal_embedding.publish(embedding)

    def _read(self, source: Input[Embedding], parse: Callable[[], Embedding]) -> Embedding | None:
        embedding = source.read(parse)
        if embedding is None:
            self.get_logger().error(f"{source.name}: {source.error}", throttle_duration_sec=LOG_PERIOD_S)
        return embedding

    @torch.inference_mode()
    def _encode(self, frame: NDArray[np.uint8], min_contrast: int = 0) -> Embedding:
        """RGB frame (height, width, 3) -> embedding (D,)."""
        model = self._checkpoint.model
        fitted = fit_frame(frame, model.config.encoder.image_size)
        channels = np.moveaxis(fitted[::4, ::4], -1, 0).reshape(3, -1)
        if np.ptp(channels, axis=1).max() < min_contrast:
            raise ValueError(
                f"the frame is black or blank (values differ by less than {min_contrast}); check lens, light, exposure"
            )
        pixels = normalise_frame(fitted).to(self._device)
        started_s = time.monotonic()
        embedding = model.encode(pixels)[0].float().cpu().numpy()
        self._network_s = time.monotonic() - started_s
        if not np.isfinite(embedding).all():
            raise CheckpointError(
                f"checkpoint {self._checkpoint.identity}: its embeddings are not finite; choose another"
            )
        return embedding

    def _set_goal_from_current(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = self._image.problem(self._now_ns()) if self.state == "active" else f"the node is {self.state}"
        if problem or self._current is None:
            response.message = f"no current view: {problem or 'the first frame is still being encoded'}"
            return response
        header, embedding = self._current
        with self._goal_lock:
            self._goal = None
        self._goal_image.forget("the goal is a view of the camera")
        self._announce(None, embedding_to_image(embedding, header))
        response.success = True
        response.message = f"the goal is the view of {header.stamp.sec}.{header.stamp.nanosec:09d}"
        return response

    # Diagnostics

    def status(self) -> Status:
        now_ns = self._now_ns()
        errors = [source.problem(now_ns) for source in (self._image, self._goal_image) if source.error or source.mixed]
        errors += [self._worker.overdue(MAX_ENCODE_S), self._worker.failure]
        errors = list(filter(None, errors))
        if errors:
            return Status.error("; ".join(errors))
        problem = self._image.problem(now_ns)
        return Status.warn(problem) if problem else Status.ok("encoding")

    def values(self) -> dict[str, Any]:
        now_ns = self._now_ns()
        return (
            self._image.report(now_ns)
            | self._goal_image.report(now_ns)
            | percentiles("encode_latency", self._latencies_s)
            | percentiles("around_network", self._around_network_s)
        )

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def describe(checkpoint: Checkpoint) -> dict[str, object]:
    """What the other nodes may need to know of a checkpoint."""
    config = checkpoint.model.config
    return {
        "checkpoint": checkpoint.identity,
        "embedding_dim": config.embedding_dim,
        "image_size": config.encoder.image_size,
        "history": config.history,
        "action_space": asdict(checkpoint.action_space),
    }
