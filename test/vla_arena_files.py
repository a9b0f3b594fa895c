"""Small files in the layouts in which VLA-Arena publishes demonstrations, with motion that follows the commands.

Sources: PKU-Alignment/VLA-Arena, `scripts/regenerate_dataset.py`, `create_dataset.py` and
`convert_data_to_lerobot_openpi.py`.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

STEPS, SIZE = 40, 12
INERTIA, PUSH = 0.64, 0.1
"""v[t] = 0.64 v[t-1] + 0.1 command[t]: a command that lasts moves the hand by 0.1 / 0.36 = 0.28 of it per row."""

SCALE = np.array([0.05] * 3 + [0.5] * 3 + [1.0])
OPEN_M, FINGER_M = 0.04, 0.008


@dataclass(frozen=True)
class Demo:
    """What happened, row by row: observed before the action.

    Args:
        actions: as OSC_POSE takes them (T, 7), -1 to 1; the last one opens at -1.
        position_m, turn_rad: of the hand, (T, 3) each; the turn is a rotation vector.
        opening_m: of the left finger (T,); the right one's joint has the other sign.
        joints: (T, 7).
        frames: (T, SIZE, SIZE, 3), upright: red is the row of a pixel, green its column, blue the time.
    """

    actions: NDArray[np.float64]
    position_m: NDArray[np.float64]
    turn_rad: NDArray[np.float64]
    opening_m: NDArray[np.float64]
    joints: NDArray[np.float64]
    frames: NDArray[np.uint8]

    def observed_after(self) -> Demo:
        """What `create_dataset.py` writes: beside every action what was observed after it."""
        later = {name: getattr(self, name)[1:] for name in vars(self) if name != "actions"}
        return replace(self, actions=self.actions[:-1], **later)


def make_demo(number: int, steps: int = STEPS) -> Demo:
    rng = np.random.default_rng(number)
    actions = np.repeat(rng.uniform(-1.0, 1.0, (steps // 4 + 1, 7)), 4, axis=0)[:steps]  # each for four rows
    actions[:, 6] = np.where(np.arange(steps) // 10 % 2, 1.0, -1.0)
    position, speed, opening = [np.zeros(3)], np.zeros(3), [OPEN_M]
    for action in actions[:-1]:
        speed = INERTIA * speed + PUSH * 0.05 * action[:3]
        position.append(position[-1] + speed)
        opening.append(np.clip(opening[-1] - FINGER_M * action[6], 0.0, OPEN_M))
    row, column, time = np.meshgrid(np.arange(SIZE), np.arange(SIZE), np.arange(steps), indexing="ij")
    frames = np.stack([20 * row, 20 * column, time], axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)
    turn = np.tile([np.pi, 0.0, 0.0], (steps, 1))
    return Demo(actions, np.array(position), turn, np.array(opening), rng.uniform(-1, 1, (steps, 7)), frames)


def fingers(demo: Demo) -> NDArray[np.float64]:
    return np.stack([demo.opening_m, -demo.opening_m], axis=1)


def write_hdf5(path: Path, demos: list[Demo], created: bool = False, wrist: str = "robot0_eye_in_hand_rgb") -> Path:
    """As `regenerate_dataset.py` writes it, or, if `created`, with the attributes that `create_dataset.py` adds."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if created:
            kwargs = {"env_kwargs": {"control_freq": 20, "camera_heights": SIZE}}
            data.attrs.update({"num_demos": len(demos), "macros_image_convention": "opengl"})
            data.attrs["env_args"] = json.dumps(kwargs)
        for number, demo in enumerate(demos):
            group = data.create_group(f"demo_{number}")
            columns = {
                "gripper_states": fingers(demo),
                "joint_states": demo.joints,
                "ee_states": np.hstack([demo.position_m, demo.turn_rad]),
                "ee_pos": demo.position_m,
                "ee_ori": demo.turn_rad,
                "agentview_rgb": demo.frames[:, ::-1],  # OpenGL: the lowest row of the picture comes first
                wrist: demo.frames[:, ::-1],
            }
            for name, values in columns.items():
                group.create_dataset(f"obs/{name}", data=values)
            last = np.arange(len(demo.actions)) == len(demo.actions) - 1
            group["actions"], group["rewards"], group["dones"] = demo.actions, last.astype(np.uint8), last
            group["language_instruction"] = np.array([b"pick the apple"] * len(demo.actions))
    return path


def write_lerobot(folder: Path, demos: list[Demo], version: str = "v2.1") -> Path:
    """As `convert_data_to_lerobot_openpi.py` writes it: the upside-down frames turned by half a turn, fps 10."""
    images = {"dtype": "image", "shape": [SIZE, SIZE, 3], "names": ["height", "width", "channel"]}
    info = {
        "codebase_version": version,
        "robot_type": "panda",
        "total_episodes": len(demos),
        "total_frames": sum(len(demo.actions) for demo in demos),
        "chunks_size": 2,  # in the published ones 1000
        "fps": 10,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "image": images,
            "wrist_image": images,
            "state": {"dtype": "float32", "shape": [8], "names": ["state"]},
            "actions": {"dtype": "float32", "shape": [7], "names": ["actions"]},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{
                name: {"dtype": "int64", "shape": [1], "names": None}
                for name in ("frame_index", "episode_index", "index", "task_index")
            },
        },
    }
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    lines, index = [], 0
    for number, demo in enumerate(demos):
        rows = np.arange(len(demo.actions))
        state = np.hstack([demo.position_m, demo.turn_rad, fingers(demo)]).astype(np.float32)
        pictures = [{"bytes": _png(frame[::-1][::-1, ::-1]), "path": f"{i}.png"} for i, frame in enumerate(demo.frames)]
        columns = {
            "image": pictures,
            "wrist_image": pictures,
            "state": list(state),
            "actions": list(demo.actions.astype(np.float32)),
            "timestamp": (rows / 10).astype(np.float32),
            "frame_index": rows,
            "episode_index": np.full(len(rows), number),
            "index": index + rows,
            "task_index": np.zeros(len(rows), np.int64),
        }
        index += len(rows)
        file = folder / "data" / f"chunk-{number // 2:03d}" / f"episode_{number:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        lines.append(json.dumps({"episode_index": number, "tasks": ["pick the apple"], "length": len(rows)}))
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _png(frame: NDArray[np.uint8]) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(frame).save(encoded, "PNG")
    return encoded.getvalue()
