"""Joint velocities for a motion of the end effector, found by quadratic programming with the library mink."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError
from lewm_ros.robot.limits import ASSETS, SHIPPED, JointLimits, load_limits

Array = NDArray[np.float64]


FRANKA_MJCF = ASSETS / "panda_primitives.xml"


class DifferentialIK:
    """Turns end-effector deltas into joint velocities within the position and velocity limits, in any thread.

    Args:
        mjcf: MuJoCo model of the arm; joints that are not in `limits` stay where they are.
        limits: of the arm's joints, in the order of all arrays here; they replace those of the model.
        control_hz: deltas per second.
        site: the end effector in the model.
        damping: how much small joint velocities are preferred to following exactly, which matters near singularities.

    Raises:
        ConfigError: mink is not installed, or the model lacks a joint or the site.
    """

    def __init__(
        self, mjcf: Path, limits: JointLimits, control_hz: float, site: str = "tcp", damping: float = 1e-6
    ) -> None:
        try:
            import mink
        except ImportError:
            raise ConfigError("differential IK needs the library mink: pip install 'lewm_ros[ik]'") from None
        self._mink, self._dt, self._site, self._damping = mink, 1.0 / control_hz, site, damping
        try:
            model = mujoco.MjModel.from_xml_path(str(mjcf))
            joints = [model.joint(name) for name in limits.joint_names]
            model.site(site)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{mjcf}: {str(error.args[0]).splitlines()[0]}") from None
        self._positions = [joint.qposadr[0] for joint in joints]
        self._velocities = [joint.dofadr[0] for joint in joints]
        model.jnt_range[[joint.id for joint in joints]] = np.transpose([limits.lower_rad, limits.upper_rad])
        self._configuration = mink.Configuration(model)
        speeds = dict(zip(limits.joint_names, map(np.atleast_1d, limits.velocity_rad_s), strict=True))
        self._limits = [mink.ConfigurationLimit(model, gain=1.0), mink.VelocityLimit(model, speeds)]
        others = sorted(set(range(model.nv)) - set(self._velocities))
        self._constraints = [mink.DofFreezingTask(model, others)] if others else []
        self._task = mink.FrameTask(site, "site", position_cost=1.0, orientation_cost=1.0)
        self._one_at_a_time = Lock()

    def velocities(self, positions_rad: Array, ee_delta: Array) -> Array:
        """Joint velocities (J,), rad/s, for one control step.

        Args:
            positions_rad: joint positions (J,) before the step.
            ee_delta: motion (6,) during the step in the base frame: metres, then a rotation vector in rad.

        Raises:
            ValueError: it is not finite, or no velocities keep the limits, since a joint is outside them.
        """
        if not np.isfinite(ee_delta).all():
            raise ValueError(f"the motion of the end effector is not finite: {ee_delta}")
        with self._one_at_a_time:
            return self._solve(positions_rad, ee_delta)

    def follow(self, positions_rad: Array, ee_deltas: Array) -> Array:
        """Joint positions (n, J) after each of the motions (n, 6), from positions (J,); they stay where IK fails."""
        path = np.empty((len(ee_deltas), len(positions_rad)))
        for step, ee_delta in enumerate(ee_deltas):
            with suppress(ValueError):
                positions_rad = positions_rad + self.velocities(positions_rad, ee_delta) * self._dt
            path[step] = positions_rad
        return path

    def motion(self, start_rad: Array, end_rad: Array) -> Array:
        """How the end effector moves (6,) between joint positions (J,): the inverse of `velocities`."""
        with self._one_at_a_time:
            start, end = self._pose(start_rad), self._pose(end_rad)
        turned = end.rotation() @ start.rotation().inverse()
        return np.concatenate([end.translation() - start.translation(), turned.log()])

    def _pose(self, positions_rad: Array) -> Any:
        """Of the end effector, an SE3."""
        qpos = self._configuration.model.qpos0.copy()
        qpos[self._positions] = positions_rad
        self._configuration.update(qpos)
        return self._configuration.get_transform_frame_to_world(self._site, "site")

    def _solve(self, positions_rad: Array, ee_delta: Array) -> Array:
        mink, configuration = self._mink, self._configuration
        present = self._pose(positions_rad)
        turned = mink.SO3.exp(np.asarray(ee_delta[3:6], dtype=np.float64)) @ present.rotation()
        moved = present.translation() + ee_delta[:3]
        self._task.set_target(mink.SE3.from_rotation_and_translation(turned, moved))
        try:
            velocity = mink.solve_ik(
                configuration,
                [self._task],
                self._dt,
                solver="daqp",
                damping=self._damping,
                limits=self._limits,
                constraints=self._constraints or None,
            )
        except mink.NoSolutionFound:
            raise ValueError("no joint velocities keep the limits; is a joint outside them?") from None
        return velocity[self._velocities]


def franka_ik(limits: JointLimits, control_hz: float) -> DifferentialIK:
    """For a Panda or FR3: they differ in their limits and in the names of their joints, not in their lengths.

    Raises:
        ConfigError: the limits are those of another arm, or mink is not installed.
    """
    model_names = load_limits("panda").joint_names
    for arm in SHIPPED:
        names = load_limits(arm).joint_names
        if set(names) == set(limits.joint_names):
            renamed = tuple(model_names[names.index(name)] for name in limits.joint_names)
            return DifferentialIK(FRANKA_MJCF, replace(limits, joint_names=renamed), control_hz)
    raise ConfigError(
        f"differential IK knows the joints of {' and '.join(SHIPPED)} only, not {', '.join(limits.joint_names)}"
    )
