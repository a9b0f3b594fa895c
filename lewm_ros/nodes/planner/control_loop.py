"""The planner's schedule in time: which block a frame belongs to and which control steps are due."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.planning import RecedingHorizonPlanner

Array = NDArray[np.float64]


class ControlLoop:
    """One stretch of closed-loop motion; another one starts with a planner and a time of its own.

    Control step n begins at t0 + n / control_hz, block k at t0 + k * block_s.

    Args:
        planner: fresh, or reset.
        t0_ns: header stamp of the frame that closes the loop.
        now_ns: the first step due is the one that this time lies in.
    """

    def __init__(self, planner: RecedingHorizonPlanner, t0_ns: int, now_ns: int) -> None:
        self.planner, self.t0_ns = planner, t0_ns
        self.action_block = planner.action_space.action_block
        self.control_ns = round(NS_PER_S / planner.action_space.control_hz)
        self.block_ns = self.control_ns * self.action_block
        self.cycles = self.missed_cycles = 0
        self._newest_boundary = -1
        self._executed = self.step_at(now_ns) - 1

    def step_at(self, time_ns: int) -> int:
        """The control step that a time lies in."""
        return (time_ns - self.t0_ns) // self.control_ns

    def block_at(self, time_ns: int) -> int:
        """The block that a time lies in."""
        return (time_ns - self.t0_ns) // self.block_ns

    def next_step_ns(self) -> int:
        """When the step after the newest executed one begins."""
        return self.t0_ns + (self._executed + 1) * self.control_ns

    def observed_boundary(self, stamp_ns: int) -> int | None:
        """The block at whose start a frame was taken; None if it is not within half a control step of a new one."""
        block = (stamp_ns - self.t0_ns + self.block_ns // 2) // self.block_ns
        offset_ns = abs(stamp_ns - self.t0_ns - block * self.block_ns)
        if block <= self._newest_boundary or 2 * offset_ns >= self.control_ns:
            return None
        self._newest_boundary = block
        return block

    def due(self, now_ns: int) -> Array:
        """The actions (n, dim) of the steps that have begun since the last call: usually one, none if called early.

        A step that nobody asked for in its time is a missed cycle. The newest missed one is made up for, since the
        planner counts on it; older ones are not, so that the arm never jumps.
        """
        step = self.step_at(now_ns)
        if step <= self._executed:
            return np.empty((0, self.planner.action_space.dim))
        missed = step - self._executed - 1
        self.missed_cycles += missed
        self.cycles += 1 + missed
        self._executed = step
        return self._actions(step - min(missed, 1), step + 1)

    def ahead(self, steps: int) -> Array:
        """The scheduled actions (steps, dim) that follow the newest executed step."""
        return self._actions(self._executed + 1, self._executed + 1 + steps)

    def until(self, block: int) -> Array:
        """The scheduled actions (n, dim) between the newest executed step and the start of a block."""
        return self._actions(self._executed + 1, block * self.action_block)

    def _actions(self, first: int, end: int) -> Array:
        blocks = [
            self.planner.actions(step // self.action_block)[step % self.action_block] for step in range(first, end)
        ]
        return np.array(blocks).reshape(-1, self.planner.action_space.dim)
