"""view_node: what the loop sees, wants and expects, in one picture for eyes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint
from lewm_ros.nodes.conversions import rgb_to_image
from lewm_ros.nodes.diagnostics import Status
from lewm_ros.nodes.image_transport import declare_transport
from lewm_ros.nodes.inference import declare_device
from lewm_ros.nodes.managed_node import ManagedNode
from lewm_ros.nodes.qos import NEWEST
from lewm_ros.nodes.view.gallery import Embedding, Gallery, Nearest, embed_views, read_views
from lewm_ros.nodes.view.panels import Panel, draw_panels
from lewm_ros.nodes.view.view_inputs import View, ViewInputs
from lewm_ros.observation.observation import Frame
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns


class ViewNode(ManagedNode):
    """Publishes `~/annotated_image`: current view, goal, and the real view nearest to where the plan is to end.

    Each is a frame of every camera, one below the other. Real views are those of a dataset (`gallery`), or the ones
    that come in and the goal. A checkpoint with a decoder of states also paints where the plan is to end. While nobody
    listens, nothing is drawn.
    """

    def __init__(self) -> None:
        super().__init__("view_node")
        declare = self.parameters.declare
        self._path = declare("checkpoint", "default", "default, pick_place, push, or the path of a NAME.json")
        self._choose_device = declare_device(self.parameters)
        self._transport = declare_transport(self.parameters)
        self._gallery_path = declare("gallery", "", "HDF5 dataset whose frames are shown; empty: frames that come in")
        self._gallery_frames = declare("gallery_frames", 500, "real frames kept", unit="frames", low=1, high=100_000)
        self._gallery_hz = declare(
            "gallery_hz", 2.0, "frames kept of those that come in", unit="Hz", low=0.01, high=1000.0
        )
        self._view_hz = declare("view_hz", 5.0, "most pictures published", unit="Hz", low=0.1, high=60.0)
        self._panel_px = declare(
            "panel_px", 320, "height and width of every frame shown", unit="pixels", low=64, high=2048, live=True
        )
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
        self.parameters.seal()

    # Lifecycle

    def configure(self) -> None:
        checkpoint = load_checkpoint(self._path(), self._choose_device())
        self.diagnostics.hardware_id = checkpoint.identity
        self._checkpoint = checkpoint
        self._gallery = self._make_gallery(checkpoint)
        self._gallery_stamp_ns: int | None = None
        self._cameras = [camera.name for camera in checkpoint.inputs.cameras]
        self._inputs = ViewInputs(
            self, checkpoint, self._transport(), self._pair_tolerance_s(), self._max_age_s, self._keep
        )
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
        path, count = self._gallery_path(), self._gallery_frames()
        gallery = Gallery(count, (len(checkpoint.goal_tokens), checkpoint.state_shape[1]))
        if path:
            views = read_views(path, count, checkpoint.inputs)
            for view, embedding in zip(views, embed_views(checkpoint, views), strict=True):
                gallery.add(dict(view.frames), embedding)
        return gallery

    def _keep(self, view: View, embedding: Embedding) -> None:
        """Take a view that came in into the gallery, if it is time for another one."""
        stamp_ns, last_ns = stamp_to_ns(view.header.stamp), self._gallery_stamp_ns
        too_soon = last_ns is not None and abs(stamp_ns - last_ns) < NS_PER_S / self._gallery_hz()
        if self._gallery_path() or too_soon:
            return
        frames = self._inputs.frames(view)
        if len(frames) == len(view.messages):
            self._gallery.add(frames, embedding)
            self._gallery_stamp_ns = stamp_ns

    def _nearest(self, embedding: Embedding) -> Nearest | None:
        nearest, goal = self._gallery.nearest(embedding), self._inputs.goal
        if self._gallery_path() or goal is None or goal.embedding is None:
            return nearest
        to_goal = Nearest(goal.frames, float(np.linalg.norm(goal.embedding - embedding)))
        return to_goal if nearest is None or to_goal.distance < nearest.distance else nearest

    # The picture

    def _show(self) -> None:
        if self.state != "active" or not self._annotated.get_subscription_count():
            return
        newest = self._inputs.newest
        panels = [self._current(), self._wanted(), self._expected(), *self._painted()]
        header = Header(stamp=self.get_clock().now().to_msg()) if newest is None else newest.header
        self._annotated.publish(rgb_to_image(draw_panels(panels, self._panel_px()), header))

    def _panel(self, title: str, frames: dict[str, Frame], caption: str) -> Panel:
        return Panel(title, [frames.get(camera) for camera in self._cameras], caption)

    def _current(self) -> Panel:
        newest, surprise = self._inputs.newest, self._inputs.surprise.get()
        frames = {} if newest is None else self._inputs.frames(newest)
        seen = "" if surprise is None else f"surprise {surprise:.2f}"
        return self._panel("current", frames, self._inputs.missing(self._now_ns()) or seen)

    def _wanted(self) -> Panel:
        goal, cost = self._inputs.goal, self._inputs.cost.get()
        if goal is None:
            return self._panel("goal", {}, "none")
        return self._panel("goal", goal.frames, "" if cost is None else f"plan cost {cost:.2f}")

    def _expected(self) -> Panel:
        predicted, newest = self._inputs.predicted.get(), self._inputs.newest
        if predicted is None:
            return self._panel("predicted", {}, "no plan")
        ahead_s = 0.0 if newest is None else (predicted.stamp_ns - stamp_to_ns(newest.header.stamp)) / NS_PER_S
        embedding = predicted.state[list(self._checkpoint.goal_tokens)]
        title, nearest = f"predicted, {ahead_s:.1f} s ahead", self._nearest(embedding)
        if nearest is None:
            return self._panel(title, {}, "no real frames yet")
        return self._panel(title, nearest.frames, f"nearest real frame, distance {nearest.distance:.2f}")

    def _painted(self) -> list[Panel]:
        """The predicted state as the checkpoint's decoder paints it; nothing without one that paints states."""
        decoder, predicted = self._checkpoint.decoder, self._inputs.predicted.get()
        if decoder is None or not decoder.paints_states:
            return []
        if predicted is None:
            return [self._panel("predicted, painted", {}, "no plan")]
        state = torch.from_numpy(predicted.state).to(self._checkpoint.device)
        frames = decoder.decode(state.unsqueeze(0))[0].cpu().numpy()
        return [self._panel("predicted, painted", dict(zip(self._cameras, frames, strict=True)), "by the decoder")]

    # Diagnostics

    def status(self) -> Status:
        if self._inputs.problem():
            return Status.error(self._inputs.problem())
        problem = self._inputs.missing(self._now_ns())
        return Status.warn(problem) if problem else Status.ok("showing")

    def values(self) -> dict[str, Any]:
        return {"gallery_frames": len(self._gallery)} | self._inputs.report(self._now_ns())

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds
