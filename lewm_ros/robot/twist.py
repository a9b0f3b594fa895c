"""What a hand may do that is moved by twists."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.robot.limits import JointLimits
from lewm_ros.robot.safety import SafetyFilter

AXES = ("x", "y", "z", "rx", "ry", "rz")
ACCELERATION = (2.0, 2.0, 2.0, 6.0, 6.0, 6.0)
"""With it, a stop from 0.25 m/s takes 0.13 s."""
UNBOUNDED = 1e6


@dataclass(frozen=True)
class TwistLimits:
    """Largest velocity and acceleration of each of the `AXES`: in m/s and m/s2, for rotations in rad/s and rad/s2."""

    velocity: tuple[float, ...]
    acceleration: tuple[float, ...] = ACCELERATION

    def make_filter(self, control_hz: float) -> SafetyFilter:
        """A filter for the hand's displacement (6,), in m and rad, which is not bounded itself.

        It treats every axis as a joint: what it calls rad is m for the first three.
        """
        axes = JointLimits(
            joint_names=AXES,
            lower_rad=(-UNBOUNDED,) * len(AXES),
            upper_rad=(UNBOUNDED,) * len(AXES),
            velocity_rad_s=self.velocity,
            acceleration_rad_s2=self.acceleration,
            jerk_rad_s3=tuple(4.0 * control_hz * acceleration for acceleration in self.acceleration),
        )
        return SafetyFilter(axes, control_hz, max_lead_rad=UNBOUNDED)
