"""The safety filter and the curve of its commands under random targets: how near to each limit both get."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.robot.command_curve import KNOTS_BEFORE, CommandCurve
from lewm_ros.robot.interpolation import MotionPoint, motion_along, polynomial_between
from lewm_ros.robot.kinematics import franka_kinematics
from lewm_ros.robot.limit_use import LimitUse
from lewm_ros.robot.limits import SHIPPED, JointLimits, load_limits
from lewm_ros.robot.safety import SafetyFilter
from lewm_ros.robot.spline import spline_knots
from lewm_ros.robot.workspace import Workspace

Array = NDArray[np.float64]

RATES_HZ = (20.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
COMMANDS_PER_ARM = 1000
WORKSPACE_TOLERANCE_M = 1e-3
"""The filter looks at 16 moments of a stop, not at all of them."""
CYCLE_S = 1e-3
FEWEST_SAMPLES = 5
"""The curve is looked at every ms, and so often between two knots, of which these are both."""
SILENCES_PER_S = 0.4
LONGEST_SILENCE_S = 1.0
"""Now and then nothing is commanded for a time, and the arm goes on as foreseen."""


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


class CurveJudge:
    """Looks at what a controller makes of knots, as the judge of trajectories does: every ms, and at every seam.

    Args:
        limits: of the joints.
        margin_rad: distance from the position limits that is to be kept.
        dt: time between knots, s.
    """

    def __init__(self, limits: JointLimits, margin_rad: float, dt: float) -> None:
        self.use = LimitUse(limits, margin_rad)
        self._dt, self._samples = dt, max(round(dt / CYCLE_S) + 1, FEWEST_SAMPLES)

    def saw(self, starts: Array, ends: Array) -> Array:
        """Take in the segments that were followed; returns the positions (m, J) between their knots.

        Args:
            starts: knots (3, N, J) where the segments begin: positions, velocities and accelerations.
            ends: likewise where they end.
        """
        polynomials = polynomial_between(MotionPoint(*starts), MotionPoint(*ends), self._dt)
        motion = motion_along(polynomials, np.linspace(0.0, self._dt, self._samples))
        motion = motion.reshape(len(motion), -1, motion.shape[-1])
        self.use.add(motion)
        # What does not go on where it was is a change within one cycle.
        self.use.add(np.concatenate([starts[:1, 1:], (starts[:, 1:] - ends[:, :-1]) / CYCLE_S]))
        return motion[0]


def bench_safety(commands: int, seed: int) -> dict[str, Any]:
    """Send random commands through filters of random arms; see `RandomArm` for what they are."""
    generator = np.random.default_rng(seed)
    ratios: Counter[str] = Counter()
    interventions: Counter[str] = Counter()
    elapsed_s: list[float] = []
    curve_ratios: Counter[str] = Counter()
    curve_beyond: Counter[str] = Counter()
    samples, violations, outside_m, curve_outside_m = 0, 0, -np.inf, -np.inf
    with tqdm(total=commands, desc="commands", leave=False) as bar:
        while len(elapsed_s) < commands:
            arm = RandomArm(generator)
            sent, segments = arm.run(min(COMMANDS_PER_ARM, commands - len(elapsed_s)), elapsed_s)
            reached = limit_ratios(sent, arm.limits, arm.control_hz, arm.margin_rad)
            ratios |= Counter(reached)
            strayed_m = -np.inf if arm.workspace is None else float(arm.workspace.outside_m(sent).max())
            kept = np.isfinite(sent).all() and max(reached.values()) <= 1.0 and strayed_m <= WORKSPACE_TOLERANCE_M
            violations += not kept
            outside_m = max(outside_m, strayed_m)
            judge = CurveJudge(arm.limits, arm.margin_rad, 1.0 / arm.control_hz)
            path = judge.saw(*segments)
            samples += judge.use.samples
            curve_ratios |= Counter(judge.use.largest)
            curve_beyond.update(judge.use.beyond)
            if arm.workspace is not None:
                curve_outside_m = max(curve_outside_m, float(arm.workspace.outside_m(path).max()))
            interventions.update(arm.filter.counts)
            bar.update(len(sent) - 1)
    call_us = 1e6 * np.array(elapsed_s)
    return {
        "commands": commands,
        "seed": seed,
        "sequences_past_a_limit": violations,
        **{f"largest_{name}_ratio": ratio for name, ratio in ratios.items()},
        "largest_distance_outside_workspace_m": outside_m,
        "curve_samples": samples,
        **{f"curve_samples_beyond_{name}": count for name, count in curve_beyond.items()},
        **{f"largest_curve_{name}_ratio": ratio for name, ratio in curve_ratios.items()},
        "largest_distance_of_curve_outside_workspace_m": curve_outside_m,
        "call_us_p50": float(np.median(call_us)),
        "call_us_p99": float(np.percentile(call_us, 99)),
        "interventions": dict(interventions.most_common()),
    }


class RandomArm:
    """A Panda or FR3 with limits scaled at random, at a random rate, half of the time in a workspace box.

    Targets wander, jump anywhere, are beyond all bounds, not numbers, or of another size. The measured positions follow
    the commands late and with noise, stand still, jump or are not numbers. Now and then the arm is told to brake, and
    now and then it is told nothing for a while.
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

    def run(self, commands: int, elapsed_s: list[float]) -> tuple[Array, Array]:
        """Drive the arm for so many commands; adds the time that each call of the filter took.

        Returns:
            commanded positions (1 + commands, J), the first where it began; and the knots (2, 3, commands, J) at which
            the segments of the curve that was followed begin and end: positions, velocities and accelerations.
        """
        self.filter.begin(self._start)
        curve = CommandCurve(self.filter, 1.0 / self.control_hz)
        segments: list[Array] = []
        sent, measured, target, foreseen = [self._start], self._start, self._start, np.empty((3, 0, len(self._start)))
        for _ in range(commands):
            if foreseen.shape[1] > 1:
                # Nothing is commanded: the next segment is from the message before.
                segments.append(foreseen[:, :2])
                foreseen = foreseen[:, 1:]
                curve.go_on()
                sent.append(self.filter.position_rad)
                continue
            target = self._target(target)
            measured = self._measured(measured, sent[-1])
            scale, brakes = min(1.0, 3.0 * self._generator.random()), self._generator.random() < 0.02
            asked = self._spoilt(target)
            started_s = time.perf_counter()
            done = self.filter.brake(measured) if brakes else self.filter.filter(asked, measured, scale)
            elapsed_s.append(time.perf_counter() - started_s)
            sent.append(done.position_rad)
            curve.append()
            segments.append(np.array(spline_knots(curve.control_points_rad, 1.0 / self.control_hz))[:, -2:])
            if self._generator.random() < SILENCES_PER_S / self.control_hz:
                steps = round(self._generator.uniform(0.0, LONGEST_SILENCE_S) * self.control_hz)
                knots = curve.foresee(np.array([target := self._target(target) for _ in range(5)]), scale)
                foreseen = np.array(knots)[:, KNOTS_BEFORE + 1 : KNOTS_BEFORE + 2 + steps]
        return np.array(sent), np.stack(segments, axis=1).transpose(2, 0, 1, 3)

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
