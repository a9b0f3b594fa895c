"""What comes between the arm and its task, to see how well it copes, or to teach that some of it does not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.environments.panda.cube_tasks import CUBE_AREA_M, cube_on_table, yaw_of
from lewm_ros.environments.panda.disturbance import Disturbance
from lewm_ros.robot.arm import Array

MOVED_M = 0.08
"""How far the cube is moved by hand."""

APPROACH_M, LIFTED_M = 0.10, 0.03
"""It is moved when the hand is so near, or taken away when it is so high."""

VIEW_CHANGES, CUBE_MOVES = 1.0 / 80.0, 1.0 / 80.0
VIEW_BRIGHTNESS = (0.4, 1.15)
"""While recording: chance per control step that the view changes and that the cube is moved, and the factor on all
light."""

MOUNT_M, KNOCK_M = 0.007, 0.002
"""Standard deviations per axis of where the cameras are in an episode, and of how far a change of view moves them. In
an episode they hardly move: who learns that the goal image may be off by a centimetre puts things down so far off."""


@dataclass
class Interference:
    """Looks at every control step, and interferes once. A new one is made for every problem.

    Args:
        now: whether it is time.
        interfere: does it.
    """

    now: Callable[[SimArm], bool]
    interfere: Callable[[SimArm], None]
    done: bool = field(default=False, init=False)

    def saw(self, arm: SimArm) -> None:
        """Look, and interfere if it is time."""
        if not self.done and self.now(arm):
            self.done = True
            self.interfere(arm)


class Variety:
    """What varies while demonstrations are recorded: the light, the places of the cameras, and that of the cube.

    The light changes within an episode since a goal image is seen in another light than the way to it. The cube is
    moved by hand at most once, and early, so that the episode ends with the cube at its goal.

    Args:
        rng: the episode's generator.
        moves_until: the cube is not moved after so many control steps.
    """

    def __init__(self, rng: np.random.Generator, moves_until: int) -> None:
        self.rng, self._moves_left = rng, moves_until
        self._mounted_m = rng.normal(0.0, MOUNT_M, 3)

    def saw(self, arm: SimArm) -> None:
        """Look at a control step, and change something if it is time."""
        if self.rng.random() < VIEW_CHANGES:
            self.change_view(arm)
        self._moves_left -= 1
        if self._moves_left >= 0 and self.rng.random() < CUBE_MOVES:
            self._moves_left = 0
            arm.place_cube(self._another_place(arm.cube_pose[:2]))

    def change_view(self, arm: SimArm) -> None:
        """Draw the light, and where the cameras are knocked to."""
        offset_m = self._mounted_m + self.rng.normal(0.0, KNOCK_M, 3)
        arm.disturbance = Disturbance(tuple(offset_m), brightness=self.rng.uniform(*VIEW_BRIGHTNESS))

    def _another_place(self, place_m: Array) -> Array:
        """A pose (7,) near a place (2,), and far enough for the fingers not to be in the cube then."""
        place_m = np.clip(place_m, *CUBE_AREA_M)
        while True:
            angle, far = self.rng.uniform(-np.pi, np.pi), self.rng.uniform(MOVED_M, 1.5 * MOVED_M)
            other = place_m + far * np.array([np.cos(angle), np.sin(angle)])
            if np.all((other >= CUBE_AREA_M[0]) & (other <= CUBE_AREA_M[1])):
                return cube_on_table(other, self.rng.uniform(-np.pi / 4.0, np.pi / 4.0))


def move_cube(arm: SimArm) -> None:
    """Put the cube `MOVED_M` aside, towards the middle of the table."""
    place = arm.cube_pose[:2]
    way = CUBE_AREA_M.mean(0) - place
    way = way / np.linalg.norm(way) if np.linalg.norm(way) > 1e-3 else np.array([0.0, 1.0])
    arm.place_cube(cube_on_table(place + MOVED_M * way, yaw_of(arm.cube_pose)))


def _change_view(**changes: object) -> Callable[[SimArm], None]:
    def change(arm: SimArm) -> None:
        arm.disturbance = Disturbance(**changes)

    return change


def _is_near(arm: SimArm) -> bool:
    return bool(np.linalg.norm(arm.tcp_position_m - arm.cube_pose[:3]) < APPROACH_M)


def _is_lifted(arm: SimArm) -> bool:
    return bool(arm.cube_pose[2] - cube_on_table(np.zeros(2), 0.0)[2] > LIFTED_M)


INTERFERENCES: dict[str, Callable[[], Interference]] = {
    "cube_moved": lambda: Interference(_is_near, move_cube),
    "cube_taken": lambda: Interference(_is_lifted, move_cube),
    "lights_halved": lambda: Interference(lambda _: True, _change_view(brightness=0.5)),
    "camera_shifted": lambda: Interference(lambda _: True, _change_view(camera_offset_m=(0.0, 0.01, 0.0))),
}
"""By name: the cube is moved 8 cm when the hand comes near; taken out of the hand and put down 8 cm aside; the light is
halved; the cameras are shifted by 1 cm (the last two from the first step on, but not in the goal image)."""
