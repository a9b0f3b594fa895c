"""The simulated Panda and one of its tasks as an environment."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lewm_ros.config import ConfigError
from lewm_ros.environments.environment import Behaviour, Recording, Score
from lewm_ros.environments.panda.actions import apply_action, panda_space
from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.environments.panda.cube_tasks import nearly_there
from lewm_ros.environments.panda.disturbance import Disturbance
from lewm_ros.environments.panda.experts import Expert, PickPlaceExpert, PushExpert
from lewm_ros.environments.panda.exploration import ANCHORS, KINDS, Explorer
from lewm_ros.environments.panda.interference import INTERFERENCES, Interference, Variety
from lewm_ros.environments.panda.problem import CubeWay, PandaProblem
from lewm_ros.environments.panda.tasks import Task, make_task, sample_free_joints
from lewm_ros.environments.smooth_noise import SmoothNoise
from lewm_ros.observation.observation import Observation
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm import PANDA, Array
from lewm_ros.robot.arm_actions import TWIST

CAMERAS = ("scene", "wrist")
FINGER = "panda_finger_joint1"
RECORDED_S = 5.0
"""Of an exploring episode."""

DEMONSTRATED_S = 7.0
"""Of an expert's episode."""

NEARLY_THERE = 0.3
"""Share of an expert's episodes that begin as if the cube had slipped away shortly before its place."""


class Actor(Protocol):
    """What moves the arm."""

    def act(self, arm: SimArm) -> Array:
        """The next action (dim,) of the space that it knows."""
        ...


@dataclass(frozen=True)
class Acting:
    """An actor on its arm; `change` turns its actions into those of the environment."""

    actor: Actor
    arm: SimArm
    change: Callable[[Array], Array] = np.asarray

    def act(self) -> Array:
        """The next action (dim,)."""
        return self.change(self.actor.act(self.arm))


@dataclass(frozen=True)
class Demonstrating(Acting):
    """An expert on its arm."""

    actor: Expert

    def intended(self) -> Array:
        """What the last action (dim,) would have been without the expert's noise."""
        return self.change(self.actor.intended)


EXPERTS: Mapping[str, type[Expert]] = {"push": PushExpert, "pick_place": PickPlaceExpert}
SPACES = {"reach": "joint_delta", "push": "ee_delta", "pick_place": "ee_delta"}
"""Which action space each task is recorded in unless another is asked for."""


