"""The record of executed and scheduled actions: any phase, rest beyond what is known."""

import numpy as np
import pytest

from lewm_ros.planning.action_timeline import ActionTimeline
from lewm_ros.robot.action_space import ActionSpace, Channel

DT = 50_000_000
SPACE = ActionSpace(
    "toy",
    (Channel("joint"), Channel("speed", "velocity", low=-9.0, high=9.0), Channel("gripper", "absolute", rest=None)),
    control_hz=20.0,
)
STEPS = np.array([[0.1, 1.0, -1.0], [0.2, 2.0, -1.0], [0.4, 4.0, 1.0]])


def timeline() -> ActionTimeline:
    """Three steps from time 0 on."""
    made = ActionTimeline(SPACE)
    made.schedule(0, STEPS)
    return made


def test_in_phase_the_actions_come_back_as_they_are():
    np.testing.assert_allclose(timeline().read(0, 3), STEPS)


def test_out_of_phase_deltas_add_up_rates_are_averaged_and_the_middle_decides():
    # From 0.6 of a step on: 0.4 of the first and 0.6 of the second; the middle lies in the second.
    read = timeline().read(round(0.6 * DT), 2)
    np.testing.assert_allclose(read[0], [0.4 * 0.1 + 0.6 * 0.2, 0.4 * 1.0 + 0.6 * 2.0, -1.0])
    np.testing.assert_allclose(read[1], [0.4 * 0.2 + 0.6 * 0.4, 0.4 * 2.0 + 0.6 * 4.0, 1.0])


def test_before_and_after_is_rest_and_the_gripper_stays_where_it_is():
    read = timeline().read(-DT, 5)
    np.testing.assert_allclose(read[0], [0.0, 0.0, np.nan])
    np.testing.assert_allclose(read[4], [0.0, 0.0, 1.0])


def test_nothing_known_is_rest_as_the_newest_action_left_it():
    empty = ActionTimeline(SPACE)
    empty.begin(newest=np.array([0.3, 3.0, 0.5]))
    np.testing.assert_allclose(empty.read(7, 2), [[0.0, 0.0, 0.5]] * 2)


def test_what_was_executed_replaces_its_own_step_only():
    made = timeline()
    made.record(DT, np.array([[0.05, 0.5, -1.0]]))
    np.testing.assert_allclose(made.read(0, 3)[:, 0], [0.1, 0.05, 0.4])


def test_a_record_out_of_phase_cuts_the_steps_at_its_edges():
    made = timeline()
    made.record(DT // 2, np.array([[0.0, 0.0, 0.0]]))
    # Half of the first step is left, and half of the second.
    np.testing.assert_allclose(made.read(0, 3)[:, 0], [0.05, 0.1, 0.4])


def test_a_schedule_ends_what_was_scheduled_after_it():
    made = timeline()
    made.schedule(DT, np.array([[0.3, 3.0, 0.0]]))
    np.testing.assert_allclose(made.read(0, 3), [STEPS[0], [0.3, 3.0, 0.0], [0.0, 0.0, 0.0]])


def test_a_schedule_may_come_into_force_in_the_midst_of_a_step():
    made = timeline()
    made.schedule(0, np.array([[0.3, 3.0, 0.0]] * 2), from_ns=round(0.4 * DT))
    # 0.4 of the first step stay, the gripper in the middle of it is the new one's.
    np.testing.assert_allclose(made.read(0, 3)[:, 0], [0.4 * 0.1 + 0.6 * 0.3, 0.3, 0.0])
    np.testing.assert_allclose(made.read(0, 2)[:, 2], [0.0, 0.0])


@pytest.mark.parametrize("time_ns", [DT, 2 * DT, 100 * DT])
def test_what_is_forgotten_does_not_change_what_comes_after(time_ns: int):
    made = timeline()
    before = made.read(time_ns, 4)
    made.forget_before(time_ns)
    np.testing.assert_allclose(made.read(time_ns, 4), before)
