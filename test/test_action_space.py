"""Action spaces: what rests, what adds up, what is bounded; and those that have names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lewm_ros.config import ConfigError, from_mapping, to_mapping
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.arm_actions import ee_delta, joint_delta, named_space

CART = ActionSpace(
    "cart",
    (
        Channel("x", "delta", "m", -0.1, 0.1),
        Channel("spin", "velocity", "rad/s", -2.0, 2.0),
        Channel("hook", "absolute", "", -1.0, 1.0, rest=None),
        Channel("lamp", "absolute", "", 0.0, 1.0, rest=0.25),
    ),
    control_hz=10.0,
    action_block=2,
    mean=(0.0, 1.0, 0.0, 0.5),
    std=(0.05, 0.5, 1.0, 0.25),
)


def test_sizes_follow_from_the_channels() -> None:
    assert (CART.dim, CART.block_dim, CART.block_s) == (4, 8, 0.2)
    assert CART.places("delta") == [0]
    assert CART.places("absolute", "velocity") == [1, 2, 3]


def test_rest_is_what_each_channel_says() -> None:
    np.testing.assert_array_equal(CART.rest(), [0.0, 0.0, np.nan, 0.25])
    np.testing.assert_array_equal(CART.rest(np.array([0.1, 2.0, -1.0, 1.0])), [0.0, 0.0, -1.0, 0.25])


def test_blocks_are_z_scored_there_and_back() -> None:
    actions = np.array([[0.05, 1.5, -1.0, 0.25], [0.0, 0.5, 1.0, 1.0]])
    scored = CART.normalise(actions)
    np.testing.assert_allclose(scored, [1.0, 1.0, -1.0, -1.0, 0.0, -1.0, 1.0, 2.0])
    np.testing.assert_allclose(CART.denormalise(scored), actions)
    np.testing.assert_allclose(CART.denormalise(np.full(8, 100.0)), np.tile([0.1, 2.0, 1.0, 1.0], (2, 1)))
    assert CART.normalise(np.array([CART.rest()] * 2))[2] == 0.0, "as it is counts as the mean"
    low, high = CART.bounds()
    np.testing.assert_allclose((low[:4], high[:4]), ([-2.0, -6.0, -1.0, -2.0], [2.0, 2.0, 1.0, 2.0]))


def test_positions_are_found_by_name() -> None:
    np.testing.assert_array_equal(CART.positions({"x": 3.0, "spin": 1.0, "y": 2.0}), [3.0, 0.0, 0.0, 0.0])
    assert CART.positions({"y": 2.0}) is None


def test_the_known_range_is_open_where_nothing_is_known() -> None:
    assert CART.known_range() is None
    low, high = replace(CART, known_low=(-1.0, None, None, None), known_high=(2.0, None, None, None)).known_range()
    np.testing.assert_array_equal(low, [-1.0, -np.inf, -np.inf, -np.inf])
    np.testing.assert_array_equal(high, [2.0, np.inf, np.inf, np.inf])


def test_it_is_written_and_read_back() -> None:
    assert from_mapping(ActionSpace, to_mapping(CART)) == CART


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"low": 0.2}, "channel 'x': low 0.2 must be below high 0.1"),
        ({"high": float("inf")}, "both finite"),
        ({"kind": "force"}, "channel 'x': kind must be one of delta, absolute, velocity, got 'force'"),
        ({"rest": 0.5}, "channel 'x': rest 0.5 must be from -0.1 to 0.1"),
        ({"rest": None}, "channel 'x': only an absolute channel rests where it is"),
    ],
)
def test_a_channel_that_contradicts_itself_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(CART.channels[0], **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": (CART.channels[0],) * 4}, "each name only once"),
        ({"control_hz": float("nan")}, "control_hz must be above 0"),
        ({"std": (1.0, 0.0, 1.0, 1.0)}, "every std above 0"),
        ({"mean": (0.0,)}, "mean must have 4 numbers"),
        ({"known_low": (0.0,)}, "known_low must have 4 numbers"),
    ],
)
def test_a_space_that_contradicts_itself_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(CART, **changes)


def test_the_spaces_of_arms() -> None:
    joints = joint_delta(["a", "b"], [0.1, 0.2], 20.0, gripper=True)
    assert joints.names == ("a", "b", "gripper")
    np.testing.assert_array_equal(joints.high, [0.1, 0.2, 1.0])
    assert named_space("joint_delta", [0.1, 0.2, 1.0], 20.0, ["a", "b"]) == joints
    hand = ee_delta([0.02] * 3 + [0.08] * 3 + [1.0], 20.0)
    assert hand == named_space("ee_delta", [0.02] * 3 + [0.08] * 3, 20.0)
    assert [channel.kind for channel in hand.channels] == ["delta"] * 6 + ["absolute"]
    assert np.isnan(hand.rest()[-1])
    assert named_space("other", [3.0], 10.0).dim == 1
    for arguments, words in (
        (("joint_delta", [0.1], 20.0, ["a", "b"]), "limit: must have 2 numbers"),
        (("ee_delta", [0.1] * 5, 20.0), "limit: must be 6 numbers"),
        (("cartesian", [0.1], 20.0), "'cartesian' is unknown"),
        (("other", [-1.0], 20.0), "must be numbers above 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            named_space(*arguments)


def test_spaces_that_mean_something_else_are_told_apart() -> None:
    other = replace(CART, control_hz=20.0)
    with pytest.raises(
        ConfigError, match=r"model acts in 'cart' \(x, spin, hook, lamp\) at 10 Hz, data in .* at 20 Hz"
    ):
        CART.require_same_actions(other, "model", "data")
    CART.require_same_actions(replace(CART, mean=(), std=()), "model", "data")
