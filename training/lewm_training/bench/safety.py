"""The safety filter under random commands: how near to each limit what comes out gets, and what a call costs."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.robot.kinematics import franka_kinematics
from lewm_ros.robot.limits import SHIPPED, JointLimits, load_limits
from lewm_ros.robot.safety import SafetyFilter
from lewm_ros.robot.workspace import Workspace

Array = NDArray[np.float64]

RATES_HZ = (20.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
COMMANDS_PER_ARM = 1000
WORKSPACE_TOLERANCE_M = 1e-3
"""The filter looks at 16 moments of a stop, not at all of them."""


def limit_ratios(commands_rad: Array, limits: JointLimits, control_hz: float, margin_rad: float) -> dict[str, float]:
    """The largest fraction of each limit that a sequence of commands reaches; above 1 it is passed.

    Velocities, accelerations and jerks are differences of the commands, at rest before the first one.

    Args:
        commands_rad: positions (N, J), one per control step.
        limits: of the joints.
        control_hz: commands per second.
        margin_rad: distance from the position limits that is to be kept.
    """
    still = np.repeat(commands_rad[:1], 3, axis=0)
    motion = np.concatenate([still, commands_rad])
    middle = np.add(limits.upper_rad, limits.lower_rad) / 2.0
    reach = np.subtract(limits.upper_rad, limits.lower_rad) / 2.0 - margin_rad
    ratios = {"position": float(np.max(np.abs(commands_rad - middle) / reach))}
    largest = (limits.velocity_rad_s, limits.acceleration_rad_s2, limits.jerk_rad_s3)
    for name, limit in zip(("velocity", "acceleration", "jerk"), largest, strict=True):
        motion = np.diff(motion, axis=0) * control_hz
        ratios[name] = float(np.max(np.abs(motion) / np.array(limit)))
    return ratios


def bench_safety(commands: int, seed: int) -> dict[str, Any]:
    """Send random commands through filters of random arms; see `RandomArm` for what they are."""
    generator = np.random.default_rng(seed)
    ratios: Counter[str] = Counter()
    interventions: Counter[str] = Counter()
    elapsed_s: list[float] = []
    violations, outside_m = 0, -np.inf
    with tqdm(total=commands, desc="commands", leave=False) as bar:
        while len(elapsed_s) < commands:
            arm = RandomArm(generator)
            sent = arm.run(min(COMMANDS_PER_ARM, commands - len(elapsed_s)), elapsed_s)
            reached = limit_ratios(sent, arm.limits, arm.control_hz, arm.margin_rad)
            ratios |= Counter(reached)
            strayed_m = -np.inf if arm.workspace is None else float(arm.workspace.outside_m(sent).max())
            kept = np.isfinite(sent).all() and max(reached.values()) <= 1.0 and strayed_m <= WORKSPACE_TOLERANCE_M
            violations += not kept
            outside_m = max(outside_m, strayed_m)
            interventions.update(arm.filter.counts)
            bar.update(len(sent) - 1)
    call_us = 1e6 * np.array(elapsed_s)
    return {
        "commands": commands,
        "seed": seed,
        "sequences_past_a_limit": violations,
        **{f"largest_{name}_ratio": ratio for name, ratio in ratios.items()},
        "largest_distance_outside_workspace_m": outside_m,
        "call_us_p50": float(np.median(call_us)),
        "call_us_p99": float(np.percentile(call_us, 99)),
        "interventions": dict(interventions.most_common()),
    }


class RandomArm:
    """A Panda or FR3 with limits scaled at random, at a random rate, half of the time in a workspace box.

    Targets wander, jump anywhere, are beyond all bounds, not numbers, or of another size. The measured positions follow
    the commands late and with noise, stand still, jump or are not numbers. Now and then the arm is told to brake.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        shipped = load_limits(str(generator.choice(SHIPPED)))
        self.limits = scaled(shipped, *10.0 ** generator.uniform((-1.0, -1.0, -1.5), (0.0, 0.0, 0.5)))
        self.control_hz = float(generator.choice(RATES_HZ))
        self.margin_rad = float(generator.uniform(0.0, 0.1))
        self._low = np.array(self.limits.lower_rad) + self.margin_rad
        self._high = np.array(self.limits.upper_rad) - self.margin_rad
        self._start = generator.uniform(self._low + 1e-6, self._high - 1e-6)
        self.workspace = self._box() if generator.random() < 0.5 else None
        self.filter = SafetyFilter(
            self.limits,
            self.control_hz,
            margin_rad=self.margin_rad,
            max_lead_rad=float(generator.uniform(0.05, 1.0)),
            workspace=self.workspace,
        )

    def _box(self) -> Workspace:
        kinematics = franka_kinematics()
        tip = kinematics.tip_positions_m(self._start)
        below, above = self._generator.uniform(0.01, 0.4, (2, 3))
        return Workspace(kinematics, tuple(tip - below), tuple(tip + above))

    def run(self, commands: int, elapsed_s: list[float]) -> Array:
        """Positions (1 + commands, J) that were sent, the first where it began; adds the time that each call took."""
        self.filter.begin(self._start)
        sent, measured, target = [self._start], self._start, self._start
        for _ in range(commands):
            target = self._target(target)
            measured = self._measured(measured, sent[-1])
            scale, brakes = min(1.0, 3.0 * self._generator.random()), self._generator.random() < 0.02
            asked = self._spoilt(target)
            started_s = time.perf_counter()
            done = self.filter.brake(measured) if brakes else self.filter.filter(asked, measured, scale)
            elapsed_s.append(time.perf_counter() - started_s)
            sent.append(done.position_rad)
        return np.array(sent)

    def _target(self, target: Array) -> Array:
        if self._generator.random() < 0.05:
            return self._generator.uniform(self._low - 0.5, self._high + 0.5)
        speed = np.array(self.limits.velocity_rad_s) / self.control_hz
        return target + self._generator.normal(0.0, speed)

    def _spoilt(self, target: Array) -> Array:
        kind, joint = self._generator.random(), self._generator.integers(len(target))
        if kind < 0.94:
            return target
        if kind < 0.95:
            return target[:joint]
        spoilt = target.copy()
        spoilt[joint] = self._generator.choice([np.nan, np.inf, -np.inf, 1e300, -1e9])
        return spoilt

    def _measured(self, measured: Array, command: Array) -> Array:
        kind = self._generator.random()
        usable = measured if np.isfinite(measured).all() else command
        if kind < 0.9:
            noise = self._generator.normal(0.0, 1e-4, len(command))
            return usable + self._generator.uniform(0.1, 1.0) * (command - usable) + noise
        if kind < 0.98:
            return usable
        if kind < 0.99:
            return usable + self._generator.normal(0.0, 1.0, len(command))
        return np.full(len(command), np.nan)


def scaled(limits: JointLimits, velocity: float, acceleration: float, jerk: float) -> JointLimits:
    """The limits with velocities, accelerations (and braking) and jerks multiplied by these factors."""
    accelerations = np.multiply(limits.acceleration_rad_s2, acceleration)
    return JointLimits(
        joint_names=limits.joint_names,
        lower_rad=limits.lower_rad,
        upper_rad=limits.upper_rad,
        velocity_rad_s=tuple(np.multiply(limits.velocity_rad_s, velocity)),
        acceleration_rad_s2=tuple(accelerations),
        jerk_rad_s3=tuple(np.multiply(limits.jerk_rad_s3, jerk)),
        braking_rad_s2=tuple(np.multiply(limits.braking_rad_s2, acceleration)),
    )
