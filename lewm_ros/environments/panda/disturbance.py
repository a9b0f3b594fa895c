"""What the cameras may be shown that no training data had: moved cameras, a strange object, another light."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

OBSTACLE_HALF_M = np.array([0.06, 0.06, 0.06])
OBSTACLE_RGBA = np.array([0.75, 0.10, 0.45, 1.0], np.float32)


@dataclass(frozen=True)
class Disturbance:
    """A change of what is drawn, not of what the arm can touch.

    Attributes:
        camera_offset_m: x, y, z in the base frame by which every camera is off its place.
        camera_turn_rad: rotation vector in the base frame by which every camera is turned.
        obstacle_position_m: x, y, z of the middle of a box (12 cm) in the base frame; below the table, that is with a
            negative z, there is none.
        brightness: factor on all light.
    """

    camera_offset_m: tuple[float, ...] = (0.0, 0.0, 0.0)
    camera_turn_rad: tuple[float, ...] = (0.0, 0.0, 0.0)
    obstacle_position_m: tuple[float, ...] = (0.0, 0.0, -1.0)
    brightness: float = 1.0

    def apply(self, scene: mujoco.MjvScene) -> None:
        """Change a scene that is about to be drawn."""
        turn = np.zeros(4)
        angle_rad = float(np.linalg.norm(self.camera_turn_rad))
        mujoco.mju_axisAngle2Quat(turn, np.divide(self.camera_turn_rad, angle_rad or 1.0), angle_rad)
        for camera in scene.camera:  # one per eye
            camera.pos = camera.pos + np.array(self.camera_offset_m, np.float32)
            camera.forward, camera.up = _turned(camera.forward, turn), _turned(camera.up, turn)
        for light in scene.lights[: scene.nlight]:
            light.ambient, light.diffuse = self.brightness * light.ambient, self.brightness * light.diffuse
        if self.obstacle_position_m[2] >= 0.0:
            mujoco.mjv_initGeom(
                scene.geoms[scene.ngeom],
                mujoco.mjtGeom.mjGEOM_BOX,
                OBSTACLE_HALF_M,
                np.array(self.obstacle_position_m),
                np.eye(3).ravel(),
                OBSTACLE_RGBA,
            )
            scene.ngeom += 1


def _turned(vector: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, vector.astype(np.float64), quaternion)
    return turned
