"""Out of a standstill: when a policy is stuck, what it does then, and for how long."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lewm_ros.planning.escape import MOST, Escape, EscapeSettings

DT_NS = 50_000_000
MOVING = np.array([True, True, False])
STILL, ON_THE_WAY = np.tile([0.0, 0.1, 9.0], (20, 1)), np.tile([0.0, 0.9, 9.0], (20, 1))


@pytest.fixture
def escape() -> Escape:
    return Escape(EscapeSettings(stuck_s=0.2, escape_s=0.1), MOVING, torch.Generator().manual_seed(0))


def test_a_policy_that_stands_still_for_long_does_something_else_for_a_moment(escape: Escape) -> None:
    # It is watched for 0.2 s, four steps; then for 0.1 s, two steps, it does what was drawn; then it is watched anew.
    drawn = [escape.saw(step * DT_NS, STILL, left=lambda: 80.0) for step in range(12)]
    assert [number for number, aside in enumerate(drawn) if aside is not None] == [4, 5, 10, 11]
    assert torch.equal(drawn[4], drawn[5])  # one direction, held
    assert not torch.equal(drawn[4], drawn[10])
    assert drawn[4][:2].abs().max() <= MOST and drawn[4][:2].abs().min() > 0.0
    assert drawn[4][2] == 0.0  # a gripper is never drawn


def test_a_policy_that_moves_or_has_arrived_goes_on(escape: Escape) -> None:
    assert all(escape.saw(step * DT_NS, ON_THE_WAY, left=lambda: 80.0) is None for step in range(20))
    escape.forget()
    assert all(escape.saw(step * DT_NS, STILL, left=lambda: 15.0) is None for step in range(20))
