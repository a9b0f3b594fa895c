"""What ends a command, as one line."""

from __future__ import annotations

from lewm_ros.config import UserError

LIBRARIES = ("av", "cv2", "h5py", "mujoco", "pyarrow", "rosbags", "safetensors", "torch", "yaml", "zstandard")
"""Libraries whose own exceptions are about what they were given, not about how they were called."""

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
    elif type(error).__module__.partition(".")[0] in LIBRARIES:
        reason = f"{type(error).__name__}: {text}"
    else:
        reason = ""
    return " ".join(reason.split())
