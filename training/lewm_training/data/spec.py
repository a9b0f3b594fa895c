"""What the columns of a dataset are: cameras, vectors and actions, as its `meta` says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lewm_ros.config import from_mapping, to_mapping
from lewm_ros.observation.input_spec import UNNAMED
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm_actions import named_space

FRAMES = "pixels"
"""The column of the only camera; of several, it is followed by an underscore and the camera's name."""

INTENDED = "intended_action"
"""The column of what a demonstrator meant to do, where noise was added to its actions; a policy learns from these.

DART (Laskey et al., arXiv 1703.09327): noise shows the way back from mistakes, and need not itself be imitated.
"""

PROPRIO = "proprio"
"""The vector of joint positions; in worlds without joints, whatever else a body knows of itself."""


def camera_columns(cameras: Sequence[str]) -> dict[str, str]:
    """The column of every camera, by name."""
    return {name: FRAMES if len(cameras) == 1 else f"{FRAMES}_{name}" for name in cameras}


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset holds.

    Args:
        cameras: column of every camera, by name.
        vectors: names of the numbers of every vector, by column.
        action_space: without statistics; None if it is not known.
        continuous_joints: those of the vectors' numbers that are angles without a limit.
    """

    cameras: Mapping[str, str]
    vectors: Mapping[str, tuple[str, ...]]
    action_space: ActionSpace | None
    continuous_joints: tuple[str, ...] = ()

    @classmethod
    def of(cls, meta: Mapping[str, Any], columns: Collection[str]) -> DatasetSpec:
        """What `meta` says of a file with these columns.

        In files from before cameras and channels had names, the action space is a name, with `limit`, `joint_names` and
        `control_hz` beside it.

        Raises:
            ConfigError: it says something impossible.
        """
        joints = tuple(meta.get("joint_names", ()))
        vectors = {name: tuple(names) for name, names in meta.get("vectors", {}).items() if name in columns}
        if "vectors" not in meta and joints and PROPRIO in columns:
            vectors[PROPRIO] = joints
        cameras = dict(meta.get("cameras") or {UNNAMED: FRAMES})
        return cls(cameras, vectors, _action_space(meta), tuple(meta.get("continuous_joints", ())))

    @property
    def positions(self) -> dict[str, tuple[str, int]]:
        """Column and place of what each delta channel adds up to, by the channel's name."""
        space = self.action_space
        deltas = [space.channels[place].name for place in space.places("delta")] if space else []
        where = {name: (column, i) for column, names in self.vectors.items() for i, name in enumerate(names)}
        return {name: where[name] for name in deltas if name in where}

    @property
    def joints(self) -> tuple[str, ...]:
        """The numbers of `proprio`, where they are joint positions (rad): those have names of their own."""
        names = self.vectors.get(PROPRIO, ())
        return () if any(name.startswith(f"{PROPRIO}_") for name in names) else names

    def meta(self) -> dict[str, Any]:
        """What a dataset's `meta` says of it."""
        return {
            "cameras": dict(self.cameras),
            "vectors": {name: list(names) for name, names in self.vectors.items()},
            "action_space": to_mapping(self.action_space) if self.action_space else None,
            "continuous_joints": list(self.continuous_joints),
        }


def _action_space(meta: Mapping[str, Any]) -> ActionSpace | None:
    space = meta.get("action_space")
    if not isinstance(space, str):
        return None if space is None else from_mapping(ActionSpace, space, "action_space")
    if "limit" not in meta or "control_hz" not in meta:
        return None
    return named_space(space, meta["limit"], meta["control_hz"], meta.get("joint_names", ()))
