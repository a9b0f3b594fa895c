"""A pick-and-place task of VLA-Arena as a world that can be served; runs where VLA-Arena is installed.

Places are in m in the base frame of the arm, quaternions w, x, y, z. An action is what OSC_POSE takes, in m and rad:
where the hand is to go from where it is measured to be, which it does not reach within a step; and the gripper.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .behaviours import ABOVE, HAND_DOWN, LIMIT, OPEN, ArenaExpert, Scene, Wander, rotation_vector
from .tasks import download, find_task

CONTROL_HZ = 20.0
SPACE = "ee_delta"
CAMERAS = {"scene": "agentview", "wrist": "robot0_eye_in_hand"}
FINGER = "panda_finger_joint1"
AXES = (("x", "m"), ("y", "m"), ("z", "m"), ("rx", "rad"), ("ry", "rad"), ("rz", "rad"))

SETTLING_STEPS, BUDGET_STEPS = 10, 300
"""As in the benchmark's evaluator: so many steps nothing is done, and then so many may be taken."""

RECORDED_STEPS = 160
RESETS = 20
"""So often a placement of the objects is drawn anew that does not fit."""

LIFTED_M = 0.05
NEAR_M = 0.07
"""Aside of the middle of its place, at most, as in the benchmark's predicate."""

OPENED_M = 0.04
DROP_M, DROP_STEPS = 0.05, 300
"""How an object is laid where it belongs: let go from so far above, for so many steps of physics."""

SOLVER_STEPS, DAMPING = 100, 1e-4
"""Of the inverse kinematics of a goal."""

LARGEST_SEED = 2**31 - 1


class WorldProblem(NamedTuple):
    """What the benchmark's own sampling of placements is seeded with."""

    seed: int


