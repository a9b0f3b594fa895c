"""Smooth random motions that the world model learns from."""

from __future__ import annotations

import zlib

import numpy as np

from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.environments.panda.tasks import JOINT_SPREAD_RAD, sample_free_joints
from lewm_ros.robot.arm import PANDA, Array

KINDS = ("waypoints", "wander", "wrist", "single", "wrist")
"""waypoints: through random joint positions; wander: coloured noise on every joint; wrist: joints 5 to 7 alone, the
others resting at one of a few anchors; single: one joint at a time. Episodes take them in turn."""

ANCHORS = 30
"""Resting positions of joints 1 to 4 in wrist episodes. Many episodes share one, so that a batch can hold frames that
differ in nothing but the wrist (`TrainConfig.anchored_fraction`)."""

LOWER_RAD, UPPER_RAD = PANDA.home_rad - JOINT_SPREAD_RAD, PANDA.home_rad + JOINT_SPREAD_RAD


class Explorer:
    """Proposes joint deltas, one control step at a time.

    Args:
        kind: one of `KINDS`.
        limit_rad: largest change (7,) per control step.
        rng: the episode's generator.
    """

    def __init__(self, kind: str, limit_rad: Array, rng: np.random.Generator) -> None:
        if kind not in KINDS:
            raise ValueError(f"exploration kind '{kind}' is unknown; known: {', '.join(KINDS)}")
        self.kind, self.limit_rad, self.rng = kind, limit_rad, rng
        self.mask = np.ones(7)
        if kind == "wrist":
            self.mask[:4] = 0.0
        self.velocity = np.zeros(7)
        self.redraw()

    def start_rad(self, arm: SimArm, anchor: int | None) -> Array:
        """Free joint positions (7,) to begin at; joints 1 to 4 are the anchor's if there is one."""
        if anchor is None:
            return sample_free_joints(arm, self.rng)
        base = sample_free_joints(arm, np.random.default_rng([zlib.crc32(b"anchor"), anchor]))
        while True:
            start = np.concatenate([base[:4], self.rng.uniform(LOWER_RAD[4:], UPPER_RAD[4:])])
            if arm.is_free(start):
                return start

    def redraw(self) -> None:
        """Draw a new intention: called at the start, on arrival, and when the last proposal was not possible."""
        rng = self.rng
        self.goal_rad = rng.uniform(LOWER_RAD, UPPER_RAD)
        self.speed = rng.uniform(0.25, 1.0)
        self.dwell = int(rng.integers(0, 6))
        self.memory = np.exp(-1.0 / rng.uniform(6.0, 25.0, 7))
        if self.kind == "single":
            self.mask = np.eye(7)[rng.integers(7)]
        self.velocity = np.zeros(7)

    def act(self, arm: SimArm) -> Array:
        """The next action (7,): what `propose` gives, or none and a new intention where that is not free."""
        action = self.propose(arm.target_rad)
        if arm.is_free(arm.target_rad + action):
            return action
        self.redraw()
        return np.zeros(7)

    def propose(self, target_rad: Array) -> Array:
        """The next change (7,) of the commanded joint positions `target_rad` (7,)."""
        return self._wander(target_rad) if self.kind == "wander" else self._travel(target_rad)

    def _travel(self, target_rad: Array) -> Array:
        gap = (self.goal_rad - target_rad) * self.mask
        steps = np.max(np.abs(gap) / (self.limit_rad * self.speed))
        if steps < 1.0:
            self.dwell -= 1
            if self.dwell < 0:
                self.redraw()
            return gap if steps > 0.0 else np.zeros(7)
        # A first-order filter rounds the corners where one waypoint gives way to the next.
        self.velocity = 0.6 * self.velocity + 0.4 * gap / max(steps, 3.0)
        return self.velocity * self.mask

    def _wander(self, target_rad: Array) -> Array:
        noise = self.rng.normal(size=7) * np.sqrt(1.0 - self.memory**2)
        self.velocity = self.memory * self.velocity + 0.6 * self.speed * self.limit_rad * noise
        outward = ((target_rad < LOWER_RAD) & (self.velocity < 0)) | ((target_rad > UPPER_RAD) & (self.velocity > 0))
        self.velocity = np.where(outward, -self.velocity, self.velocity)
        return np.clip(self.velocity, -self.limit_rad, self.limit_rad) * self.mask