class PandaEnvironment:
    """See `Environment`.

    Args:
        task: reach, push or pick_place.
        cameras: of `CAMERAS`; empty: the task's own.
        image_size: height and width of a frame, pixels.
        control_hz: actions per second; physics steps must fit into a control step.
        action_space: joint_delta or ee_delta; empty: the task's own.
        noise: largest noise of a scripted expert, as a share of the bounds; each episode draws its own.
        interference: what comes between the arm and its task, one of `INTERFERENCES`; empty: nothing.
        steady: light, cameras and cube stay as they are while demonstrations are recorded; see `Variety`.

    Raises:
        ConfigError: there is no such task, camera, action space or interference, or the rate does not fit physics.
    """

    def __init__(
        self,
        task: str = "reach",
        cameras: tuple[str, ...] = (),
        image_size: int = 96,
        control_hz: float = 20.0,
        action_space: str = "",
        noise: float = 0.3,
        interference: str = "",
        steady: bool = False,
    ) -> None:
        self.task: Task = make_task(task)
        cameras = cameras or (CAMERAS if self.task.needs_cube else CAMERAS[:1])
        unknown = [name for name in cameras if name not in CAMERAS]
        if unknown:
            raise ConfigError(f"cameras: the simulated Panda has {', '.join(CAMERAS)}, not '{' '.join(unknown)}'")
        if len(set(cameras)) < len(cameras):
            raise ConfigError(f"cameras: each only once, got {', '.join(cameras)}")
        if interference and not (interference in INTERFERENCES and self.task.needs_cube):
            raise ConfigError(
                f"interference '{interference}': there are {', '.join(INTERFERENCES)}, for push and pick_place"
            )
        self.arm = SimArm(control_hz, image_size, cameras, cube=self.task.needs_cube)
        self.name, self.cameras, self.budget_steps = task, cameras, round(self.task.budget_s * control_hz)
        self.action_space: ActionSpace = panda_space(action_space or SPACES[task], control_hz, self.task.needs_cube)
        self.vectors = {"proprio": PANDA.joint_names, "gripper": (FINGER,)}
        self._noise, self._steady = noise, steady
        self._problem: PandaProblem | None = None
        self._way = CubeWay()
        self._make_interference = INTERFERENCES.get(interference)
        self._interference: Interference | Variety | None = None

    def problems(self, seed: int) -> Iterator[PandaProblem]:
        """See `Environment`; drawn from a stream of their own."""
        rng = np.random.default_rng([seed, zlib.crc32(b"evaluate")])
        while True:
            yield self.task.sample(self.arm, rng)

    def reset(self, problem: PandaProblem) -> None:
        """See `Environment`."""
        self.pursue(problem)
        self.task.start(self.arm, problem)

    def pursue(self, problem: PandaProblem) -> None:
        """Take over the goal of a problem, from where everything is now."""
        self._problem, self._way = problem, CubeWay()
        if self._make_interference or self._interference:
            self.arm.disturbance = Disturbance()
        self._interference = self._make_interference() if self._make_interference else None

    def goals(self) -> list[Observation]:
        """See `Environment`: the view of the goal state."""
        with self.at_goal():
            return [self.observe()]

    @contextmanager
    def at_goal(self) -> Iterator[None]:
        """Inside, everything is in the goal state; afterwards all is as before."""
        with self.arm.posed():
            self.task.show_goal(self.arm, self._problem)
            yield

    def observe(self) -> Observation:
        """See `Environment`."""
        vectors = {"proprio": self.arm.positions_rad, "gripper": np.array([self.arm.gripper_m])}
        return Observation(self.arm.frames(), vectors, round(self.arm.time_s * 1e9))

    def labels(self) -> dict[str, Array]:
        """See `Environment`."""
        arm = self.arm
        labels = {
            "joint_velocity": arm.velocities_rad_s,
            "ee_position": arm.tcp_position_m,
            "ee_quaternion": arm.tcp_quaternion,
        }
        if arm.has_cube:
            labels |= {"object_pose": arm.cube_pose, "contact": np.array([float(arm.touches_cube)])}
            if self._problem is not None:
                labels["object_goal"] = self._problem.cube_goal_pose
        return labels

    def step(self, action: Array) -> None:
        """See `Environment`."""
        apply_action(self.arm, self.action_space, action)
        self.look()

    def look(self) -> None:
        """Take in what has become of the cube; to be called after every step of an arm that others move."""
        if self.arm.has_cube and self._problem is not None:
            self._way.saw(self.arm, self._problem.cube_start_pose)
            if self._interference is not None:
                self._interference.saw(self.arm)

    def score(self) -> Score:
        """See `Environment`: the distance of what the task is about to its place."""
        distance_m = self.task.distance_m(self.arm, self._problem)
        stages = self.task.stages(self.arm, self._problem, self._way)
        return Score(distance_m, "m", list(stages.values())[-1], stages)

    def record(self, number: int, rng: np.random.Generator) -> Recording:
        """See `Environment`: exploration of the joints, noise where actions are twists, or the task's expert."""
        return self._demonstrate(rng) if self.name in EXPERTS else self._explore(number, rng)

    def random(self, rng: np.random.Generator) -> Behaviour:
        """See `Environment`: through random joint positions, or noise where actions are more than joints."""
        if self.action_space.dim == len(PANDA.joint_names) and self.action_space.name == "joint_delta":
            return Acting(Explorer("waypoints", self.action_space.high, rng), self.arm)
        return SmoothNoise(self.action_space, rng)

    def expert(self) -> Behaviour | None:
        """See `Environment`: the scripted expert at an even pace, without noise."""
        if self.name not in EXPERTS:
            return None
        return self._acting(self._problem, np.random.default_rng(0), 0.0)

    def close(self) -> None:
        """See `Environment`."""
        self.arm.close()

    def _explore(self, number: int, rng: np.random.Generator) -> Recording:
        self._problem = None
        steps = round(RECORDED_S * self.action_space.control_hz)
        if self.action_space.name != "joint_delta":
            self.arm.reset(sample_free_joints(self.arm, rng))
            return Recording(SmoothNoise(self.action_space, rng), steps, {"kind": "noise"})
        kind = KINDS[number % len(KINDS)]
        explorer = Explorer(kind, self.action_space.high[: len(PANDA.joint_names)], rng)
        anchor = number // len(KINDS) % ANCHORS if kind == "wrist" else None
        self.arm.reset(explorer.start_rad(self.arm, anchor))
        return Recording(Acting(explorer, self.arm), steps, {"kind": kind, "anchor": anchor})

    def _demonstrate(self, rng: np.random.Generator) -> Recording:
        problem = self.task.sample(self.arm, rng)
        if rng.random() < NEARLY_THERE:
            problem = nearly_there(self.arm, problem, rng)
        self.reset(problem)
        noise = rng.uniform(0.0, self._noise)
        steps = round(DEMONSTRATED_S * self.action_space.control_hz)
        if not self._steady:
            variety = self._interference = Variety(rng, moves_until=steps // 2)
            variety.change_view(self.arm)
        acting = self._acting(problem, rng, noise)
        notes = {"kind": "expert", "noise": noise}
        return Recording(acting, steps, notes, problem, acting.intended)

    def _acting(self, problem: PandaProblem, rng: np.random.Generator, noise: float) -> Demonstrating:
        """The task's expert on the arm, in the actions of this environment."""
        twists = panda_space("ee_delta", self.action_space.control_hz, gripper=True)
        actor = EXPERTS[self.name](problem, twists.high, rng, noise)
        return Demonstrating(actor, self.arm, np.asarray if self.action_space.name == "ee_delta" else self._to_joints)

    def _to_joints(self, action: Array) -> Array:
        """A twist and a gripper command as joint deltas and the same command."""
        twist = len(TWIST)
        joints = self.arm.solve_twist(action[:twist]) - self.arm.target_rad
        return self.action_space.clip(np.concatenate([joints, action[twist:]]))
