"""encoder_node: camera frames in, CLS embeddings out."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from lewm_ros.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from lewm_ros.model.pixels import fit_frame, normalise_pixels
from lewm_ros.nodes.conversions import compressed_to_rgb, embedding_to_image, image_to_rgb, stamp_to_ns
from lewm_ros.nodes.diagnostics import Diagnostics, Report, percentiles
from lewm_ros.nodes.inference import Worker, declare_device
from lewm_ros.nodes.inputs import Input
from lewm_ros.nodes.parameters import Parameters
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE
from lewm_ros.nodes.runner import run

Frame = Image | CompressedImage
Embedding = NDArray[np.float32]

LOG_PERIOD_S = 5.0


class EncoderNode(Node):
    """Publishes the embedding of every frame it has time for, always the newest, with the frame's own header."""

    def __init__(self) -> None:
        super().__init__("encoder_node")
        parameters = Parameters(self)
        path = parameters.declare("checkpoint", "default", "'default' or the path of a checkpoint's NAME.json")
        device = declare_device(parameters)
        transport = parameters.declare(
            "image_transport",
            "raw",
            "raw: topic image; compressed: topic image/compressed",
            choices=("raw", "compressed"),
        )
        max_age_s = parameters.declare(
            "max_input_age_s", 0.5, "oldest frame that counts as current, s", low=0.01, high=60.0
        )
        parameters.refuse_unknown()

        self._checkpoint = load_checkpoint(path, device)
        self._device = device
        self._encode(np.zeros((8, 8, 3), np.uint8))  # so that the first frame is as fast as the others
        self._to_rgb: Callable[[Frame], NDArray[np.uint8]] = image_to_rgb if transport == "raw" else compressed_to_rgb
        topic = "image" if transport == "raw" else "image/compressed"
        self._image: Input[Embedding] = Input(topic, max_age_s)
        self._goal_image: Input[Embedding] = Input("goal_image")
        self._current: tuple[Header, Embedding] | None = None
        self._latencies_s: deque[float] = deque(maxlen=200)

        self._embedding = self.create_publisher(Image, "embedding", RELIABLE)
        self._goal_embedding = self.create_publisher(Image, "goal_embedding", LATCHED)
        model_info = self.create_publisher(String, "model_info", LATCHED)
        model_info.publish(String(data=json.dumps(describe(self._checkpoint))))
        self._worker: Worker[str, Frame] = Worker(self._handle, self.context.try_shutdown)
        self.create_subscription(Image if transport == "raw" else CompressedImage, topic, self._on_image, NEWEST_FRAME)
        self.create_subscription(Image, "goal_image", self._on_goal_image, LATCHED)
        self.create_service(Trigger, "~/set_goal_from_current", self._set_goal_from_current)
        Diagnostics(self, self._checkpoint.identity, self._report)

    def destroy_node(self) -> None:
        self._worker.close()
        super().destroy_node()

    def _on_image(self, message: Frame) -> None:
        self._image.arrived(stamp_to_ns(message.header.stamp))
        self._worker.put("image", message)

    def _on_goal_image(self, message: Image) -> None:
        self._goal_image.arrived(stamp_to_ns(message.header.stamp))
        self._worker.put("goal_image", message)

    def _handle(self, pending: dict[str, Frame]) -> None:
        # The frame first: once a goal's embedding is out, no frame older than the goal follows it.
        if "image" in pending:
            message = pending["image"]
            started_s = time.monotonic()
            embedding = self._read(self._image, lambda: self._encode(self._to_rgb(message)))
            if embedding is not None:
                self._latencies_s.append(time.monotonic() - started_s)
                self._current = message.header, embedding
                self._embedding.publish(embedding_to_image(embedding, message.header))
        if "goal_image" in pending:
            goal = pending["goal_image"]
            embedding = self._read(self._goal_image, lambda: self._encode(image_to_rgb(goal)))
            if embedding is not None:
                self._goal_embedding.publish(embedding_to_image(embedding, goal.header))

    def _read(self, source: Input[Embedding], parse: Callable[[], Embedding]) -> Embedding | None:
        embedding = source.read(parse)
        if embedding is None:
            self.get_logger().error(f"{source.name}: {source.error}", throttle_duration_sec=LOG_PERIOD_S)
        return embedding

    @torch.inference_mode()
    def _encode(self, frame: NDArray[np.uint8]) -> Embedding:
        """RGB frame (height, width, 3) -> embedding (D,)."""
        model = self._checkpoint.model
        fitted = torch.from_numpy(fit_frame(frame, model.config.encoder.image_size)).to(self._device)
        embedding = model.encode(normalise_pixels(fitted).unsqueeze(0))[0].float().cpu().numpy()
        if not np.isfinite(embedding).all():
            raise CheckpointError(
                f"checkpoint {self._checkpoint.identity}: its embeddings are not finite; choose another"
            )
        return embedding

    def _set_goal_from_current(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = self._image.problem(self.get_clock().now().nanoseconds)
        if problem or self._current is None:
            response.message = f"no current view: {problem or 'the first frame is still being encoded'}"
            return response
        header, embedding = self._current
        self._goal_embedding.publish(embedding_to_image(embedding, header))
        response.success = True
        response.message = f"the goal is the view of {header.stamp.sec}.{header.stamp.nanosec:09d}"
        return response

    def _report(self) -> Report:
        now_ns = self.get_clock().now().nanoseconds
        values = self._image.report(now_ns) | self._goal_image.report(now_ns)
        values |= percentiles("encode_latency", self._latencies_s)
        errors = [source.problem(now_ns) for source in (self._image, self._goal_image) if source.error]
        if errors:
            return Report.error("; ".join(errors), values)
        problem = self._image.problem(now_ns)
        return Report.warn(problem, values) if problem else Report.ok("encoding", values)


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


def main(args: list[str] | None = None) -> int:
    """Run the node; returns the exit status."""
    return run("encoder_node", EncoderNode, args)


if __name__ == "__main__":
    sys.exit(main())
