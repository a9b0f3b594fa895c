"""The states of the control loop: what the planner node may do at a time, and what takes it from one to another."""

from __future__ import annotations

from enum import Enum

STRANGE_GOAL = "the goal looks unlike those of the demonstrations"
"""Why the loop stays open whatever else comes, until there is another goal."""


class LoopState(Enum):
    """What the loop is doing. Commands are sent while moving, braking and stopping only."""

    SILENT = "silent"
    """The node is not active."""
    IDLE = "idle"
    """Nobody has asked for motion."""
    WAITING = "waiting"
    """Enabled, but something is wrong or missing."""
    CLOSING = "closing"
    """Enabled, and all is well: the next frame closes the loop."""
    MOVING = "moving"
    """The arm follows plans."""
    BRAKING = "braking"
    """The arm comes to a standstill; the loop may close again by itself."""
    STOPPING = "stopping"
    """The arm comes to a standstill; motion has to be asked for again."""

    @property
    def enabled(self) -> bool:
        """Whether motion is asked for."""
        return self in (LoopState.WAITING, LoopState.CLOSING, LoopState.MOVING, LoopState.BRAKING)

    @property
    def brakes(self) -> bool:
        """Whether the arm is on its way to a standstill."""
        return self in (LoopState.BRAKING, LoopState.STOPPING)


class LoopEvent(Enum):
    """What happens to the loop."""

    START = "the node becomes active"
    HALT = "the node ends or becomes inactive"
    ENABLE = "motion is asked for"
    DISABLE = "motion is no longer wanted, or must be asked for again"
    E_STOP = "the e-stop is pressed"
    RESET = "a new beginning is asked for"
    PROBLEM = "something is wrong that may pass by itself"
    ALL_WELL = "nothing is wrong"
    FRAME = "a frame came with which the loop may be closed"
    STANDSTILL = "the arm has been told to stand still"
    BRAKING_TAKES_TOO_LONG = "the arm should stand still by now"


TRANSITIONS: dict[LoopState, dict[LoopEvent, LoopState]] = {
    LoopState.SILENT: {
        LoopEvent.START: LoopState.IDLE,
    },
    LoopState.IDLE: {
        LoopEvent.ENABLE: LoopState.WAITING,
        LoopEvent.HALT: LoopState.SILENT,
    },
    LoopState.WAITING: {
        LoopEvent.ALL_WELL: LoopState.CLOSING,
        LoopEvent.DISABLE: LoopState.IDLE,
        LoopEvent.E_STOP: LoopState.IDLE,
        LoopEvent.HALT: LoopState.SILENT,
    },
    LoopState.CLOSING: {
        LoopEvent.FRAME: LoopState.MOVING,
        LoopEvent.PROBLEM: LoopState.WAITING,
        LoopEvent.DISABLE: LoopState.IDLE,
        LoopEvent.E_STOP: LoopState.IDLE,
        LoopEvent.HALT: LoopState.SILENT,
    },
    LoopState.MOVING: {
        LoopEvent.PROBLEM: LoopState.BRAKING,
        LoopEvent.RESET: LoopState.BRAKING,
        LoopEvent.DISABLE: LoopState.STOPPING,
        LoopEvent.E_STOP: LoopState.STOPPING,
        LoopEvent.HALT: LoopState.STOPPING,
    },
    LoopState.BRAKING: {
        LoopEvent.STANDSTILL: LoopState.WAITING,
        LoopEvent.BRAKING_TAKES_TOO_LONG: LoopState.WAITING,
        LoopEvent.DISABLE: LoopState.STOPPING,
        LoopEvent.E_STOP: LoopState.STOPPING,
        LoopEvent.HALT: LoopState.STOPPING,
    },
    LoopState.STOPPING: {
        LoopEvent.ENABLE: LoopState.BRAKING,
        LoopEvent.STANDSTILL: LoopState.IDLE,
        LoopEvent.BRAKING_TAKES_TOO_LONG: LoopState.IDLE,
    },
}
"""By state and event, the next state; an event that is not named changes nothing."""


def next_state(state: LoopState, event: LoopEvent) -> LoopState:
    """Where an event leads."""
    return TRANSITIONS[state].get(event, state)
