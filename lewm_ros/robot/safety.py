"""The one filter that every joint command passes: whatever is asked for, what comes out is safe to send.

Three layers, each with its own reason why no later command can be forced past a limit:

1. Position, velocity and acceleration, joint by joint. The next velocity must be reachable, |v' - v| <= A dt, allowed,
   |v'| <= V, and leave room to stop before the position limit (`stoppable_speed`). If it leaves room now, then braking
   at the next step does so again: there is always a velocity that keeps all three rules, and clipping finds it.
2. Jerk. The last n results of layer 1 are averaged. A mean of positions, velocities or accelerations within limits is
   within them too, and the accelerations of successive means differ by at most 2 A / n: n >= 2 A / (J dt) bounds the
   jerk by J. For a Panda, n is 1 at 20 Hz, which changes nothing, and 4 at 1 kHz, which delays by 1.5 ms.
3. The workspace box. A step is taken only if braking right after it keeps the end effector inside; else a smaller one;
   else braking itself, whose whole path was found to be inside one step earlier.

What wins: jerk and acceleration hold always; then velocity; then position; then nearness to the measured position; then
the box; the target comes last. Only braking is ever forced, never motion towards something.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lewm_ros.config import ConfigError
from lewm_ros.robot.braking import braking_path, slowed, stoppable_speed
from lewm_ros.robot.limits import JointLimits
from lewm_ros.robot.workspace import Workspace

Array = NDArray[np.float64]

FOLLOW_FACTOR = 2.0
"""Beyond this many times the largest lead, the arm does not follow, or its sensors lie: brake."""

SHARES = np.array([0.75, 0.5, 0.25])
"""How much of a velocity is tried at the wall of the workspace; the rest is braking."""

ROUNDING = 1e-6
"""Velocity and acceleration limits are used up to this fraction, so that rounding errors stay inside them."""

TOLERANCE = 1e-9
"""Differences below this (rad, rad/s, m) are rounding."""


@dataclass(frozen=True)
class FilterState:
    """All that a filter remembers. Arrays are (J,), but for `aims_rad`, the last results of layer 1 (n, J)."""

    aims_rad: Array
    velocity_rad_s: Array
    acceleration_rad_s2: Array
    target_rad: Array
    position_rad: Array
    sent_velocity_rad_s: Array


@dataclass(frozen=True)
class Filtered:
    """What may be sent: position and velocity (J,), and which rules changed it, with the number of joints.

    Rules about all joints together (`size`, `not_finite`, `measured`, `workspace`) count 1. `state` is the filter's
    after this command.
    """

    position_rad: Array
    velocity_rad_s: Array
    interventions: Mapping[str, int]
    state: FilterState


class SafetyFilter:
    """Turns targets into commands that keep every limit, at a fixed rate.

    Targets that keep the limits pass unchanged (later by the delay of the jerk rule, if it has one); a target that
    jumps is approached as fast as the limits allow, without overshoot. The joints brake to a standstill if the target
    is unusable (`size`, `not_finite`), or if the measured positions are unusable (`measured`) or more than twice
    `max_lead_rad` away from what was commanded (`follow`).

    Args:
        limits: of the joints, in the order of all arrays here.
        control_hz: commands per second; `filter` or `brake` is called once for each.
        margin_rad: distance that commands keep from the position limits.
        max_lead_rad: how far a command may be from the measured position.
        workspace: optional box for the end effector.

    Raises:
        ConfigError: a number is out of range, or the margin leaves a joint no room.
    """

    def __init__(
        self,
        limits: JointLimits,
        control_hz: float,
        *,
        margin_rad: float = 0.02,
        max_lead_rad: float = 0.3,
        workspace: Workspace | None = None,
    ) -> None:
        for name, value in (("control_hz", control_hz), ("max_lead_rad", max_lead_rad)):
            if not 0.0 < value < math.inf:
                raise ConfigError(f"{name}: must be above 0, got {value}")
        self._low = np.array(limits.lower_rad) + margin_rad + TOLERANCE
        self._high = np.array(limits.upper_rad) - margin_rad - TOLERANCE
        if not (margin_rad >= 0.0 and np.all(self._low < self._high)):
            raise ConfigError(f"margin_rad: must be at least 0 and leave every joint some room, got {margin_rad}")
        self.counts: Counter[str] = Counter()
        self._limits, self._max_lead_rad, self._workspace = limits, max_lead_rad, workspace
        self._dt = 1.0 / control_hz
        self._speed = np.array(limits.velocity_rad_s) * (1.0 - ROUNDING)
        self._change = np.array(limits.acceleration_rad_s2) * (1.0 - ROUNDING) * self._dt
        self._braking = np.array(limits.braking_rad_s2) * (1.0 - ROUNDING) * self._dt
        self._jerk = np.array(limits.jerk_rad_s3)
        self._averaged = max(1, math.ceil(np.max(2.0 * self._change / (self._jerk * self._dt**2))))
        self._begun: FilterState | None = None

    @property
    def state(self) -> FilterState:
        """What is remembered after the last command."""
        if self._begun is None:
            raise RuntimeError("SafetyFilter.begin must come before the first command")
        return self._begun

    @property
    def position_rad(self) -> Array:
        """The last command (J,)."""
        return self.state.position_rad

    @property
    def aim_rad(self) -> Array:
        """Where the last command leads (J,), which relative targets add to: it, but for the delay of the jerk rule."""
        return self.state.aims_rad[-1]

    @property
    def standing(self) -> bool:
        """Whether the last command was to stand still."""
        state = self.state
        return bool(np.all(np.abs([state.velocity_rad_s, state.sent_velocity_rad_s]) < TOLERANCE))

    def begin(self, measured_rad: ArrayLike) -> None:
        """Start at rest at the measured positions (J,).

        Raises:
            ValueError: they are not usable, or a joint is outside its limits.
        """
        problem = self._problem(measured_rad)
        if problem:
            raise ValueError(f"measured positions: {problem}")
        measured, limits = np.array(measured_rad, dtype=np.float64), self._limits
        rows = zip(limits.joint_names, measured, limits.lower_rad, limits.upper_rad, strict=True)
        for name, position, low, high in rows:
            if not low <= position <= high:
                raise ValueError(f"joint '{name}' is at {position:.4f} rad, outside its limits {low} to {high}")
        still = np.zeros_like(measured)
        aims = np.tile(measured, (self._averaged, 1))
        self._begun = FilterState(aims, still, still, measured, measured, still)

    def filter(self, target_rad: ArrayLike, measured_rad: ArrayLike, scale: float = 1.0) -> Filtered:
        """The next command towards a target (J,), given measured positions (J,).

        Args:
            target_rad: where the joints are wanted at the next step.
            measured_rad: where they are.
            scale: fraction of the velocity limits that may be used, 0 to 1.
        """
        if self._problem(measured_rad):
            return self._brake({"measured": 1})
        measured = np.asarray(measured_rad, dtype=np.float64)
        return self._brake(astray) if (astray := self._astray(measured)) else self._towards(target_rad, measured, scale)

    def brake(self, measured_rad: ArrayLike | None = None) -> Filtered:
        """The next command of the fastest stop that keeps the limits.

        Args:
            measured_rad: measured positions (J,), to tell whether the arm follows; None if they are not known.
        """
        usable = measured_rad is not None and not self._problem(measured_rad)
        return self._brake(self._astray(np.asarray(measured_rad, dtype=np.float64)) if usable else {})

    def preview(self, targets_rad: Array, scale: float = 1.0) -> list[Filtered]:
        """The commands that targets (T, J) would become, then those of braking to a standstill; nothing is changed.

        The arm is taken to follow, as there are no measured positions to come.
        """
        ahead = copy.copy(self)
        ahead.counts = Counter()
        commands = [ahead._towards(target, None, scale) for target in targets_rad]
        while not ahead.standing:
            commands.append(ahead.brake())
        return commands

    def resume(self, state: FilterState) -> None:
        """Go on from after another command, previewed or earlier, which is what the arm was sent."""
        self._begun = state

    def _problem(self, values: ArrayLike) -> str:
        """Why values cannot be joint positions; empty if they can."""
        array, joints = np.asarray(values), len(self._limits.joint_names)
        if array.shape != (joints,):
            return f"shape {array.shape} instead of ({joints},)"
        return "" if array.dtype.kind in "fiu" and np.isfinite(array).all() else "not finite"

    def _astray(self, measured_rad: Array) -> dict[str, int]:
        """How many joints are too far from what was commanded."""
        count = _count(np.abs(self.aim_rad - measured_rad) > FOLLOW_FACTOR * self._max_lead_rad)
        return {"follow": count} if count else {}

    def _towards(self, target_rad: ArrayLike, measured_rad: Array | None, scale: float) -> Filtered:
        if problem := self._problem(target_rad):
            return self._brake({"not_finite" if problem == "not finite" else "size": 1})
        target = np.asarray(target_rad, dtype=np.float64)
        changed = {"position": _count((target < self._low) | (target > self._high))}
        low, high = self._low, self._high
        if measured_rad is not None:
            low = np.maximum(low, measured_rad - self._max_lead_rad)
            high = np.minimum(high, measured_rad + self._max_lead_rad)
        # Where the measured position is itself outside the limits, low is above high: the limits win.
        near = np.clip(np.clip(target, low, high), self._low, self._high)
        changed["lead"] = _count(near != np.clip(target, self._low, self._high))

        speed = self._speed * min(1.0, max(0.0, scale))
        wanted = self._approach(near, speed)
        down = stoppable_speed(self.aim_rad - low, self._braking, self._dt)
        up = stoppable_speed(high - self.aim_rad, self._braking, self._dt)
        reachable = self.state.velocity_rad_s - self._change, self.state.velocity_rad_s + self._change
        velocity = np.clip(np.clip(wanted, -down, up), *reachable)

        direct = (near - self.aim_rad) / self._dt
        allowed = np.clip(direct, -speed, speed)
        changed["velocity"] = _count(np.abs(direct - allowed) > TOLERANCE)
        changed["acceleration"] = _count(np.abs(velocity - allowed) > TOLERANCE)
        if self._workspace is not None:
            kept = self._kept_inside(velocity, self._workspace)
            changed["workspace"] = int(kept is not velocity)
            velocity = kept
        return self._step(velocity, near, changed)

    def _approach(self, target_rad: Array, speed: Array) -> Array:
        """Velocities (J,) that keep up with a moving target, and close in on it only as fast as that can stop at it."""
        drift = np.clip((target_rad - self.state.target_rad) / self._dt, -speed, speed)
        missing = target_rad - self.aim_rad - drift * self._dt
        closing = np.sign(missing) * stoppable_speed(np.abs(missing), self._change, self._dt)
        return np.clip(drift + closing, -speed, speed)

    def _kept_inside(self, velocity: Array, workspace: Workspace) -> Array:
        """The velocity (J,), or what is left of it such that braking right after it stays inside the workspace.

        From outside, where an arm may begin, nothing may lead further out.
        """
        allowed_m = max(float(workspace.outside_m(self.aim_rad)), 0.0) + TOLERANCE

        def inside(velocities: Array) -> NDArray[np.bool_]:
            path = braking_path(self.aim_rad, velocities, self._change, self._dt)
            return (workspace.outside_m(path) <= allowed_m).all(0)

        if inside(velocity[np.newaxis])[0]:
            return velocity
        stop = slowed(self.state.velocity_rad_s, self._change)
        tried = stop + SHARES[:, np.newaxis] * (velocity - stop)
        good = inside(tried)
        return tried[np.argmax(good)] if good.any() else stop

    def _brake(self, changed: dict[str, int]) -> Filtered:
        velocity = slowed(self.state.velocity_rad_s, self._change)
        return self._step(velocity, self.aim_rad + velocity * self._dt, changed)

    def _step(self, velocity: Array, target_rad: Array, changed: dict[str, int]) -> Filtered:
        before = self.state
        acceleration = (velocity - before.velocity_rad_s) / self._dt
        changed["jerk"] = _count(np.abs(acceleration - before.acceleration_rad_s2) > self._jerk * self._dt)
        aims = np.concatenate([before.aims_rad[1:], [self.aim_rad + velocity * self._dt]])
        position = aims.mean(0)
        sent_velocity = (position - before.position_rad) / self._dt
        self._begun = FilterState(aims, velocity, acceleration, target_rad, position, sent_velocity)
        interventions = {rule: count for rule, count in changed.items() if count}
        self.counts.update(interventions)
        return Filtered(position, sent_velocity, interventions, self._begun)


def _count(changed: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(changed))
