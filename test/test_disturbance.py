"""Disturbances of the simulated scene, and how alarms over them are counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lewm_ros.environments.panda import Disturbance, SimArm
from lewm_training.bench.surprise_detection import STEPS, WatchedRun


@pytest.fixture(scope="module")
def arm() -> Iterator[SimArm]:
    arm = SimArm(image_size=64)
    yield arm
    arm.close()


def view(arm: SimArm, disturbance: Disturbance) -> np.ndarray:
    arm.disturbance = disturbance
    return arm.frames()["scene"].astype(int)


@pytest.mark.parametrize(
    "disturbance",
    [
        Disturbance(camera_offset_m=(0.0, 0.05, 0.0)),
        Disturbance(camera_turn_rad=(0.0, 0.0, 0.05)),
        Disturbance(obstacle_position_m=(0.6, 0.2, 0.06)),
        Disturbance(brightness=0.5),
    ],
)
def test_a_disturbance_is_seen_and_leaves_no_trace(arm: SimArm, disturbance: Disturbance) -> None:
    calm = view(arm, Disturbance())
    assert (view(arm, disturbance) != calm).any()
    np.testing.assert_array_equal(view(arm, Disturbance()), calm)


def test_less_light_is_darker_and_a_turned_camera_pans(arm: SimArm) -> None:
    calm = view(arm, Disturbance())
    assert view(arm, Disturbance(brightness=0.5)).mean() < 0.9 * calm.mean()
    # Turned to its left (about z, upwards), the camera sees everything further right by focal length x angle.
    focal_px = 32.0 / np.tan(np.deg2rad(41.0) / 2.0)
    turned = view(arm, Disturbance(camera_turn_rad=(0.0, 0.0, 6.0 / focal_px)))
    errors = [np.abs(turned[24:40, 16:48] - calm[24:40, 16 - shift : 48 - shift]).mean() for shift in range(-10, 11)]
    assert np.argmin(errors) - 10 in (4, 5, 6), "the camera looks down by 33 degrees: cos 33 = 0.84 of 6 pixels is 5"


def test_alarms_are_counted_from_the_first_judged_step() -> None:
    scores = [0.0] * (STEPS - 1)  # of steps 1 to 23
    scores[2 - 1] = scores[9 - 1] = scores[15 - 1] = scores[16 - 1] = 30.0
    run = WatchedRun(scores, touched_step=10)
    assert run.alarm(20.0, 1) == 9, "step 2 is not judged"
    assert run.alarm(20.0, 1, first=12) == 15
    assert run.alarm(20.0, 2) == 16
    assert run.alarm(40.0, 1) is None
    assert run.undisturbed_steps() == 6, "steps 4 to 9"
