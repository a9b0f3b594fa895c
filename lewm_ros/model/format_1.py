"""Checkpoints of format 1: one camera, and an action space of seven numbers or of unnamed ones."""

from __future__ import annotations

from typing import Any

from lewm_ros.config import to_mapping
from lewm_ros.robot.arm_actions import named_space

CAMERA = "scene"


def to_format_2(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint's JSON as format 2 has it; its weights stay as they are.

    Raises:
        KeyError, ValueError: something is missing or impossible.
    """
    if content.get("kind", "lewm") != "lewm":
        raise ValueError("patch-token models of format 1 cannot be converted; train it again")
    space, model = content["action_space"], content["model"]
    joints = space.get("joint_names", ())
    channels = named_space(space["kind"], space["limit"], space["control_hz"], joints).channels
    statistics = {key: space[key] for key in ("action_block", "mean", "std", "known_low", "known_high") if key in space}
    size = model.get("encoder", {}).get("image_size", 224)
    return {name: value for name, value in content.items() if name not in ("kind", "image")} | {
        "format": 2,
        "inputs": {"cameras": [{"name": CAMERA, "size": size}]},
        "action_space": {
            "name": space["kind"],
            "channels": [to_mapping(channel) for channel in channels],
            "control_hz": space["control_hz"],
            **statistics,
        },
    }
