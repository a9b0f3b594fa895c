"""Where a command's results go: tried before the work, written whole after it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lewm_training.commands.errors import CommandError


def file_problem(path: Path) -> str:
    """Why no file can be written at `path`; empty if one can. Nothing is left behind."""
    try:
        if path.is_dir():
            return "is a folder, a file is needed"
        if path.exists() and not os.access(path, os.W_OK):
            return "is read-only"
        if _is_plain(path):
            _try_folder(path.parent)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return ""


def folder_problem(path: Path) -> str:
    """Why no files can be written in the folder `path`, which may have to be made; empty if they can."""
    try:
        if path.exists() and not path.is_dir():
            return "is a file, a folder is needed"
        _try_folder(path)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return ""


def write_text(path: Path, text: str) -> None:
    """Write a file beside `path`, then rename it there; devices, pipes and links are written in place.

    Raises:
        CommandError: it cannot be written.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.writing") if _is_plain(path) else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        if beside != path:
            beside.unlink(missing_ok=True)
        raise CommandError(f"{path}: cannot be written ({error.strerror})") from None


def _is_plain(path: Path) -> bool:
    """Whether there is a file that can be replaced, or nothing yet."""
    return not path.is_symlink() and (path.is_file() or not path.exists())


def _try_folder(folder: Path) -> None:
    """Write a nameless file in the folder, or in the one that it would be made in."""
    while not os.path.lexists(folder):
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass
