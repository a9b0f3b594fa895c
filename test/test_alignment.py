"""Frames and joint states that belong together, by stamps in milliseconds."""

from __future__ import annotations

import pytest

from lewm_ros.observation.alignment import Alignment, FramePairing
from lewm_ros.observation.timeline import ClockJump, Held

MS = 1_000_000


def at(ms: int) -> Held:
    return Held(ms * MS, ms * MS, ms)


def pairs(pairing: FramePairing, *frames: tuple[str, int]) -> list[tuple[int, int]]:
    done = [pair for camera, ms in frames for pair in pairing.push(camera, at(ms))]
    return [(pair.frames["scene"].value, pair.frames["wrist"].value) for pair in done]


@pytest.fixture
def pairing() -> FramePairing:
    return FramePairing(["scene", "wrist"], 0.025)


def test_frames_of_one_stamp_are_paired_whichever_comes_first(pairing: FramePairing) -> None:
    assert pairs(pairing, ("scene", 100), ("wrist", 100), ("wrist", 150), ("scene", 150)) == [(100, 100), (150, 150)]


def test_the_nearest_frame_is_taken_not_the_newest(pairing: FramePairing) -> None:
    assert pairs(pairing, ("wrist", 90), ("wrist", 120), ("scene", 100)) == [(100, 90)]
    assert pairs(pairing, ("scene", 150), ("wrist", 155)) == [(150, 155)]


def test_a_frame_waits_until_no_nearer_partner_can_come(pairing: FramePairing) -> None:
    assert pairs(pairing, ("wrist", 90), ("scene", 100)) == []
    assert pairs(pairing, ("wrist", 104)) == [(100, 104)]


def test_a_partner_beyond_the_tolerance_is_named_and_never_used(pairing: FramePairing) -> None:
    assert pairs(pairing, ("wrist", 60), ("scene", 100), ("wrist", 130)) == []
    assert pairing.problem == "camera wrist has no frame within 0.025 s of camera scene's"
    assert pairing.unpaired == {"wrist": 1}
    assert pairs(pairing, ("scene", 150), ("wrist", 150)) == [(150, 150)]
    assert pairing.problem == ""


def test_a_camera_that_stops_is_named_after_the_longest_wait(pairing: FramePairing) -> None:
    assert pairs(pairing, ("scene", 100), ("wrist", 100)) == [(100, 100)]
    assert pairs(pairing, *(("scene", ms) for ms in range(150, 1200, 50))) == []
    assert pairing.unpaired == {}
    assert pairs(pairing, ("scene", 1200)) == []  # 1050 ms after the first one that waits
    assert pairing.unpaired == {"wrist": 1}


def test_one_camera_is_paired_with_itself_at_once() -> None:
    (pair,) = FramePairing(["scene"], 0.0).push("scene", at(100))
    assert (pair.stamp_ns, pair.frames["scene"].value) == (100 * MS, 100)


def test_the_newest_vector_not_later_than_the_frame_joins_it() -> None:
    alignment = Alignment(["scene"], 0.0, ["proprio"], lambda: 0.1)
    assert alignment.push_vector("proprio", at(80)) == []
    assert alignment.push_frame("scene", at(100)) == []  # one of up to 100 ms may still come
    assert alignment.push_vector("proprio", at(95)) == []
    (aligned,) = alignment.push_vector("proprio", at(105))
    assert (aligned.frames["scene"].value, aligned.vectors["proprio"].value) == (100, 95)


def test_vectors_of_two_senders_are_held_each_by_itself() -> None:
    alignment = Alignment(["scene"], 0.0, ["proprio", "gripper"], lambda: 0.1)
    alignment.push_vector("proprio", at(100))
    alignment.push_frame("scene", at(100))
    alignment.push_vector("gripper", at(90))
    (aligned,) = alignment.push_vector("gripper", at(110))
    assert {name: held.value for name, held in aligned.vectors.items()} == {"proprio": 100, "gripper": 90}


def test_a_frame_without_a_recent_vector_is_left_out_and_the_reason_said() -> None:
    alignment = Alignment(["scene"], 0.0, ["proprio"], lambda: 0.1)
    alignment.push_vector("proprio", at(80))
    alignment.push_frame("scene", at(300))
    assert alignment.push_vector("proprio", at(310)) == []
    reason = "vector proprio has no message within 0.1 s before a frame"
    assert alignment.problem == reason
    alignment.push_vector("proprio", at(320))
    assert alignment.problem == reason, "no frame was joined since"
    alignment.push_frame("scene", at(315))
    assert alignment.problem == ""


def test_a_vector_that_never_comes_is_named_after_the_longest_wait() -> None:
    alignment = Alignment(["scene"], 0.0, ["proprio"])
    for ms in range(100, 1200, 50):
        assert alignment.push_frame("scene", at(ms)) == []
    assert alignment.problem == "vector proprio has no message before a frame"


def test_a_clock_that_jumps_back_is_said_and_after_a_restart_followed() -> None:
    alignment = Alignment(["scene", "wrist"], 0.025)
    alignment.push_frame("scene", at(5000))
    assert alignment.push_frame("scene", at(4950)) == []  # out of order, and of no use any more
    with pytest.raises(ClockJump, match=r"the clock jumps back by 4\.900 s"):
        alignment.push_frame("scene", at(100))
    alignment.restart()
    alignment.push_frame("scene", at(100))
    (aligned,) = alignment.push_frame("wrist", at(110))
    assert aligned.stamp_ns == 100 * MS


def test_what_does_not_come_in_order_is_counted_by_camera(pairing: FramePairing) -> None:
    assert pairs(pairing, ("scene", 100), ("scene", 100), ("wrist", 100), ("wrist", 60)) == [(100, 100)]
    with pytest.raises(ValueError, match="the stamp is zero"):
        pairing.push("wrist", at(0))
    scene, wrist = (pairing.arrivals[camera].figures for camera in ("scene", "wrist"))
    assert (scene.received, scene.dropped) == (2, {"repeated stamp": 1})
    assert (wrist.received, wrist.dropped) == (3, {"out of order": 1, "stamp is zero": 1})


def test_the_last_frames_are_paired_when_no_more_come(pairing: FramePairing) -> None:
    assert pairs(pairing, ("wrist", 90), ("scene", 100), ("scene", 150)) == []
    (pair,) = pairing.finish()
    assert pair.stamp_ns == 100 * MS
    assert pairing.unpaired == {"wrist": 1}  # of 150 ms


def test_a_camera_whose_partner_sends_nothing_keeps_no_more_than_it_may_need(pairing: FramePairing) -> None:
    pairs(pairing, *(("wrist", ms) for ms in range(50, 10_000, 50)))
    assert pairs(pairing, ("scene", 9950), ("wrist", 9960)) == [(9950, 9950)]
    assert pairs(pairing, ("scene", 9955)) == [(9955, 9950)]
