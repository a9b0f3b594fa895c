"""The schedule of the chaos run, and what it asks for; the run itself is `make chaos`."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from chaos import PARTS, draw, must_be_said
from faults import HARMLESS, IN_MOTION, STOPPING


def test_the_schedule_follows_from_the_seed_and_pairs_different_things() -> None:
    for part in PARTS:
        faults = {fault.name: fault for fault in part.faults}
        assert len(faults) == len(part.faults), "names tell faults apart"
        planned = draw(part, 600.0, np.random.default_rng(3))
        assert planned == draw(part, 600.0, np.random.default_rng(3))
        assert planned != draw(part, 600.0, np.random.default_rng(4))
        assert {len(event.faults) for event in planned} == {1, 2}
        pairs = [[faults[name] for name in event.faults] for event in planned if len(event.faults) == 2]
        assert all(first.of != other.of and part.apart(first, other) for first, other in pairs)
    assert sum(part.share for part in PARTS) == pytest.approx(1.0)


def test_what_must_be_said_of_two_faults() -> None:
    fault = {fault.name: fault for fault in (*STOPPING, *IN_MOTION, *HARMLESS)}

    def said(*names: str) -> list[str]:
        return [reason.words for reason in must_be_said([fault[name] for name in names])]

    assert said("joint missing", "goal withdrawn") == ["joint 'panda_joint7' is missing", "no goal: it was withdrawn"]
    assert said("wrong encoding", "e-stop during motion") == ["'rgb888' is unknown", "stopped: e-stop"], (
        "by the encoder"
    )
    assert said("camera repeats a frame under new stamps", "joint missing") == ["joint 'panda_joint7' is missing"]
    assert said("camera repeats a frame under new stamps", "joint order shuffled") == ["has frozen: equal frames"]