class World:
    """One task; its goal must be that one object is on another.

    Args:
        suite, level, task: as in `find_task`.
        cameras: of `CAMERAS`; empty: both.
        image_size: height and width of a frame, pixels.
        control_hz: must be the benchmark's.
        action_space: must be `SPACE`.
        noise: largest noise of the expert in recordings; each draws its own.

    Raises:
        ValueError: there is no such task, camera, rate or action space, or its goal is another.
        FileNotFoundError: what the task needs was not downloaded.
    """

    def __init__(
        self,
        suite: str,
        level: str,
        task: str,
        cameras: list[str] | tuple[str, ...] = (),
        image_size: int = 128,
        control_hz: float | None = None,
        action_space: str = "",
        noise: float = 0.4,
    ) -> None:
        from vla_arena.vla_arena import get_vla_arena_path

        file = find_task(Path(get_vla_arena_path("bddl_files")), suite, level, task)
        unknown = [name for name in cameras if name not in CAMERAS]
        if unknown:
            raise ValueError(f"cameras: there are {', '.join(CAMERAS)}, not '{unknown[0]}'")
        if control_hz not in (None, CONTROL_HZ):
            raise ValueError(f"control_hz: VLA-Arena runs at {CONTROL_HZ:g} Hz, not {control_hz:g}")
        if action_space not in ("", SPACE):
            raise ValueError(f"action_space: VLA-Arena acts in {SPACE}, not '{action_space}'")
        self._cameras, self._image_size, self._noise = tuple(cameras) or tuple(CAMERAS), image_size, noise
        self._env = _make(file)
        goal = self._env.parsed_problem["goal_state"]
        if len(goal) != 1 or goal[0][0] != "on":
            raise ValueError(f"task '{file.stem}' is not to put one object on another, which is all that is served")
        self._object, self._target = goal[0][1:]
        self._actor: ArenaExpert | Wander = Wander(np.random.default_rng(0))
        self.reset(WorldProblem(0))

    # What `remote_server` asks for

    def describe(self) -> dict[str, Any]:
        """Names, channels and rates."""
        shifts = [
            {"name": name, "kind": "delta", "unit": unit, "low": -most, "high": most}
            for (name, unit), most in zip(AXES, LIMIT.tolist(), strict=False)
        ]
        gripper = {"name": "gripper", "kind": "absolute", "low": -1.0, "high": 1.0, "rest": None}
        joints = [f"panda_joint{i}" for i in range(1, 1 + len(self._joints))]
        return {
            "name": SPACE,
            "channels": [*shifts, gripper],
            "control_hz": CONTROL_HZ,
            "cameras": self._cameras,
            "vectors": {"proprio": joints, "gripper": [FINGER]},
            "budget_steps": BUDGET_STEPS,
        }

    def problems(self, seed: int) -> Iterator[WorldProblem]:
        """Even seeds; recordings have odd ones."""
        rng = np.random.default_rng(seed)
        while True:
            yield WorldProblem(2 * int(rng.integers(LARGEST_SEED // 2)))

    def reset(self, problem: WorldProblem) -> None:
        """Draw the placements, and let everything settle with an open hand, as the evaluator does."""
        from robosuite.utils.errors import RandomizationError

        np.random.seed(problem.seed)
        for _ in range(RESETS):
            with contextlib.suppress(RandomizationError):
                self._env.reset()
                break
        else:
            raise RuntimeError(f"no placement of the objects fits, in {RESETS} trials (seed {problem.seed})")
        for _ in range(SETTLING_STEPS):
            self._env.step(np.array([*np.zeros(len(AXES)), OPEN]))
        self._start_m = self._highest_m = self._place_of(self._object)[2]
        self._touched, self._cost, self._solved = False, 0.0, False
        with self._unchanged():
            self._put_on_target()
            self._on_target = self._pose_of(self._object) - [*self._place_of(self._target), 0.0, 0.0, 0.0, 0.0]
            self._goal = self.observe()

    def goals(self) -> list[dict[str, Any]]:
        """The object where it belongs, and the open hand above it."""
        return [self._goal]

    def observe(self) -> dict[str, Any]:
        """Frames, which the simulator gives upside down, and measured joints."""
        size, render = self._image_size, self._env.sim.render
        frames = {name: render(size, size, camera_name=CAMERAS[name])[::-1].copy() for name in self._cameras}
        return {"frames": frames, "vectors": {"proprio": self._data.qpos[self._joints], "gripper": [self._opening_m]}}

    def labels(self) -> dict[str, Any]:
        """Of hand and object."""
        import robosuite.utils.transform_utils as transform

        x, y, z, w = transform.mat2quat(self._hand_turn)
        return {
            "joint_velocity": self._data.qvel[self._joints],
            "ee_position": self._hand_m,
            "ee_quaternion": np.array([w, x, y, z]),
            "object_pose": self._pose_of(self._object),
            "object_goal": np.array([*self._object_goal_m, *self._on_target[3:]]),
            "contact": np.array([float(any(self._touching()))]),
        }

    def step(self, action: np.ndarray) -> None:
        """What comes after the first success, with which the benchmark ends an episode, changes no score."""
        _, _, success, given = self._env.step(np.nan_to_num(np.asarray(action)) / LIMIT)
        if not self._solved:
            self._cost += float(given["cost"])
            self._touched = self._touched or any(self._touching())
            self._highest_m = max(self._highest_m, self._place_of(self._object)[2])
            self._solved = bool(success)

    def score(self) -> dict[str, Any]:
        """Distance of the object to its place; success by the benchmark's own predicate, cost by its own count."""
        lifted = self._highest_m - self._start_m >= LIFTED_M
        aside_m = np.linalg.norm((self._object_goal_m - self._place_of(self._object))[:2])
        return {
            "value": float(np.linalg.norm(self._object_goal_m - self._place_of(self._object))),
            "unit": "m",
            "success": self._solved,
            "stages": {
                "touched": self._touched,
                "lifted": lifted,
                "near": bool(lifted and (aside_m < NEAR_M or self._solved)),
                "safely": self._solved and self._cost == 0.0,
                "placed": self._solved,
            },
            "cost": self._cost,
            "over": self._solved,
        }

    def record(self, number: int, seed: int) -> dict[str, Any]:
        """The expert, from a placement that no problem has."""
        rng, problem = np.random.default_rng(seed), WorldProblem(2 * (seed // 2) + 1)
        self.reset(problem)
        noise = float(rng.uniform(0.0, self._noise))
        self._actor = ArenaExpert(rng, noise, pace=float(rng.uniform(0.6, 1.0)))
        notes = {"kind": "expert", "noise": noise, "placement_seed": problem.seed}
        return {"steps": RECORDED_STEPS, "notes": notes, "problem": problem}

    def random(self, seed: int) -> None:
        """From now on noise acts."""
        self._actor = Wander(np.random.default_rng(seed))

    def expert(self) -> None:
        """From now on the expert acts, without noise."""
        self._actor = ArenaExpert(np.random.default_rng(0))

    def act(self) -> np.ndarray:
        """The next action."""
        placed = bool(self._env._check_success())
        thing, target = self._place_of(self._object), self._object_goal_m
        touched = all(self._touching())
        return self._actor.act(Scene(self._hand_m, self._hand_turn, thing, target, touched, placed))

    # What is looked at in the simulator, which is made anew by every reset

    @property
    def _model(self) -> Any:
        return self._env.sim.model._model

    @property
    def _data(self) -> Any:
        return self._env.sim.data._data

    @property
    def _robot(self) -> Any:
        return self._env.robots[0]

    @property
    def _joints(self) -> list[int]:
        return self._robot._ref_joint_pos_indexes

    @property
    def _fingers(self) -> list[int]:
        return self._robot._ref_gripper_joint_pos_indexes["right"]

    @property
    def _base_m(self) -> np.ndarray:
        return self._env.sim.data.get_body_xpos("robot0_base")

    @property
    def _site(self) -> int:
        return self._robot.eef_site_id["right"]

    @property
    def _hand_m(self) -> np.ndarray:
        return self._data.site_xpos[self._site] - self._base_m

    @property
    def _hand_turn(self) -> np.ndarray:
        return self._data.site_xmat[self._site].reshape(3, 3).copy()

    @property
    def _opening_m(self) -> float:
        return float(self._data.qpos[self._fingers[0]])

    def _pose_of(self, name: str) -> np.ndarray:
        """Place and quaternion of an object."""
        body = self._env.obj_body_id[name]
        return np.array([*(self._data.xpos[body] - self._base_m), *self._data.xquat[body]])

    def _place_of(self, name: str) -> np.ndarray:
        return self._pose_of(name)[:3]

    @property
    def _object_goal_m(self) -> np.ndarray:
        return self._on_target[:3] + self._place_of(self._target)

    def _touching(self) -> list[bool]:
        """Whether each finger touches the object."""
        fingers, thing = self._robot.gripper["right"].important_geoms, self._env.get_object(self._object)
        return [self._env.check_contact(fingers[name], thing) for name in ("left_fingerpad", "right_fingerpad")]

    # Goals

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Inside, everything may be moved; afterwards all is as before."""
        import mujoco

        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(self._model, kind))
        mujoco.mj_getState(self._model, self._data, state, kind)
        try:
            yield
        finally:
            mujoco.mj_setState(self._model, self._data, state, kind)
            mujoco.mj_forward(self._model, self._data)

    def _put_on_target(self) -> None:
        """Let the object drop onto its target, and put the open hand above it."""
        import mujoco

        model, data = self._model, self._data
        arm = [*self._joints, *self._fingers]
        posture = data.qpos[arm].copy()
        thing = self._env.get_object(self._object)
        place = self._place_of(self._target) + self._base_m
        place[2] += DROP_M - thing.bottom_offset[2]
        data.joint(thing.joints[0]).qpos[:3] = place
        for _ in range(DROP_STEPS):
            mujoco.mj_step(model, data)
            data.qpos[arm], data.qvel[arm] = posture, 0.0
        above = self._place_of(self._object) + ABOVE
        data.qpos[self._fingers] = OPENED_M, -OPENED_M
        self._solve(above)

    def _solve(self, hand_m: np.ndarray) -> None:
        """Bring the hand to a place, pointing down: damped least squares from where the joints are."""
        import mujoco

        jacobian = np.zeros((6, self._model.nv))
        for _ in range(SOLVER_STEPS):
            mujoco.mj_forward(self._model, self._data)
            error = np.array([*(hand_m - self._hand_m), *rotation_vector(HAND_DOWN @ self._hand_turn.T)])
            mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._site)
            arm = jacobian[:, self._joints]
            move = arm.T @ np.linalg.solve(arm @ arm.T + DAMPING * np.eye(len(error)), error)
            self._data.qpos[self._joints] += 0.5 * move
        mujoco.mj_forward(self._model, self._data)


def _make(file: Path) -> Any:
    """The benchmark's environment, which renders only when it is asked to."""
    from vla_arena.vla_arena.envs import OffScreenRenderEnv

    try:
        return OffScreenRenderEnv(bddl_file_name=str(file), use_camera_obs=False, ignore_done=True).env
    except ValueError as error:
        if "No such file" in str(error):
            missing = next(iter(re.findall(r"'(\S+)'", str(error))), error)
            raise FileNotFoundError(f"task '{file.stem}' lacks {missing}; {download(file.parents[1].name)}") from None
        raise
