"""view_node: what the loop sees, wants and expects, in one picture for eyes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint
from lewm_ros.model.pixels import fit_frame, normalise_pixels
from lewm_ros.nodes.conversions import CameraMessage, rgb_to_image
from lewm_ros.nodes.diagnostics import Status
from lewm_ros.nodes.image_transport import declare_transport
from lewm_ros.nodes.inference import declare_device
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.qos import NEWEST
from lewm_ros.nodes.view.inputs import ViewInputs
from lewm_ros.observation.gallery import Gallery, Nearest, read_frames
from lewm_ros.observation.panels import Panel, draw_panels
from lewm_ros.observation.stamps import NS_PER_S

Frame = NDArray[np.uint8]
Vector = NDArray[np.float32]

BATCH = 50


class ViewNode(ManagedNode):
    """Publishes `~/annotated_image`: current frame, goal, and the real frame nearest to where the plan is to end.

    Real frames are those of a dataset (`gallery`), or the ones that come in and the goal. While nobody listens, nothing
    is drawn.
    """

    def __init__(self) -> None:
        super().__init__("view_node")
        declare = self.parameters.declare
        self._path = declare("checkpoint", "default", "'default' or the path of a checkpoint's NAME.json")
        self._choose_device = declare_device(self.parameters)
        self._transport = declare_transport(self.parameters)
        self._gallery_path = declare("gallery", "", "HDF5 dataset whose frames are shown; empty: frames that come in")
        self._gallery_frames = declare("gallery_frames", 500, "real frames kept", unit="frames", low=1, high=100_000)
        self._gallery_hz = declare(
            "gallery_hz", 2.0, "frames kept of those that come in", unit="Hz", low=0.01, high=1000.0
        )
        self._view_hz = declare("view_hz", 5.0, "most pictures published", unit="Hz", low=0.1, high=60.0)
        self._panel_px = declare(
            "panel_px", 320, "height and width of each of the three views", unit="pixels", low=64, high=2048, live=True
        )
        self._max_age_s = declare(
            "max_input_age_s", 0.4, "oldest frame that counts as current", unit="s", low=0.01, high=60.0, live=True
        )
        self.parameters.seal()

    # Lifecycle

    def configure(self) -> None:
        checkpoint = load_checkpoint(self._path(), self._choose_device())
        self.diagnostics.hardware_id = checkpoint.identity
        self._gallery = self._make_gallery(checkpoint)
        self._gallery_stamp_ns: int | None = None
        self._inputs = ViewInputs(self, checkpoint, self._transport(), self._max_age_s, self._keep)
        self._annotated = self.create_lifecycle_publisher(Image, "~/annotated_image", NEWEST)
        # A steady clock, so that pictures come even if simulated time stands still.
        self.create_timer(1.0 / self._view_hz(), self._show, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def activate(self) -> None:
        pass

    def deactivate(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    # Real frames

    def _make_gallery(self, checkpoint: Checkpoint) -> Gallery:
        path, count, config = self._gallery_path(), self._gallery_frames(), checkpoint.model.config
        gallery = Gallery(count, config.embedding_dim)
        if path:
            frames = [fit_frame(frame, config.encoder.image_size) for frame in read_frames(path, count)]
            for frame, embedding in zip(frames, encode(checkpoint, frames), strict=True):
                gallery.add(frame, embedding)
        return gallery

    def _keep(self, stamp_ns: int, message: CameraMessage, embedding: Vector) -> None:
        """Take a frame that came in into the gallery, if it is time for another one."""
        last_ns = self._gallery_stamp_ns
        too_soon = last_ns is not None and abs(stamp_ns - last_ns) < NS_PER_S / self._gallery_hz()
        if self._gallery_path() or too_soon:
            return
        frame = self._inputs.frame(message)
        if frame is not None:
            self._gallery.add(frame, embedding)
            self._gallery_stamp_ns = stamp_ns

    def _nearest(self, embedding: Vector) -> Nearest | None:
        nearest, goal = self._gallery.nearest(embedding), self._inputs.goal
        if self._gallery_path() or goal is None or goal.embedding is None:
            return nearest
        to_goal = Nearest(goal.frame, float(np.linalg.norm(goal.embedding - embedding)))
        return to_goal if nearest is None or to_goal.distance < nearest.distance else nearest

    # The picture

    def _show(self) -> None:
        if self.state != "active" or not self._annotated.get_subscription_count():
            return
        newest = self._inputs.newest
        panels = [self._current(), self._wanted(), self._expected()]
        header = Header(stamp=self.get_clock().now().to_msg()) if newest is None else newest.header
        self._annotated.publish(rgb_to_image(draw_panels(panels, self._panel_px()), header))

    def _current(self) -> Panel:
        newest, surprise = self._inputs.newest, self._inputs.surprise.get()
        frame = None if newest is None else self._inputs.frame(newest)
        seen = "" if surprise is None else f"surprise {surprise:.2f}"
        return Panel("current", frame, self._inputs.image.problem(self._now_ns()) or seen)

    def _wanted(self) -> Panel:
        goal, cost = self._inputs.goal, self._inputs.cost.get()
        if goal is None:
            return Panel("goal", None, "none")
        return Panel("goal", goal.frame, "" if cost is None else f"plan cost {cost:.2f}")

    def _expected(self) -> Panel:
        predicted = self._inputs.predicted.get()
        if predicted is None:
            return Panel("predicted", None, "no plan")
        stamp_ns, embedding = predicted
        ahead_s = (stamp_ns - (self._inputs.image.stamp_ns or stamp_ns)) / NS_PER_S
        title, nearest = f"predicted, {ahead_s:.1f} s ahead", self._nearest(embedding)
        if nearest is None:
            return Panel(title, None, "no real frames yet")
        return Panel(title, nearest.frame, f"nearest real frame, distance {nearest.distance:.2f}")

    # Diagnostics

    def status(self) -> Status:
        if self._inputs.problem():
            return Status.error(self._inputs.problem())
        problem = self._inputs.image.problem(self._now_ns())
        return Status.warn(problem) if problem else Status.ok("showing")

    def values(self) -> dict[str, Any]:
        return {"gallery_frames": len(self._gallery)} | self._inputs.report(self._now_ns())

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


@torch.inference_mode()
def encode(checkpoint: Checkpoint, frames: list[Frame]) -> Vector:
    """The embeddings (N, D) of N frames of the model's size."""
    device = next(checkpoint.model.parameters()).device
    batches = [torch.from_numpy(np.stack(frames[k : k + BATCH])).to(device) for k in range(0, len(frames), BATCH)]
    return np.concatenate([checkpoint.model.encode(normalise_pixels(b)).float().cpu().numpy() for b in batches])
