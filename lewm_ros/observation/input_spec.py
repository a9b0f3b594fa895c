"""What a model takes in: which cameras and vectors, in what order, and how each is prepared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np

from lewm_ros.config import ConfigError
from lewm_ros.observation.observation import Frame, Observation, Vector

NORMALISATIONS = ("imagenet",)

UNNAMED = "camera"
"""The name of a camera that nobody has given one."""


@dataclass(frozen=True)
class CameraSpec:
    """One camera of a model.

    Args:
        name: of the camera.
        size: height and width of the frames that the model sees, pixels.
        crop: left, top, right and bottom of what is used of a frame, as shares of its width and height; empty: the
            central square.
        normalisation: of the pixels; there is only ImageNet's.
        in_goal: whether a goal has a frame of it.
        recorded_size: height of the frames that the model was trained on, pixels; 0: `size`.
    """

    name: str
    size: int
    crop: tuple[float, ...] = ()
    normalisation: str = "imagenet"
    in_goal: bool = True
    recorded_size: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"camera '{self.name}': size must be at least 1 pixel")
        if self.normalisation not in NORMALISATIONS:
            raise ConfigError(f"camera '{self.name}': normalisation must be {' or '.join(NORMALISATIONS)}")
        if self.crop:
            left, top, right, bottom = self.crop if len(self.crop) == 4 else (1.0, 1.0, 0.0, 0.0)
            if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
                raise ConfigError(
                    f"camera '{self.name}': crop must be left, top, right, bottom from 0 to 1, got {list(self.crop)}"
                )

    def fit(self, frame: Frame) -> Frame:
        """A frame (height, width, 3) as the model sees it (size, size, 3): cropped, and resized if it differs.

        Raises:
            ValueError: it is not an RGB frame.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise ValueError(f"camera '{self.name}': expected an RGB frame, got {frame.dtype} {frame.shape}")
        return fit_frame(frame, self.size, self.crop)


@dataclass(frozen=True)
class VectorSpec:
    """One vector of a model.

    Args:
        name: of the vector, which is its column in a dataset.
        components: names of its numbers; where they are joints, they are what `joint_states` calls them.
        mean, std: of every number in the training data, which z-score it.
        in_goal: whether a goal has it.
    """

    name: str
    components: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    in_goal: bool = False

    def __post_init__(self) -> None:
        if not self.components or not len(self.components) == len(self.mean) == len(self.std):
            raise ConfigError(f"vector '{self.name}': needs a name, a mean and a std for each of its numbers")
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0.0:
            raise ConfigError(f"vector '{self.name}': mean and std must be finite, every std above 0")

    def fit(self, vector: Vector) -> Vector:
        """A vector (n,) as it is.

        Raises:
            ValueError: it has another size or is not finite.
        """
        if np.shape(vector) != (len(self.components),):
            raise ValueError(f"vector '{self.name}': expected {len(self.components)} numbers, got {np.shape(vector)}")
        if not np.isfinite(vector).all():
            raise ValueError(f"vector '{self.name}': not finite: {np.asarray(vector).tolist()}")
        return vector


@dataclass(frozen=True)
class InputSpec:
    """The cameras and vectors of a model, in the order in which its state holds them."""

    cameras: tuple[CameraSpec, ...]
    vectors: tuple[VectorSpec, ...] = ()

    def __post_init__(self) -> None:
        names = [item.name for item in (*self.cameras, *self.vectors)]
        if not self.cameras or len(set(names)) != len(names):
            raise ConfigError("inputs: at least one camera, and each name only once")
        if len({camera.size for camera in self.cameras}) > 1:
            raise ConfigError("inputs: all cameras must have the same size")
        if not any(camera.in_goal for camera in self.cameras):
            raise ConfigError("inputs: a goal must have a frame of at least one camera")
        if len({vector.in_goal for vector in self.vectors}) > 1:
            raise ConfigError("inputs: a goal has all vectors or none")

    @property
    def recorded_size(self) -> int:
        """Height of the frames that the model was trained on, pixels; of several cameras the largest."""
        return max(camera.recorded_size or camera.size for camera in self.cameras)

    def of_goal(self) -> InputSpec:
        """What a goal has of it."""
        cameras = tuple(camera for camera in self.cameras if camera.in_goal)
        return InputSpec(cameras, tuple(vector for vector in self.vectors if vector.in_goal))

    def sources(self, cameras: Collection[str], where: str) -> dict[str, str]:
        """For every camera here, the name of the camera at a source that it is.

        The only camera of a model is the only one of a source, whatever the two call it.

        Raises:
            ConfigError: a camera is not there; `where` names the source.
        """
        wanted = [camera.name for camera in self.cameras]
        if len(wanted) == len(cameras) == 1:
            return {wanted[0]: next(iter(cameras))}
        for name in wanted:
            if name not in cameras:
                raise ConfigError(
                    f"the model takes camera{'s' * (len(wanted) > 1)} {', '.join(wanted)}; "
                    f"{where} has {', '.join(cameras) or 'none'}"
                )
        return {name: name for name in wanted}

    def fit(self, observation: Observation) -> Observation:
        """What the model sees of an observation, which may hold more.

        Raises:
            ValueError: a frame or a vector is missing, or is not what it should be.
        """
        sources = self.sources(observation.frames, "the observation")
        frames = {camera.name: camera.fit(observation.frames[sources[camera.name]]) for camera in self.cameras}
        missing = [vector.name for vector in self.vectors if vector.name not in observation.vectors]
        if missing:
            raise ValueError(f"vector '{missing[0]}' is missing; there is {', '.join(observation.vectors) or 'none'}")
        vectors = {vector.name: vector.fit(observation.vectors[vector.name]) for vector in self.vectors}
        return Observation(frames, vectors, observation.stamp_ns)


def fit_frame(frame: Frame, size: int, crop: tuple[float, ...] = ()) -> Frame:
    """Crop a frame (height, width, 3), to its central square by default, and resize what is left to (size, size, 3)."""
    height, width = frame.shape[:2]
    if crop:
        left, top, right, bottom = (round(share * side) for share, side in zip(crop, (width, height) * 2, strict=True))
        frame = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
    elif height != width:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        frame = frame[top : top + side, left : left + side]
    if frame.shape[:2] != (size, size):
        frame = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(frame)
