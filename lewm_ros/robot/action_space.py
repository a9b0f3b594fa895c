"""Action spaces: named channels, and the z-scored blocks of them that a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError

Array = NDArray[np.float64]

KINDS = ("delta", "absolute", "velocity")


@dataclass(frozen=True)
class Channel:
    """One number of an action.

    Args:
        name: what it moves; for a change of a joint position, the joint.
        kind: `delta`, a change per control step, which adds up; `absolute`, where something is to be; `velocity`, a
            rate that holds for the control step.
        unit: such as rad, m or m/s; empty for a number without one.
        low, high: the smallest and the largest value.
        rest: the value that asks for no motion; None: the newest one, so that what rests stays where it is.
    """

    name: str
    kind: str = "delta"
    unit: str = ""
    low: float = -1.0
    high: float = 1.0
    rest: float | None = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("name: must not be empty")
        if self.kind not in KINDS:
            raise ConfigError(f"channel '{self.name}': kind must be one of {', '.join(KINDS)}, got '{self.kind}'")
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ConfigError(f"channel '{self.name}': low {self.low:g} must be below high {self.high:g}, both finite")
        if self.rest is not None and not self.low <= self.rest <= self.high:
            raise ConfigError(f"channel '{self.name}': rest {self.rest:g} must be from {self.low:g} to {self.high:g}")
        if self.rest is None and self.kind != "absolute":
            raise ConfigError(f"channel '{self.name}': only an absolute channel rests where it is; give a rest")


@dataclass(frozen=True)
class ActionSpace:
    """Channels at a rate, and the statistics that z-score a block of them.

    A model step is `action_block` control steps; its action vector, of size A, holds them one after the other.

    Args:
        name: such as `joint_delta`, `ee_delta`, or an environment's own.
        channels: in the order of an action's numbers.
        control_hz: actions per second.
        action_block: control steps per model step.
        mean, std: of every channel in the training data; empty: 0 and 1.
        known_low, known_high: of every channel, how far what its deltas add up to (a joint's position) went in the
            training data; None for a channel of which that is not known, empty if it is known of none.
    """

    name: str
    channels: tuple[Channel, ...]
    control_hz: float
    action_block: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    known_low: tuple[float | None, ...] = ()
    known_high: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        names = [channel.name for channel in self.channels]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"action space '{self.name}': channels must be at least one, each name only once")
        if not (np.isfinite(self.control_hz) and self.control_hz > 0.0 and self.action_block >= 1):
            raise ConfigError(f"action space '{self.name}': control_hz must be above 0 and action_block at least 1")
        object.__setattr__(self, "mean", self.mean or (0.0,) * self.dim)
        object.__setattr__(self, "std", self.std or (1.0,) * self.dim)
        for key in ("mean", "std", "known_low", "known_high"):
            if len(getattr(self, key)) not in ((self.dim,) if key in ("mean", "std") else (0, self.dim)):
                raise ConfigError(f"action space '{self.name}': {key} must have {self.dim} numbers")
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0.0:
            raise ConfigError(f"action space '{self.name}': mean and std must be finite, every std above 0")

    @property
    def dim(self) -> int:
        """Numbers per control step."""
        return len(self.channels)

    @property
    def block_dim(self) -> int:
        """Size A of one model step's action vector."""
        return self.action_block * self.dim

    @property
    def block_s(self) -> float:
        """Duration of one model step."""
        return self.action_block / self.control_hz

    @property
    def names(self) -> tuple[str, ...]:
        """Of the channels."""
        return tuple(channel.name for channel in self.channels)

    @property
    def low(self) -> Array:
        """The smallest value (dim,) of every channel."""
        return np.array([channel.low for channel in self.channels])

    @property
    def high(self) -> Array:
        """The largest value (dim,) of every channel."""
        return np.array([channel.high for channel in self.channels])

    def places(self, *kinds: str) -> list[int]:
        """Where the channels of these kinds stand in an action."""
        return [place for place, channel in enumerate(self.channels) if channel.kind in kinds]

    def renamed(self, names: dict[str, str]) -> ActionSpace:
        """The same for a robot that has other names for some channels."""
        channels = (replace(channel, name=names.get(channel.name, channel.name)) for channel in self.channels)
        return replace(self, channels=tuple(channels))

    def rest(self, newest: Array | None = None) -> Array:
        """The action (dim,) that asks for no motion.

        Args:
            newest: the action (dim,) before, in which channels that rest where they are stand already; without it they
                are not a number, which says 'as it is'.
        """
        before = np.full(self.dim, np.nan) if newest is None else newest
        return np.array([b if c.rest is None else c.rest for c, b in zip(self.channels, before, strict=True)])

    def positions(self, named: Mapping[str, float]) -> Array | None:
        """What the delta channels have added up to (dim,), where each has a position of its name; 0 for the others.

        None if one has none, as a twist has.
        """
        deltas = self.places("delta")
        if not deltas or any(self.channels[place].name not in named for place in deltas):
            return None
        positions = np.zeros(self.dim)
        positions[deltas] = [named[self.channels[place].name] for place in deltas]
        return positions

    def clip(self, actions: Array) -> Array:
        """Actions (..., dim) within the bounds of their channels."""
        return np.clip(actions, self.low, self.high)

    def normalise(self, actions: Array) -> Array:
        """Actions per control step (..., action_block, dim) -> z-scored blocks (..., A); NaN counts as the mean."""
        scored = np.nan_to_num((np.asarray(actions) - self.mean) / self.std, nan=0.0)
        return scored.reshape(*scored.shape[:-2], self.block_dim)

    def denormalise(self, blocks: Array) -> Array:
        """z-scored blocks (..., A) -> actions per control step (..., action_block, dim), within the bounds."""
        scored = np.asarray(blocks, dtype=np.float64).reshape(*blocks.shape[:-1], self.action_block, self.dim)
        return self.clip(scored * self.std + self.mean)

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds (A,) of a z-scored block."""
        low, high = (self.low - self.mean) / self.std, (self.high - self.mean) / self.std
        return np.tile(low, self.action_block), np.tile(high, self.action_block)

    def known_range(self) -> tuple[Array, Array] | None:
        """`known_low` and `known_high` (dim,), infinite where a channel has none; None if no channel has one."""
        if not any(value is not None for value in (*self.known_low, *self.known_high)):
            return None
        low = np.array([-np.inf if value is None else value for value in self.known_low])
        high = np.array([np.inf if value is None else value for value in self.known_high])
        return low, high

    def require_same_actions(self, other: ActionSpace, mine: str, others: str) -> None:
        """Raise ConfigError, which names both, unless actions of the other space mean the same at the same rate."""
        ours, theirs = ((s.control_hz, [(c.name, c.kind, c.unit) for c in s.channels]) for s in (self, other))
        if ours != theirs:
            raise ConfigError(f"{mine} acts in {self.describe()}, {others} in {other.describe()}")

    def describe(self) -> str:
        """Name, channels and rate in a few words."""
        return f"'{self.name}' ({', '.join(self.names)}) at {self.control_hz:g} Hz"
