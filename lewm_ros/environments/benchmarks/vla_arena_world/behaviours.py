"""What acts in VLA-Arena: a scripted expert that picks and places, and noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

SHIFT_M, TURN_RAD = 0.05, 0.5
"""Largest shift and turn of an action, from where the hand is: what OSC_POSE makes of 1."""

LIMIT = np.array([SHIFT_M] * 3 + [TURN_RAD] * 3 + [1.0])
OPEN, CLOSED = -1.0, 1.0

HAND_DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Rotation of the hand that points down, as it does at the start, where it is a little aslant."""

TRAVEL_M = 0.14
"""Height of the hand above its target on the way there, a held object included."""

ABOVE = np.array([0.0, 0.0, TRAVEL_M])

FUNNEL_M, FUNNEL_SLOPE = 0.01, 1.5
"""Nearer than this the hand comes all the way down; farther off it stays higher, by so much per distance."""

LAG_M = 0.05
"""So much too low, and the hand rises before it goes aside."""

AROUND_M = 0.014
"""So near to where it grasps, the hand closes."""

PLACED_M, LET_GO_M = 0.02, 0.02
"""So near to the middle of where the object belongs, and so low above it, the hand opens."""

LET_GO_STEPS = 8
"""So long the hand opens before it rises, even if it still touches the object, as in a bowl."""

GAIN = 1.5
"""Of the way that is left, what an action asks for: the controller lags behind."""

NOISE_MEMORY = 0.85
NOISE_TURNS = 0.05
"""Noise comes in gusts, so that what follows one is the expert's own way back: chance per step that one begins, or
ends."""


class Scene(NamedTuple):
    """What an expert goes by; places in m.

    Args:
        hand_m: between the fingers (3,).
        hand_turn: rotation of the hand (3, 3).
        object_m: the object's middle (3,).
        target_m: where the object's middle belongs (3,).
        grasped: whether both fingers touch the object.
        placed: whether the benchmark's own predicate holds.
    """

    hand_m: np.ndarray
    hand_turn: np.ndarray
    object_m: np.ndarray
    target_m: np.ndarray
    grasped: bool
    placed: bool


class ArenaExpert:
    """Grasps from above, carries over the table, sets down, lets go and rises.

    It decides anew at every step, so that it recovers from noise and from an object that slipped. What it asks for
    changes little where the scene changes little, so that a policy can learn it: the height that it wants is a
    continuous function of how far the hand is aside, and so is how much it goes aside of how low it is.

    Args:
        rng: draws pace and noise.
        noise: standard deviation of the noise in a gust, as a share of the largest action.
        pace: how much of the largest shift is used.
    """

    def __init__(self, rng: np.random.Generator, noise: float = 0.0, pace: float = 1.0) -> None:
        self.rng, self.noise, self.pace = rng, noise, pace
        self.wander, self.gust = np.zeros(len(LIMIT)), False
        self.let_go_steps = 0

    def act(self, scene: Scene) -> np.ndarray:
        """The next action, within its limit."""
        place, gripper = self.intend(scene)
        shift = _shorten(GAIN * (place - scene.hand_m), self.pace * SHIFT_M)
        turn = _shorten(rotation_vector(HAND_DOWN @ scene.hand_turn.T), TURN_RAD)
        kick = self.rng.normal(size=len(LIMIT)) * math.sqrt(1.0 - NOISE_MEMORY**2)
        self.gust ^= self.rng.random() < NOISE_TURNS
        self.wander = NOISE_MEMORY * self.wander + self.gust * self.noise * LIMIT * kick
        return np.clip(np.array([*shift, *turn, gripper]) + self.wander, -LIMIT, LIMIT)

    def intend(self, scene: Scene) -> tuple[np.ndarray, float]:
        """Where the hand should go now, and the gripper's command."""
        hand, thing = scene.hand_m, scene.object_m
        off = thing - scene.target_m
        above_its_place = np.linalg.norm(off[:2]) < PLACED_M and off[2] < LET_GO_M
        begins = above_its_place or (scene.placed and not scene.grasped)
        lets_go = begins or (self.let_go_steps > 0 and np.linalg.norm(off) < 2.0 * PLACED_M)
        self.let_go_steps = self.let_go_steps + 1 if lets_go else 0
        if lets_go:
            above = scene.target_m + ABOVE
            return (hand if scene.grasped and self.let_go_steps < LET_GO_STEPS else above), OPEN
        if scene.grasped:
            return way_to(hand, scene.target_m + hand - thing), CLOSED
        around = np.linalg.norm(thing - hand) < AROUND_M
        return way_to(hand, thing), CLOSED if around else OPEN


def way_to(hand: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The next place on a way that comes down on the target from above."""
    aside = target[:2] - hand[:2]
    height = target[2] + min(TRAVEL_M, FUNNEL_SLOPE * max(0.0, float(np.linalg.norm(aside)) - FUNNEL_M))
    free = np.clip(1.0 - (height - hand[2]) / LAG_M, 0.0, 1.0)
    return np.array([*(hand[:2] + free * aside), height])


class Wander:
    """Knows nothing: smooth noise, of half of what is allowed."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.wander = rng.normal(size=len(LIMIT))

    def act(self, _: Scene) -> np.ndarray:
        """The next action."""
        kick = self.rng.normal(size=len(LIMIT)) * math.sqrt(1.0 - NOISE_MEMORY**2)
        self.wander = NOISE_MEMORY * self.wander + kick
        return np.clip(0.5 * LIMIT * self.wander, -LIMIT, LIMIT)


def rotation_vector(turn: np.ndarray) -> np.ndarray:
    """The rotation vector (3,), rad, of a rotation (3, 3) by less than half a turn."""
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2.0
    sine, cosine = float(np.linalg.norm(axis)), (float(np.trace(turn)) - 1.0) / 2.0
    return axis if sine < 1e-9 else axis / sine * math.atan2(sine, cosine)


def _shorten(vector: np.ndarray, longest: float) -> np.ndarray:
    return vector * min(1.0, longest / max(1e-9, float(np.linalg.norm(vector))))
