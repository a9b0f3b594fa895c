"""The scripted demonstrators of push and pick_place, and what varies while they are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lewm_ros.environments.panda import SimArm
from lewm_ros.environments.panda.actions import apply_action, panda_space
from lewm_ros.environments.panda.arm import CUBE_HALF_M, GRIPPER_OPEN_M
from lewm_ros.environments.panda.cube_tasks import CUBE_AREA_M, TIP_HEIGHT_M, cube_on_table, hand_down, nearly_there
from lewm_ros.environments.panda.environment import PandaEnvironment
from lewm_ros.environments.panda.experts import Expert, PickPlaceExpert, PushExpert, hand_yaw
from lewm_ros.environments.panda.interference import MOVED_M, Variety
from lewm_ros.environments.panda.problem import CubeWay, PandaProblem
from lewm_ros.environments.panda.tasks import make_task
from lewm_ros.robot.arm import PANDA

TWISTS = panda_space("ee_delta", 20.0, gripper=True)
CUBE_M = np.array([0.5, 0.0])


@pytest.fixture(scope="module")
def arm() -> Iterator[SimArm]:
    """An arm with a cube beside it; each test resets it."""
    arm = SimArm(image_size=16, cube=True)
    yield arm
    arm.close()


def put(arm: SimArm, aside_m: tuple[float, float], height_m: float, turned_rad: float = 0.0) -> PandaProblem:
    """The open hand so far aside of the cube, so high above where it grasps, and so much turned against it."""
    hand = np.array([*(CUBE_M + aside_m), TIP_HEIGHT_M + height_m])
    start = arm.solve_pose(hand, hand_down(turned_rad), PANDA.home_rad)
    goal = np.array([*(CUBE_M + 0.15), TIP_HEIGHT_M + 0.12])
    arm.reset(start, GRIPPER_OPEN_M, cube_on_table(CUBE_M, 0.0))
    return PandaProblem(start, start, goal, cube_on_table(CUBE_M, 0.0), cube_on_table(CUBE_M + 0.15, 0.0))


def clean(problem: PandaProblem) -> Expert:
    return PickPlaceExpert(problem, TWISTS.high, np.random.default_rng(0))


def test_the_turn_of_a_hand_is_read_from_how_it_points() -> None:
    for yaw in (-1.2, 0.0, 0.7):
        assert hand_yaw(hand_down(yaw)) == pytest.approx(yaw)
        assert hand_yaw(-hand_down(yaw)) == pytest.approx(yaw), "the same rotation"


@pytest.mark.parametrize(
    ("aside_m", "height_m", "sideways", "up"),
    [
        (0.0, 0.1, 0.0, -1),  # above the cube: down
        (0.04, 0.0, 0.0, 1),  # low beside it: up, or the fingers would push it away
        (0.04, 0.045, -1.0, 0),  # on the cone, 1.5 x (4 cm - 1 cm): sideways
        (0.08, 0.05, -1.0, 1),  # below it, but clear of the cube: sideways and up
        (0.04, 0.15, -1.0, -1),  # above the cone: sideways and down
    ],
)
def test_the_hand_comes_down_inside_a_cone(
    arm: SimArm, aside_m: float, height_m: float, sideways: float, up: int
) -> None:
    action = clean(put(arm, (aside_m, 0.0), height_m)).act(arm)
    assert np.sign(action[0].round(3)) == sideways
    assert np.sign(action[2].round(3)) == up
    assert action[6] == -1.0


def test_the_hand_turns_when_it_is_near(arm: SimArm) -> None:
    # It begins at 14 cm, and from 8 cm on all of the turn is wanted; at 13.4 cm a tenth of the .5 rad. A step goes a
    # fifth of it, or what is allowed.
    turning = [abs(clean(put(arm, (aside, 0.0), 0.2, 0.5)).act(arm)[5]) for aside in (0.15, 0.134, 0.07)]
    np.testing.assert_allclose(turning, [0.0, 0.01, TWISTS.high[5]], atol=2e-3)


def test_the_hand_does_not_come_down_turned(arm: SimArm) -> None:
    # .5 rad, of which .15 do no harm, are worth 4.2 cm of height.
    assert clean(put(arm, (0.0, 0.0), 0.03, 0.5)).act(arm)[2] > 0.0
    assert clean(put(arm, (0.0, 0.0), 0.06, 0.5)).act(arm)[2] < 0.0


def test_nearly_there_the_cube_is_near_its_place_and_the_hand_clear_above_it(arm: SimArm) -> None:
    task, rng = make_task("push"), np.random.default_rng(3)
    for _ in range(5):
        problem = nearly_there(arm, task.sample(arm, rng), rng)
        task.start(arm, problem)
        assert 0.025 <= task.distance_m(arm, problem) <= 0.08 and not arm.touches_cube
        apart = arm.tcp_position_m - arm.cube_pose[:3]
        assert np.linalg.norm(apart[:2]) <= 0.051 and 0.044 <= arm.tcp_position_m[2] - TIP_HEIGHT_M <= 0.131


def test_who_pushes_slides_the_cube_it_holds_straight_to_its_place(arm: SimArm) -> None:
    # The place is 15 cm further in x and y. The open hand closes first; held, the cube is slid, not lifted or turned.
    expert = PushExpert(put(arm, (0.0, 0.0), 0.0), TWISTS.high, np.random.default_rng(0))
    assert expert.act(arm)[6] == 1.0
    while arm.gripper_m > CUBE_HALF_M + 1e-3:
        apply_action(arm, TWISTS, expert.act(arm))
    action = expert.act(arm)
    assert action[0] == pytest.approx(action[1], abs=1e-3) and action[0] > 0.005
    np.testing.assert_allclose(action[[2, 5, 6]], [0.0, 0.0, 1.0], atol=3e-3)


def test_who_carries_turns_at_once_as_the_goal_image_shows_the_hand(arm: SimArm) -> None:
    # Turned by -.6 rad, with a place 21 cm away and turned by .5: by -.47 rad the cube's faces would fit, too.
    problem = put(arm, (0.0, 0.0), 0.0, -0.6)
    arm.reset(problem.start_rad, GRIPPER_OPEN_M, cube_on_table(CUBE_M, -0.6))
    expert = clean(replace(problem, cube_goal_pose=cube_on_table(CUBE_M + 0.15, 0.5)))
    while arm.gripper_m > CUBE_HALF_M + 1e-3:
        apply_action(arm, TWISTS, expert.act(arm))
    before = hand_yaw(arm.tcp_quaternion)
    for _ in range(5):
        apply_action(arm, TWISTS, expert.act(arm))
    assert hand_yaw(arm.tcp_quaternion) > before + 0.15
    assert np.linalg.norm(arm.cube_pose[:2] - expert.goal_m[:2]) > 0.15, "still far from its place"


def test_fingers_that_closed_two_centimetres_off_have_hold_of_the_cube(arm: SimArm) -> None:
    # They take the cube aside of the middle between them: who opens them again never gets anywhere.
    expert = clean(put(arm, (0.0, 0.0), 0.0))
    arm.reset(arm.positions_rad, GRIPPER_OPEN_M, cube_on_table(CUBE_M + np.array([0.018, 0.0]), 0.0))
    assert expert.act(arm)[6] == -1.0, "not near enough to close"
    closing = np.array([0.0] * 6 + [1.0])
    while arm.gripper_m > CUBE_HALF_M + 1e-3:
        apply_action(arm, TWISTS, closing)
    action = expert.act(arm)
    assert action[6] == 1.0 and action[2] > 0.0


def test_the_hand_leaves_when_its_fingers_are_wide_open(arm: SimArm) -> None:
    expert = clean(put(arm, (0.0, 0.0), 0.0))
    at_goal = cube_on_table(expert.goal_m[:2], 0.0)
    above = arm.solve_pose(np.array([*expert.goal_m[:2], TIP_HEIGHT_M]), hand_down(0.0), PANDA.home_rad)
    for opening_m, up in ((0.034, 0), (GRIPPER_OPEN_M, 1)):
        arm.reset(above, opening_m, at_goal)
        action = expert.act(arm)
        assert np.sign(action[2].round(3)) == up and action[6] == -1.0


def test_a_cube_that_was_carried_was_not_pushed(arm: SimArm) -> None:
    problem, task = put(arm, (0.0, 0.0), 0.1), make_task("push")
    arm.reset(problem.start_rad, cube_pose=problem.cube_goal_pose)
    for highest_m, placed in ((0.02, True), (0.03, False)):
        way = CubeWay(highest_m=highest_m, touched=True)
        assert task.stages(arm, problem, way) == {"touched": True, "near": True, "strictly": placed, "placed": placed}


def test_who_goes_astray_is_low_beside_the_cube_before_the_cube_is_grasped(arm: SimArm) -> None:
    astray = 0
    for seed in range(12):
        problem = put(arm, (0.1, 0.1), 0.2)
        expert = PickPlaceExpert(problem, TWISTS.high, np.random.default_rng(seed), noise=1e-6)
        if not expert.is_astray or np.linalg.norm(expert.astray_m) < 0.02:
            continue
        astray += 1
        for _ in range(60):
            apply_action(arm, TWISTS, expert.act(arm))
            if not expert.is_astray:
                break
        tip = arm.tcp_position_m
        assert np.linalg.norm(tip[:2] - CUBE_M - expert.astray_m) < 0.02
        assert tip[2] < TIP_HEIGHT_M + 0.08
    assert astray >= 2


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(("name", "expert"), [("push", PushExpert), ("pick_place", PickPlaceExpert)])
def test_experts_solve_their_task(arm: SimArm, name: str, expert: type[Expert], noise: float) -> None:
    task, limit = make_task(name), TWISTS.high
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        problem = task.sample(arm, rng)
        task.start(arm, problem)
        behaviour = expert(problem, limit, rng, noise)
        highest_m = 0.0
        for _ in range(round(task.budget_s * TWISTS.control_hz)):
            action = behaviour.act(arm)
            assert np.all(np.abs(action) <= limit)
            apply_action(arm, TWISTS, action)
            highest_m = max(highest_m, float(arm.cube_pose[2]))
        assert task.distance_m(arm, problem) <= task.success_m
        # The cube was carried over the table, or never left it.
        assert highest_m > 0.08 if name == "pick_place" else highest_m < 1.5 * CUBE_HALF_M


@pytest.mark.parametrize("space", ["ee_delta", "joint_delta"])
def test_what_an_expert_intends_is_what_it_does_but_for_the_noise(space: str) -> None:
    for noise in (0.0, 0.3):
        environment = PandaEnvironment("push", image_size=16, action_space=space, noise=noise)
        recording = environment.record(0, np.random.default_rng(1))
        off = []
        for _ in range(60):
            action = recording.behaviour.act()
            off.append(np.abs(action - recording.intention()).max())
            environment.step(action)
        assert (max(off) > 1e-3) == (noise > 0.0)
        assert min(off) < 1e-3, "noise comes in gusts"
        environment.close()


@pytest.mark.parametrize("height_m", [0.0, 0.05])
@pytest.mark.parametrize("aside_m", [(0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03)])
def test_the_wrist_camera_sees_a_cube_that_the_hand_misses_by_little(
    aside_m: tuple[float, float], height_m: float
) -> None:
    near = SimArm(image_size=48, cameras=("wrist",), cube=True)
    put(near, aside_m, height_m)
    red, green, blue = np.moveaxis(near.frames()["wrist"].astype(float), -1, 0)
    assert np.mean((green > 1.5 * red) & (green > 1.5 * blue)) > 0.035
    near.close()


@pytest.mark.parametrize("task", ["push", "pick_place"])
def test_the_view_varies_and_the_cube_is_moved_at_most_once(task: str) -> None:
    environment, moved, changed = PandaEnvironment(task, image_size=16), 0, 0
    for seed in range(4):
        recording = environment.record(0, np.random.default_rng(seed))
        assert environment.arm.disturbance.brightness != 1.0, "from the first frame on"
        half, views, jumps = recording.steps // 2, set(), []
        for step in range(recording.steps):
            before = environment.arm.cube_pose[:2]
            environment.step(recording.behaviour.act())
            views.add(environment.arm.disturbance)
            if np.linalg.norm(environment.arm.cube_pose[:2] - before) > 0.9 * MOVED_M:
                jumps.append(step)
        assert len(jumps) <= 1 and all(step < half for step in jumps)
        moved, changed = moved + len(jumps), changed + len(views) - 1
    assert moved >= 1 and changed >= 2
    environment.reset(next(environment.problems(0)))
    assert environment.arm.disturbance.brightness == 1.0, "nobody meddles with who is evaluated"
    environment.close()


def test_a_cube_that_fell_off_is_put_back_where_cubes_belong(arm: SimArm) -> None:
    arm.reset(PANDA.home_rad, cube_pose=cube_on_table(np.array([1.5, 0.0]), 0.0))
    variety = Variety(np.random.default_rng(0), moves_until=2000)
    for _ in range(2000):
        variety.saw(arm)
    place = arm.cube_pose
    assert place[2] == pytest.approx(CUBE_HALF_M)
    assert np.all((place[:2] >= CUBE_AREA_M[0]) & (place[:2] <= CUBE_AREA_M[1]))
