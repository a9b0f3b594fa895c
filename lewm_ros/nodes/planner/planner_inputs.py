"""What the planner hears: embeddings of frame and goal, joint states, and which model the embeddings come from."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState, TimeReference
from std_msgs.msg import String

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.nodes.planner.latency import LatencyTrace
from lewm_ros.nodes.planner.loop_state import STRANGE_GOAL
from lewm_ros.nodes.planner.watchdogs import FrozenWatch, JointGuard
from lewm_ros.nodes.qos import LATCHED, RELIABLE, SHARED
from lewm_ros.nodes.subscriptions import Input
from lewm_ros.observation.embedding_images import image_to_embedding, image_to_goals
from lewm_ros.observation.joints import joint_positions
from lewm_ros.observation.stamps import stamp_to_ns
from lewm_ros.planning.goal_sequence import require_step_count
from lewm_ros.robot.arm_actions import GRIPPER

Embedding = NDArray[np.float32]
"""A row per token (K, D); of goals in order (G, Kg, D)."""

KEPT_JOINT_STATES = 1000
KEPT_AGES = 50


class PlannerInputs:
    """Subscribes to the planner's inputs and judges them.

    Args:
        node: subscribes.
        checkpoint: what the inputs must fit.
        joint_names: of the joints that are listened to.
        guard: judges joint positions.
        max_age_s: oldest usable embedding and joint states.
        max_goal_strangeness: above it a goal is refused, if the checkpoint knows what goals look like; 0: never.
        frozen_frames: see `FrozenWatch`.
        trace: is told when frames were received and encoded.
        on_embedding: called with stamp and embedding (K, D) of every view; None for an embedding that is unsound.

    Attributes:
        finger: the joint that tells the gripper's position; empty for a model that does not take it in.
        gripper: its newest position, m or rad; None: not known.
    """

    def __init__(
        self,
        node: Node,
        checkpoint: Checkpoint,
        joint_names: Sequence[str],
        guard: JointGuard,
        max_age_s: Callable[[], float],
        max_goal_strangeness: Callable[[], float],
        frozen_frames: int,
        trace: LatencyTrace,
        on_embedding: Callable[[int, Embedding | None], None],
    ) -> None:
        self.embedding: Input[Embedding] = Input("embedding", max_age_s, "do encoder and camera run?")
        self.goal: Input[Embedding] = Input("goal_embedding")
        self.joints: Input[NDArray[np.float64]] = Input("joint_states", max_age_s, "do the arm's drivers run?")
        self._all = (self.goal, self.embedding, self.joints)
        self._checkpoint, self._guard, self._trace, self._use_embedding = checkpoint, guard, trace, on_embedding
        cameras = [camera.name for camera in checkpoint.inputs.cameras]
        called = [f"camera {name}" for name in cameras] if len(cameras) > 1 else ["the camera"]
        self._frozen = [FrozenWatch(frozen_frames, camera=name) for name in called]
        self._tokens_per_frame = checkpoint.model.config.tokens_per_frame
        self._clock, self._max_goal_strangeness = node.get_clock(), max_goal_strangeness
        self._joint_names, model = joint_names, checkpoint.model
        self._size = model.tokens, model.config.embedding_dim
        self._goal_size = len(model.goal_tokens), model.config.embedding_dim
        fingers = [vector.components[0] for vector in checkpoint.inputs.vectors if vector.name == GRIPPER.name]
        self.finger = next(iter(fingers), "")
        self.gripper: float | None = None
        self._model_error = ""
        self._positions: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=KEPT_JOINT_STATES)
        self._ages_ns: deque[int] = deque(maxlen=KEPT_AGES)
        node.create_subscription(Image, "embedding", self._on_embedding, RELIABLE)
        node.create_subscription(TimeReference, "embedding_received", self._on_received, RELIABLE)
        node.create_subscription(Image, "goal_embedding", self._on_goal, LATCHED)
        node.create_subscription(JointState, "joint_states", self._on_joints, SHARED)
        node.create_subscription(String, "model_info", self._on_model_info, LATCHED)

    def problem(self, now_ns: int) -> str:
        """All that keeps the arm from moving now; empty if nothing does."""
        problems = [self._model_error, *(source.problem(now_ns) for source in self._all)]
        problems += [watch.problem for watch in self._frozen]
        return "; ".join(filter(None, problems))

    @property
    def unsound(self) -> bool:
        """Whether something came in that must not be used; missing or old inputs do not count."""
        return bool(self._model_error) or any(source.error or source.mixed for source in self._all)

    def positions_at(self, time_ns: int) -> NDArray[np.float64]:
        """Joint positions (J,) at a time, between the two measurements around it; the nearest one outside of all."""
        stamps_ns, positions_rad = zip(*self._positions, strict=True)
        since_ns = np.array(stamps_ns) - time_ns
        return np.array([np.interp(0.0, since_ns, joint_rad) for joint_rad in np.transpose(positions_rad)])

    def embedding_age_ns(self, percent: float) -> int:
        """How old embeddings are when they come, as this percentage of the newest ones is at most."""
        return round(np.percentile(self._ages_ns, percent)) if self._ages_ns else 0

    def report(self, now_ns: int) -> dict[str, object]:
        """Rates and ages for the diagnostics."""
        return {key: value for source in self._all for key, value in source.report(now_ns).items()}

    def _on_embedding(self, message: Image, info: dict[str, Any]) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        self._trace.mark(stamp_ns, "encoded", info["source_timestamp"])
        self.embedding.arrived(stamp_ns, info["publication_sequence_number"])
        self._ages_ns.append(self._clock.now().nanoseconds - stamp_ns)
        embedding = self.embedding.read(lambda: image_to_embedding(message, *self._size))
        if embedding is not None:
            size = self._tokens_per_frame
            for place, watch in enumerate(self._frozen):
                tokens = embedding[place * size : (place + 1) * size]
                watch.saw(stamp_ns, tokens, self.joints.stamp_ns, self.joints.value)
        self._use_embedding(stamp_ns, embedding)

    def _on_received(self, message: TimeReference) -> None:
        stamp_ns, received_ns = stamp_to_ns(message.header.stamp), stamp_to_ns(message.time_ref)
        # In simulated time, a frame comes when the clock says that it is taken.
        age_ns = 0 if self._clock.ros_time_is_active else received_ns - stamp_ns
        self._trace.received(stamp_ns, age_ns, received_ns)

    def _on_goal(self, message: Image) -> None:
        self.goal.arrived(stamp_to_ns(message.header.stamp))
        if message.data:
            self.goal.read(lambda: self._goals(message))
        else:
            self.goal.forget("no goal: it was withdrawn")

    def _goals(self, message: Image) -> Embedding:
        """The goals (G, Kg, D) in order, several only if it can be told when one is reached."""
        goals = image_to_goals(message, *self._goal_size)
        if len(goals) > 1:
            require_step_count(self._checkpoint.policy is not None or self._checkpoint.gap is not None)
        self._require_familiar(goals[-1])
        return goals

    @torch.inference_mode()
    def _require_familiar(self, goal: Embedding) -> None:
        """Raise ValueError if a goal (Kg, D), with which demonstrations might end, looks unlike their ends."""
        most, familiarity = self._max_goal_strangeness(), self._checkpoint.familiarity
        if not most or familiarity is None:
            return
        strangeness = float(familiarity(torch.from_numpy(goal).flatten().to(self._checkpoint.device)))
        if strangeness > most:
            raise ValueError(
                f"{STRANGE_GOAL} (strangeness {strangeness:.1f}, at most {most:g}): "
                "is the object in the image, and the camera where it was?"
            )

    def _on_joints(self, message: JointState) -> None:
        names = self._joint_names
        if self.finger in message.name:
            with suppress(ValueError):  # The encoder says what is wrong with it.
                self.gripper = float(joint_positions(message, [self.finger])[0])
        if not self.joints.concerns(message.name, names):
            return
        stamp_ns = stamp_to_ns(message.header.stamp)
        self.joints.arrived(stamp_ns)
        positions_rad = self.joints.read(lambda: self._guard.check(stamp_ns, joint_positions(message, names)))
        if positions_rad is not None:
            while self._positions and self._positions[-1][0] >= stamp_ns:
                self._positions.pop()
            self._positions.append((stamp_ns, positions_rad))

    def _on_model_info(self, message: String) -> None:
        self._model_error = encoder_mismatch(message, self._checkpoint.identity)


def encoder_mismatch(model_info: String, own: str) -> str:
    """What is wrong if the encoder runs another checkpoint than this one; empty if it does not."""
    try:
        encoder = json.loads(model_info.data)["checkpoint"]
    except (ValueError, KeyError, TypeError):
        encoder = f"unreadable: {model_info.data[:60]}"
    return "" if encoder == own else f"model_info: the encoder runs '{encoder}', this node '{own}'"
