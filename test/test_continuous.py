"""Joints that turn without end: followed over the end of a turn, and told apart from those that do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lewm_ros.robot.continuous import begin_in_first_turn, find_wrap, follow_turns

NAMES = ("shoulder", "wrist")


def test_a_continuous_joint_goes_the_shortest_way() -> None:
    positions = np.array([[3.1, 3.1], [-3.1, 3.0], [-3.0, -3.1], [3.1, -3.0]])
    followed = follow_turns(positions, NAMES, ["shoulder"])
    turn = 2.0 * math.pi
    np.testing.assert_allclose(followed[:, 0], [3.1, turn - 3.1, turn - 3.0, 3.1])
    np.testing.assert_array_equal(followed[:, 1], positions[:, 1])


@pytest.mark.parametrize("turns", [-3, -1, 0, 1, 2])
def test_an_episode_begins_in_the_first_turn(turns: int) -> None:
    expected = np.array([[1.0, 1.0], [1.1, 1.2]])
    positions = expected + np.array([2.0 * math.pi * turns, 0.0])
    np.testing.assert_allclose(begin_in_first_turn(positions, NAMES, ["shoulder"]), expected)


@pytest.mark.parametrize(
    ("wrist", "row", "words"),
    [
        ([3.0, 3.1, -3.1, -3.0], 2, "joint 'wrist' wraps from 3.1 to -3.1 rad"),
        ([0.1, 0.0, 6.2, 6.1], 2, "joint 'wrist' wraps from 0 to 6.2 rad"),
        ([0.0, 0.1, 0.2, 0.3], 0, ""),
        ([0.0, 3.0, 0.0, 0.1], 0, ""),  # a leap, but no turn
        ([100.0, 106.3, 112.5, 119.0], 0, ""),  # degrees
    ],
)
def test_a_wrap_is_found_by_its_joint_and_row(wrist: list[float], row: int, words: str) -> None:
    positions = np.stack([np.zeros(4), wrist], axis=1)
    assert find_wrap(positions, NAMES) == (row, words)
    assert find_wrap(positions, NAMES, ["wrist"]) == (0, "")
