"""Planned end-effector paths as markers, for RViz and Foxglove."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from lewm_ros.nodes.qos import RELIABLE
from lewm_ros.planning.planner import Decision
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm_actions import ArmChannels
from lewm_ros.robot.kinematics import Kinematics

Array = NDArray[np.float64]

PLAN_COLOUR, PLAN_WIDTH_M = ColorRGBA(r=1.0, g=0.55, b=0.0, a=1.0), 0.008
CANDIDATE_COLOUR, CANDIDATE_WIDTH_M = ColorRGBA(r=0.25, g=0.6, b=1.0, a=0.4), 0.002


class PlanMarkers:
    """Publishes `~/paths` while someone listens.

    Args:
        node: publishes.
        space: of the actions.
        frame_id: of the arm's base.
        paths: how many to show, the best plan first; 0: none.
    """

    def __init__(self, node: LifecycleNode, space: ActionSpace, frame_id: str, paths: Callable[[], int]) -> None:
        self.kinematics: Kinematics | None = None
        self._space, self._frame_id, self._paths = space, frame_id, paths
        self._channels = ArmChannels.of(space)
        self._publisher = node.create_lifecycle_publisher(MarkerArray, "~/paths", RELIABLE)

    def show(self, decision: Decision, positions_rad: Array) -> None:
        """Show a decision, given the joint positions (J,) at its frame; without kinematics nothing is shown."""
        count = self._paths()
        if not count or self.kinematics is None or not self._publisher.get_subscription_count():
            return
        plans = np.concatenate([decision.actions[np.newaxis], decision.elites])[:count]
        paths_m = tip_paths_m(self._channels, self.kinematics, positions_rad, plans)
        self._publisher.publish(path_markers(paths_m, self._frame_id, plans.shape[1] / self._space.control_hz))


def tip_paths_m(channels: ArmChannels, kinematics: Kinematics, positions_rad: Array, plans: Array) -> Array:
    """Where plans lead the end effector.

    Args:
        channels: of the actions.
        kinematics: of the arm.
        positions_rad: joint positions (J,) where the plans begin.
        plans: actions (P, n, dim).

    Returns:
        positions (P, 1 + n, 3) in the base frame, m; the first one is where the plans begin.
    """
    moved = np.pad(plans[..., channels.moving].cumsum(1), ((0, 0), (1, 0), (0, 0)))
    if channels.joints:
        return kinematics.tip_positions_m(positions_rad + moved)
    return kinematics.tip_positions_m(positions_rad) + moved[..., :3]


def path_markers(paths_m: Array, frame_id: str, lifetime_s: float) -> MarkerArray:
    """Paths (P, n, 3), the best one first, in place of those shown before. Paths that are not finite are left out."""
    # A stamp of zero: shown where the frame is now, since much of the plan's own time lies ahead.
    header, lifetime = Header(frame_id=frame_id), Duration(seconds=lifetime_s).to_msg()
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for index, path_m in enumerate(paths_m):
        if not np.isfinite(path_m).all():
            continue
        marker = Marker(header=header, id=index, type=Marker.LINE_STRIP, lifetime=lifetime)
        marker.ns = "candidates" if index else "plan"
        marker.color = CANDIDATE_COLOUR if index else PLAN_COLOUR
        marker.scale.x = CANDIDATE_WIDTH_M if index else PLAN_WIDTH_M
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in path_m.tolist()]
        markers.append(marker)
    return MarkerArray(markers=markers)
