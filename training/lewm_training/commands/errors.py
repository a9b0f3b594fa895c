"""What ends a command, as one line."""

from __future__ import annotations

import traceback

from lewm_ros.config import UserError

READERS = ("av", "h5py", "pyarrow", "rosbags", "safetensors", "yaml")
"""Libraries that read files: whatever they let out is about what they were given."""

LIBRARIES = (*READERS, "cv2", "mujoco", "torch")
"""Libraries whose own classes of exceptions are about what the user or the machine gave them."""

OUT_OF_MEMORY = ("can't allocate memory", "Storage size calculation overflowed")
"""What PyTorch says, in a RuntimeError, of memory that the CPU does not have."""


class CommandError(UserError):
    """A command that cannot be carried out; the message is one line for the user."""


def explain(error: Exception) -> str:
    """Why a command could not be carried out, in one line; empty for what can only be a bug."""
    text = str(error)
    if isinstance(error, UserError):
        reason = text
    elif isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        reason = f"out of memory ({text})" if text else "out of memory"
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        reason = place + (error.strerror or text or type(error).__name__)
    elif _package(type(error).__module__) in LIBRARIES or _package(_raised_in(error)) in READERS:
        reason = f"{type(error).__name__}: {text}"
    else:
        reason = ""
    return " ".join(reason.split())


def _package(module: str) -> str:
    return module.partition(".")[0]


def _raised_in(error: Exception) -> str:
    """The module that raised the error."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_globals.get("__name__", "") if frames else ""
