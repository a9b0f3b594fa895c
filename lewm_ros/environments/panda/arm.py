"""A Panda in MuJoCo: position servos with real dynamics, offscreen cameras."""

from __future__ import annotations

import atexit
import copy
import math
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")
# Mesa's software renderer works in the calling thread: to share out such small frames costs more than it gains.
os.environ.setdefault("LP_NUM_THREADS", "0")

import mujoco
import numpy as np
from numpy.typing import NDArray

from lewm_ros.environments.panda.disturbance import Disturbance
from lewm_ros.robot.arm import PANDA, Array

MJCF = Path(__file__).parents[2] / "assets" / "panda_primitives.xml"
GRIPPER_OPEN_M = 0.04
WORKSPACE_M = np.array([[0.25, -0.40, 0.02], [0.75, 0.40, 0.60]])
"""Corners of the box, in the base frame, that the scene camera sees and the end effector stays in."""

HAND_CORNERS_M = np.array([[-0.03, -0.10, 0.0], [-0.03, 0.10, 0.0], [0.07, -0.10, 0.0], [0.07, 0.10, 0.0]])
CUBE_HALF_M = 0.025
TABLE_FRICTION = 0.4


class SimArm:
    """The arm, its table and, if the task has one, a cube.

    Args:
        control_hz: commands per second; one `step` advances 1 / control_hz seconds, in equal steps of physics that are
            no longer than the scene's own (2.5 ms).
        image_size: height and width of a camera frame, pixels.
        cameras: names of the cameras.
        cube: put a free cube (5 cm) on the table.

    Attributes:
        disturbance: what the cameras see other than they should; it may be replaced at any time.
    """

    def __init__(
        self, control_hz: float = 20.0, image_size: int = 96, cameras: tuple[str, ...] = ("scene",), cube: bool = False
    ) -> None:
        spec = mujoco.MjSpec.from_file(str(MJCF))
        if cube:
            _add_cube(spec)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.control_hz = control_hz
        self.image_size = image_size
        self.cameras = cameras
        self.has_cube = cube
        self.disturbance = Disturbance()
        self._substeps = math.ceil(1.0 / control_hz / self.model.opt.timestep - 1e-6)  # a step too many by rounding
        self.model.opt.timestep = 1.0 / control_hz / self._substeps
        self._tcp = self.model.site("tcp").id
        self._scratch = mujoco.MjData(self.model)
        self._renderer: mujoco.Renderer | None = None
        self.reset(PANDA.home_rad)

    def reset(self, positions_rad: Array, gripper_m: float = GRIPPER_OPEN_M, cube_pose: Array | None = None) -> None:
        """Put everything at rest.

        Args:
            positions_rad: joint positions (7,).
            gripper_m: opening per finger, 0 (closed) to 0.04 m.
            cube_pose: position and quaternion (7,) as in `cube_pose`; None: the middle of the table.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:7] = self.data.ctrl[:7] = positions_rad
        self.data.qpos[7:9] = self.data.ctrl[7] = gripper_m
        if cube_pose is not None:
            self.data.qpos[9:16] = cube_pose
        mujoco.mj_forward(self.model, self.data)

    def step(self, target_rad: Array, gripper_m: float | None = None) -> None:
        """Advance one control step while the servo targets (7,) move on a straight line to `target_rad`.

        Args:
            target_rad: joint positions (7,) to command, clamped to the joint limits.
            gripper_m: opening per finger, 0 (closed) to 0.04 m; unchanged when None.
        """
        start = self.data.ctrl[:7].copy()
        target = PANDA.clamp(target_rad)
        if gripper_m is not None:
            self.data.ctrl[7] = np.clip(gripper_m, 0.0, GRIPPER_OPEN_M)
        for substep in range(1, self._substeps + 1):
            self.data.ctrl[:7] = start + (target - start) * (substep / self._substeps)
            mujoco.mj_step(self.model, self.data)

    @property
    def time_s(self) -> float:
        return float(self.data.time)

    @property
    def target_rad(self) -> Array:
        """Commanded joint positions (7,)."""
        return self.data.ctrl[:7].copy()

    @property
    def positions_rad(self) -> Array:
        """Measured joint positions (7,)."""
        return self.data.qpos[:7].copy()

    @property
    def velocities_rad_s(self) -> Array:
        """Measured joint velocities (7,)."""
        return self.data.qvel[:7].copy()

    @property
    def gripper_m(self) -> float:
        """Opening per finger."""
        return float(self.data.qpos[7])

    @property
    def tcp_position_m(self) -> Array:
        """Position (3,) of the point between the finger tips, in the base frame."""
        return self.data.site_xpos[self._tcp].copy()

    @property
    def tcp_quaternion(self) -> Array:
        """Orientation (4,) of the hand as w, x, y, z."""
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._tcp])
        return quaternion

    @property
    def cube_pose(self) -> Array:
        """Position and quaternion (7,) of the cube: x, y, z in m, then w, x, y, z."""
        return self.data.qpos[9:16].copy()

    def place_cube(self, pose: Array) -> None:
        """Put the cube at rest at a pose (7,), as a hand would; nothing else changes."""
        self.data.qpos[9:16] = pose
        self.data.qvel[9:15] = 0.0
        mujoco.mj_forward(self.model, self.data)

    @property
    def cube_speed_m_s(self) -> float:
        """How fast the cube moves."""
        return float(np.linalg.norm(self.data.qvel[9:12]))

    @property
    def touches_cube(self) -> bool:
        """Whether any part of the arm is in contact with the cube."""
        cube, table = self.model.body("cube").geomadr[0], self.model.geom("table").id
        pairs = self.data.contact.geom  # (contacts, 2)
        return not np.isin(pairs[(pairs == cube).any(axis=1)], (cube, table)).all()

    def forward_kinematics(self, positions_rad: Array) -> Array:
        """Position (3,) of the end effector at joint positions (7,), without moving the arm."""
        self._scratch.qpos[:7] = positions_rad
        mujoco.mj_kinematics(self.model, self._scratch)
        return self._scratch.site_xpos[self._tcp].copy()

    def is_free(self, positions_rad: Array) -> bool:
        """Whether, at joint positions (7,), the end effector is in the workspace and the hand clears the table."""
        tcp = self.forward_kinematics(positions_rad)
        hand = self._scratch.body("hand")
        corners = hand.xpos + HAND_CORNERS_M @ hand.xmat.reshape(3, 3).T
        lowest = min(tcp[2], corners[:, 2].min())
        return bool(np.all(tcp > WORKSPACE_M[0]) and np.all(tcp < WORKSPACE_M[1]) and lowest > WORKSPACE_M[0, 2])

    def twist_to(self, position_m: Array, quaternion: Array, positions_rad: Array) -> Array:
        """The twist (6,) from the hand's pose at joint positions (7,) to a pose: metres and a rotation vector.

        In the base frame; `quaternion` is w, x, y, z.
        """
        shift = position_m - self.forward_kinematics(positions_rad)
        present, rotation = np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(present, self._scratch.site_xmat[self._tcp])
        mujoco.mju_subQuat(rotation, quaternion, present)
        return np.concatenate([shift, self._scratch.site_xmat[self._tcp].reshape(3, 3) @ rotation])

    def solve_pose(self, position_m: Array, quaternion: Array, start_rad: Array) -> Array:
        """Joint positions (7,) that put the hand at a pose, searched from `start_rad` (7,).

        Raises:
            ValueError: the search did not get there.
        """
        positions = start_rad
        for _ in range(100):
            twist = self.twist_to(position_m, quaternion, positions)
            if np.linalg.norm(twist) < 1e-4:
                return positions
            positions = self.solve_twist(twist, positions)
        raise ValueError(f"no joint positions put the hand at {np.round(position_m, 3)} m, {np.round(quaternion, 3)}")

    def solve_twist(self, twist: Array, positions_rad: Array | None = None, damping: float = 0.03) -> Array:
        """Joint target (7,) that moves the hand by a twist (6,): metres and a rotation vector, base frame.

        Damped least squares on the Jacobian (Wampler, 1986) at joint positions (7,), by default the commanded ones.
        """
        positions = self.target_rad if positions_rad is None else positions_rad
        self._scratch.qpos[:7] = positions
        mujoco.mj_kinematics(self.model, self._scratch)
        mujoco.mj_comPos(self.model, self._scratch)
        jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self._scratch, jacobian[:3], jacobian[3:], self._tcp)
        arm = jacobian[:, :7]
        step = arm.T @ np.linalg.solve(arm @ arm.T + damping**2 * np.eye(6), twist)
        return PANDA.clamp(positions + step)

    def frames(self) -> dict[str, NDArray[np.uint8]]:
        """What each camera sees, RGB (height, width, 3)."""
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self.model, self.image_size, self.image_size)
            self._free_renderer = weakref.finalize(self, self._renderer.close)
            self._free_renderer.atexit = False
            # Registered after the handler that shuts EGL down, it runs before that one, while there is still EGL.
            atexit.register(self._free_renderer)
        frames = {}
        for camera in self.cameras:
            self._renderer.update_scene(self.data, camera)
            self.disturbance.apply(self._renderer.scene)
            frames[camera] = self._renderer.render()
        return frames

    @contextmanager
    def posed(self) -> Iterator[None]:
        """Inside, the arm may be put anywhere; afterwards all is as before."""
        # The whole of it: after a step, what is derived of the state is a little older than the state.
        before, disturbance = copy.copy(self.data), self.disturbance
        self.disturbance = Disturbance()
        try:
            yield
        finally:
            self.disturbance = disturbance
            mujoco.mj_copyData(self.data, self.model, before)

    def close(self) -> None:
        """Free the rendering context."""
        if self._renderer is not None:
            self._free_renderer()
            self._renderer = None


def _add_cube(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="cube", pos=[0.5, 0.0, CUBE_HALF_M])
    body.add_freejoint()
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF_M] * 3,
        mass=0.08,
        rgba=[0.15, 0.65, 0.20, 1.0],
        friction=[TABLE_FRICTION, 0.005, 0.0001],
        condim=4,
        contype=2,
        conaffinity=3,
    )
    # Otherwise a contact takes the larger friction of its sides: the pads are to grip the cube, but not the table.
    table = spec.geom("table")
    table.priority = 1
    table.friction[0] = TABLE_FRICTION
