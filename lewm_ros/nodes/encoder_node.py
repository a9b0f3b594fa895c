"""encoder_node: camera frames and joint states in, the model's embeddings out."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState, TimeReference
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from lewm_ros.config import ConfigError, to_mapping
from lewm_ros.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from lewm_ros.model.inputs import fitted_inputs
from lewm_ros.nodes.conversions import CameraMessage, matrix_to_image, ns_to_stamp
from lewm_ros.nodes.diagnostics import Status, percentiles
from lewm_ros.nodes.image_transport import camera_topics, declare_transport
from lewm_ros.nodes.inference import Worker, declare_device
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE, SHARED
from lewm_ros.nodes.subscriptions import Input
from lewm_ros.observation.alignment import AlignedInputs, Alignment
from lewm_ros.observation.goal_folder import read_goal_folder
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.observation import Frame, Observation, Vector
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.observation.timeline import ClockJump, Held

Embedding = NDArray[np.float32]
"""A row per token (K, D); of a goal (Kg, D)."""

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


class GoalImages(NamedTuple):
    """The images of a goal by camera, none if the goal is withdrawn."""

    header: Header
    messages: dict[str, Image]


class EncoderNode(ManagedNode):
    """Publishes the embedding of every view it has time for, always the newest, with its first camera's own header."""

    def __init__(self) -> None:
        super().__init__("encoder_node")
        declare = self.parameters.declare
        self._path = declare("checkpoint", "default", "default, pick_place, push, or the path of a NAME.json")
        self._goal_folder = declare("goal_folder", "", "folder of numbered images, the goals in order; empty: none")
        self._choose_device = declare_device(self.parameters)
        self._choose_transport = declare_transport(self.parameters)
        self._max_age_s = declare(
            "max_input_age_s", 0.4, "oldest frame that counts as current", unit="s", low=0.01, high=60.0, live=True
        )
        self._pair_tolerance_s = declare(
            "pair_tolerance_s",
            0.025,
            "how far the stamps of two cameras' frames, or goal images, may differ that belong together",
            unit="s",
            low=0.0,
            high=10.0,
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
        self._worker: Worker[str, Any] | None = None

    # Lifecycle

    def configure(self) -> None:
        self._device = self._choose_device()
        self._checkpoint = load_checkpoint(self._path(), self._device)
        self.diagnostics.hardware_id = self._checkpoint.identity
        if self._checkpoint.inputs.of_goal().vectors:
            raise CheckpointError(
                f"checkpoint '{self._checkpoint.name}': goals have vectors, which goal images do not bring"
            )
        self._network_s = 0.0
        self._encode(*blank(self._checkpoint))  # so that the first frame is as fast as the others
        self._transport = self._choose_transport()
        spec = self._checkpoint.inputs
        cameras, goal_cameras = ([camera.name for camera in some.cameras] for some in (spec, spec.of_goal()))
        topics, goal_topics = self._transport.topics(cameras), camera_topics(cameras, "goal_image")
        vectors = [vector.name for vector in spec.vectors]
        drivers = "from joint_states; do the arm's drivers run?"
        self._cameras = {camera.name: camera for camera in spec.cameras}
        self._images: dict[str, Input[Frame]] = {name: Input(topics[name], self._max_age_s) for name in cameras}
        self._goal_images: dict[str, Input[Frame]] = {name: Input(goal_topics[name]) for name in goal_cameras}
        self._vectors: dict[str, Input[Vector]] = {name: Input(name, self._max_age_s, drivers) for name in vectors}
        self._alignment = Alignment(cameras, self._pair_tolerance_s(), vectors, self._max_age_s)
        self._shown: dict[str, Image] = {}  # the newest goal image of every camera
        self._goal: GoalImages | None = None  # the newest images of a goal; None once a view is the goal
        self._goals: tuple[Embedding, ...] = ()  # as announced last, in order
        self._goals_at_start = self._read_goals()
        self._goal_lock = threading.Lock()
        self._current: tuple[Header, Embedding] | None = None  # what a goal has of the newest view
        self._latencies_s: deque[float] = deque(maxlen=KEPT_FRAMES)
        self._around_network_s: deque[float] = deque(maxlen=KEPT_FRAMES)

        self._embedding = self.create_lifecycle_publisher(Image, "embedding", RELIABLE)
        self._received = self.create_lifecycle_publisher(TimeReference, "embedding_received", RELIABLE)
        self._goal_embedding = self.create_lifecycle_publisher(Image, "goal_embedding", LATCHED)
        self._model_info = self.create_lifecycle_publisher(String, "model_info", LATCHED)
        self._worker = Worker(self._handle, self.get_logger().error)
        for name, topic in topics.items():
            on_image = self._with_info(self._on_image, name)
            self.create_subscription(self._transport.kind, topic, on_image, NEWEST_FRAME)
        for name in goal_cameras:
            self.create_subscription(Image, goal_topics[name], partial(self._on_goal_image, name), LATCHED)
        if vectors:
            self.create_subscription(JointState, "joint_states", self._on_joints, SHARED)
        self.create_service(Trigger, "~/set_goal_from_current", self._set_goal_from_current)
        self.create_service(Trigger, "~/add_goal_from_current", self._add_goal_from_current)
        self.create_service(Trigger, "~/clear_goals", self._clear_goals)

    def activate(self) -> None:
        self._model_info.publish(String(data=json.dumps(describe(self._checkpoint))))
        goals, self._goals_at_start = self._goals_at_start, ()
        if self._goal is not None:
            self._worker.put("goal", self._goal)
        elif goals:
            self._announce(None, goals, Header(stamp=ns_to_stamp(self._now_ns())))

    def deactivate(self) -> None:
        self._worker.clear()
        self._alignment.restart()
        self._current = None

    def cleanup(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = self._checkpoint = None

    # Views and goals

    @staticmethod
    def _with_info(
        take: Callable[[str, CameraMessage, dict[str, Any]], None], camera: str
    ) -> Callable[[CameraMessage, dict[str, Any]], None]:
        """A callback of the two arguments by which rclpy knows that it wants the message's info."""

        def callback(message: CameraMessage, info: dict[str, Any]) -> None:
            take(camera, message, info)

        return callback

    def _on_image(self, camera: str, message: CameraMessage, info: dict[str, Any]) -> None:
        source, stamp_ns = self._images[camera], stamp_to_ns(message.header.stamp)
        source.arrived(stamp_ns, info["publication_sequence_number"])
        if self.state == "active" and not source.mixed:
            frame = Held(stamp_ns, stamp_ns, Arrival.of(message, info))
            self._offer(source, partial(self._alignment.push_frame, camera, frame))

    def _on_joints(self, message: JointState) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        for vector in self._checkpoint.inputs.vectors:
            source = self._vectors[vector.name]
            if not source.concerns(message.name, vector.components):
                continue
            source.arrived(stamp_ns)
            value = source.read(partial(joint_positions, message, vector.components))
            if self.state == "active" and value is not None:
                held = Held(stamp_ns, stamp_ns, value)
                self._offer(source, partial(self._alignment.push_vector, vector.name, held))

    def _offer(self, source: Input[Any], push: Callable[[], list[AlignedInputs]]) -> None:
        """Encode the newest view that a source's message completes; where a clock jumps back, begin anew with it."""
        try:
            try:
                complete = push()
            except ClockJump:
                self._alignment.restart()
                complete = push()
        except ValueError as error:  # a stamp of zero, which has no time to be aligned by
            source.refuse(str(error))
            return
        if complete:
            self._worker.put("view", complete[-1])

    def _on_goal_image(self, camera: str, message: Image) -> None:
        self._goal_images[camera].arrived(stamp_to_ns(message.header.stamp))
        if not message.data:
            self._forget_goal_images("the goal was withdrawn")
            self._take_goal(GoalImages(message.header, {}))
            return
        self._shown[camera] = message
        if not self._goal_problem():
            messages = {name: self._shown[name] for name in self._goal_images}
            self._take_goal(GoalImages(next(iter(messages.values())).header, messages))

    def _take_goal(self, goal: GoalImages) -> None:
        self._goal = goal
        if self.state == "active":
            self._worker.put("goal", goal)

    def _handle(self, pending: dict[str, Any]) -> None:
        """Encode what is pending; runs in the inference thread."""
        # The view first: once a goal's embedding is out, no view older than the goal follows it.
        if "view" in pending:
            self._handle_view(pending["view"])
        if "goal" in pending:
            self._handle_goal(pending["goal"])

    def _handle_view(self, view: AlignedInputs) -> None:
        arrivals: dict[str, Arrival] = {name: held.value for name, held in view.frames.items()}
        started_s = time.monotonic()
        frames = self._perceive(self._images, {name: arrival.message for name, arrival in arrivals.items()})
        if frames is None:
            return
        embedding = self._encode(frames, {name: held.value for name, held in view.vectors.items()})
        self._latencies_s.append(time.monotonic() - started_s)
        header = next(iter(arrivals.values())).message.header
        self._current = header, embedding[list(self._checkpoint.model.goal_tokens)]
        self._embedding.publish(matrix_to_image(embedding, header))
        received_ns = max(arrival.received_ns for arrival in arrivals.values())
        self._around_network_s.append((time.time_ns() - received_ns) / NS_PER_S - self._network_s)
        self._received.publish(TimeReference(header=header, time_ref=ns_to_stamp(received_ns), source="system"))

    def _handle_goal(self, goal: GoalImages) -> None:
        if not goal.messages:
            self._announce(goal, (), goal.header)
            return
        frames = self._perceive(self._goal_images, goal.messages)
        if frames is not None:
            self._announce(goal, (self._encode(frames, {}, goal=True),), goal.header)

    def _announce(self, goal: GoalImages | None, goals: tuple[Embedding, ...], header: Header) -> None:
        """Publish the embeddings of goals in order, unless another goal came while they were encoded."""
        with self._goal_lock:
            if goal is self._goal:
                self._goals = goals
                rows = np.concatenate(goals) if goals else np.empty((0, 0), np.float32)
                self._goal_embedding.publish(matrix_to_image(rows, header))

    def _read_goals(self) -> tuple[Embedding, ...]:
        """The goals in the folder of that parameter, if there is one.

        Raises:
            ConfigError: they cannot be used.
        """
        if not self._goal_folder():
            return ()
        embeddings: list[Embedding] = []
        try:
            for goal in read_goal_folder(Path(self._goal_folder()).expanduser(), list(self._goal_images)):
                frames = {name: self._fit_rgb(name, frame) for name, frame in goal.frames.items()}
                embeddings.append(self._encode(frames, {}, goal=True))
        except ConfigError as error:
            raise ConfigError(f"parameter goal_folder: {error}") from None
        except ValueError as error:
            raise ConfigError(f"parameter goal_folder: goal {len(embeddings) + 1} in order: {error}") from None
        return tuple(embeddings)

    def _forget_goal_images(self, reason: str) -> None:
        self._shown.clear()
        for source in self._goal_images.values():
            source.forget(reason)

    def _perceive(
        self, sources: Mapping[str, Input[Frame]], messages: Mapping[str, CameraMessage]
    ) -> dict[str, Frame] | None:
        """The frames of messages, which came from these sources; None if a source says why it has none."""
        frames = {
            name: self._read(sources[name], partial(self._fit, name, message)) for name, message in messages.items()
        }
        seen = {name: frame for name, frame in frames.items() if frame is not None}
        return seen if len(seen) == len(frames) else None

    def _fit(self, camera: str, message: CameraMessage) -> Frame:
        """The frame of a message as the model sees it."""
        return self._fit_rgb(camera, self._transport.to_rgb(message))

    def _fit_rgb(self, camera: str, rgb: Frame) -> Frame:
        """A frame as the model sees it.

        Raises:
            ValueError: there is nothing to see in it.
        """
        fitted = self._cameras[camera].fit(rgb)
        channels = np.moveaxis(fitted[::4, ::4], -1, 0).reshape(3, -1)
        if np.ptp(channels, axis=1).max() < self._min_contrast():
            raise ValueError(
                f"the frame is black or blank (values differ by less than {self._min_contrast()}); "
                "check lens, light, exposure"
            )
        return fitted

    def _read(self, source: Input[Frame], parse: Callable[[], Frame]) -> Frame | None:
        frame = source.read(parse)
        if frame is None:
            self.get_logger().error(f"{source.name}: {source.error}", throttle_duration_sec=LOG_PERIOD_S)
        return frame

    @torch.inference_mode()
    def _encode(self, frames: Mapping[str, Frame], vectors: Mapping[str, Vector], goal: bool = False) -> Embedding:
        """The embedding of fitted frames and vectors (K, D), or of what a goal has of them (Kg, D).

        Raises:
            CheckpointError: it is not finite.
        """
        model, spec = self._checkpoint.model, self._checkpoint.inputs
        inputs = fitted_inputs(spec.of_goal() if goal else spec, Observation(frames, vectors), self._device)
        started_s = time.monotonic()
        state = model.encode_goal(inputs) if goal else model.encode(inputs)
        embedding = state[0].float().cpu().numpy()
        self._network_s = time.monotonic() - started_s
        if not np.isfinite(embedding).all():
            raise CheckpointError(
                f"checkpoint {self._checkpoint.identity}: its embeddings are not finite; choose another"
            )
        return embedding

    def _set_goal_from_current(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._take_current(response, ())

    def _add_goal_from_current(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._take_current(response, self._goals)

    def _clear_goals(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self.state != "active":
            response.message = f"the node is {self.state}"
            return response
        self._replace_goals((), Header(stamp=ns_to_stamp(self._now_ns())), "the goals were cleared")
        response.success, response.message = True, "there is no goal"
        return response

    def _take_current(self, response: Trigger.Response, before: tuple[Embedding, ...]) -> Trigger.Response:
        """Make the current view the goal after those before."""
        problem = self._problem(self._now_ns()) if self.state == "active" else f"the node is {self.state}"
        if problem or self._current is None:
            response.message = f"no current view: {problem or 'the first frame is still being encoded'}"
            return response
        header, embedding = self._current
        self._replace_goals((*before, embedding), header, "the goal is a view of the camera")
        which = f"goal {len(before) + 1}" if before else "the goal"
        response.success = True
        response.message = f"{which} is the view of {header.stamp.sec}.{header.stamp.nanosec:09d}"
        return response

    def _replace_goals(self, goals: tuple[Embedding, ...], header: Header, reason: str) -> None:
        """Announce other goals than those of images, which are forgotten for this reason."""
        with self._goal_lock:
            self._goal = None
        self._forget_goal_images(reason)
        self._announce(None, goals, header)

    # Diagnostics

    def status(self) -> Status:
        now_ns = self._now_ns()
        sources = (*self._images.values(), *self._vectors.values(), *self._goal_images.values())
        errors = [source.problem(now_ns) for source in sources if source.error or source.mixed]
        errors += [self._alignment.problem, self._goal_problem()]
        errors += [self._worker.overdue(MAX_ENCODE_S), self._worker.failure]
        errors = list(filter(None, errors))
        if errors:
            return Status.error("; ".join(errors))
        problem = self._problem(now_ns)
        return Status.warn(problem) if problem else Status.ok("encoding")

    def values(self) -> dict[str, Any]:
        now_ns = self._now_ns()
        figures: dict[str, Any] = {}
        for source in (*self._images.values(), *self._vectors.values(), *self._goal_images.values()):
            figures |= source.report(now_ns)
        figures |= {f"unpaired_{camera}": count for camera, count in self._alignment.pairing.unpaired.items()}
        latencies = percentiles("encode_latency", self._latencies_s)
        return figures | latencies | percentiles("around_network", self._around_network_s)

    def _problem(self, now_ns: int) -> str:
        """Why there is no current view; empty if there is one."""
        problems = (source.problem(now_ns) for source in (*self._images.values(), *self._vectors.values()))
        return next(filter(None, problems), self._alignment.problem)

    def _goal_problem(self) -> str:
        """Names the camera whose goal image is missing or of another time, if there is one of another camera."""
        if not self._shown:
            return ""
        tolerance_s, leading = self._pair_tolerance_s(), next(iter(self._goal_images))
        for name, source in self._goal_images.items():
            if name not in self._shown:
                return f"{source.name}: missing, while other cameras have theirs"
            times_ns = [stamp_to_ns(self._shown[camera].header.stamp) for camera in (leading, name)]
            if abs(times_ns[1] - times_ns[0]) > tolerance_s * NS_PER_S:
                return f"{source.name}: not stamped within {tolerance_s:g} s of {self._goal_images[leading].name}"
        return ""

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def blank(checkpoint: Checkpoint) -> tuple[dict[str, Frame], dict[str, Vector]]:
    """Frames and vectors of the sizes that a checkpoint takes, in which there is nothing to see."""
    spec = checkpoint.inputs
    frames = {camera.name: np.zeros((camera.size, camera.size, 3), np.uint8) for camera in spec.cameras}
    return frames, {vector.name: np.asarray(vector.mean) for vector in spec.vectors}


def describe(checkpoint: Checkpoint) -> dict[str, object]:
    """What the other nodes may need to know of a checkpoint."""
    config = checkpoint.model.config
    return {
        "checkpoint": checkpoint.identity,
        "inputs": to_mapping(checkpoint.inputs),
        "tokens": checkpoint.model.tokens,
        "embedding_dim": config.embedding_dim,
        "image_size": config.encoder.image_size,
        "history": config.history,
        "action_space": to_mapping(checkpoint.action_space),
    }
