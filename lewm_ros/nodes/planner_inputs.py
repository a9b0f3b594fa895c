"""What the planner hears: embeddings of frame and goal, joint states, and which model the embeddings come from."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.nodes.conversions import image_to_embedding, joint_positions, stamp_to_ns
from lewm_ros.nodes.inputs import Input
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE

Vector = NDArray[np.float32]


class PlannerInputs:
    """Subscribes to the planner's inputs and judges them.

    Args:
        node: subscribes.
        checkpoint: what the inputs must fit.
        max_age_s: oldest usable embedding and joint states, by their stamps.
        on_embedding: called with stamp and embedding (D,) of every frame; None for an embedding that is unsound.
    """

    def __init__(
        self, node: Node, checkpoint: Checkpoint, max_age_s: float, on_embedding: Callable[[int, Vector | None], None]
    ) -> None:
        self.embedding: Input[Vector] = Input("embedding", max_age_s)
        self.goal: Input[Vector] = Input("goal_embedding")
        self.joints: Input[NDArray[np.float64]] = Input("joint_states", max_age_s)
        self._all = (self.goal, self.embedding, self.joints)
        self._checkpoint, self._use_embedding = checkpoint, on_embedding
        self._dimension = checkpoint.model.config.embedding_dim
        self._model_error = ""
        node.create_subscription(Image, "embedding", self._on_embedding, RELIABLE)
        node.create_subscription(Image, "goal_embedding", self._on_goal, LATCHED)
        node.create_subscription(JointState, "joint_states", self._on_joints, NEWEST_FRAME)
        node.create_subscription(String, "model_info", self._on_model_info, LATCHED)

    def problem(self, now_ns: int) -> str:
        """All that keeps the arm from moving now; empty if nothing does."""
        problems = [self._model_error, *(source.problem(now_ns) for source in self._all)]
        return "; ".join(filter(None, problems))

    @property
    def unsound(self) -> bool:
        """Whether something came in that must not be used; missing or old inputs do not count."""
        return bool(self._model_error) or any(source.error for source in self._all)

    def report(self, now_ns: int) -> dict[str, object]:
        """Rates and ages for the diagnostics."""
        return {key: value for source in self._all for key, value in source.report(now_ns).items()}

    def _on_embedding(self, message: Image) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        self.embedding.arrived(stamp_ns)
        self._use_embedding(stamp_ns, self.embedding.read(lambda: image_to_embedding(message, self._dimension)))

    def _on_goal(self, message: Image) -> None:
        self.goal.arrived(stamp_to_ns(message.header.stamp))
        self.goal.read(lambda: image_to_embedding(message, self._dimension))

    def _on_joints(self, message: JointState) -> None:
        self.joints.arrived(stamp_to_ns(message.header.stamp))
        self.joints.read(lambda: joint_positions(message, self._checkpoint.action_space.joint_names))

    def _on_model_info(self, message: String) -> None:
        try:
            encoder = json.loads(message.data)["checkpoint"]
        except (ValueError, KeyError, TypeError):
            encoder = f"unreadable: {message.data[:60]}"
        own = self._checkpoint.identity
        self._model_error = "" if encoder == own else f"model_info: the encoder runs '{encoder}', this node '{own}'"
