"""Qualities of service of the topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

NEWEST_FRAME = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Subscribing to sensor data: the newest message only."""

SHARED = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Subscribing to a topic that devices share, such as arm and gripper: none pushes the newest message of another out."""

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Sensor data and commands as published here: reliable, so that every kind of subscriber matches."""

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Every message counts."""

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Late subscribers get the newest message too."""
