"""The attribute `meta`: what a dataset says about its actions and its episodes, in JSON."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from lewm_training.data.checks import DatasetError


def read_meta(file: h5py.File) -> dict[str, Any]:
    """What the attribute says; {} if there is none.

    Raises:
        DatasetError: it is not JSON, or a value is not what its key is for.
    """
    text = file.attrs.get("meta", "{}")
    try:
        meta = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file.filename}: attribute 'meta' is not JSON ({error})") from None
    if not isinstance(meta, dict):
        raise DatasetError(f"{file.filename}: attribute 'meta' must be a JSON object, got {reprlib.repr(meta)}")
    for key, (right, holds) in RULES.items():
        if key in meta and not holds(meta[key]):
            raise DatasetError(
                f"{file.filename}: attribute 'meta': {key} must be {right}, got {reprlib.repr(meta[key])}"
            )
    return meta


def check_episode_notes(meta: dict[str, Any], episodes: int, path: Path) -> None:
    """Raise DatasetError if there are notes on another number of episodes than the file holds."""
    if len(meta.get("episodes", range(episodes))) != episodes:
        raise DatasetError(
            f"{path}: attribute 'meta': episodes has {len(meta['episodes'])} entries, the file {episodes} episodes"
        )


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)


def _is_list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, list) and all(map(holds, values))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_list_of(_is_text)(names) for names in value.values())


def _is_text_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_note(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("anchor", 0), int | None)


RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "action_space": ("a name, or an object", lambda value: value is None or isinstance(value, str | dict)),
    "cameras": ("an object of names and columns", _is_text_by_name),
    "vectors": ("an object of columns and lists of names", _is_names_by_name),
    "limit": ("a list of finite numbers above 0", lambda values: _is_list_of(_is_positive)(values) and len(values) > 0),
    "control_hz": ("a finite number above 0", _is_positive),
    "joint_names": ("a list of names", _is_list_of(_is_text)),
    "continuous_joints": ("a list of names", _is_list_of(_is_text)),
    "config": ("an object", lambda value: isinstance(value, dict)),
    "episodes": ("a list of objects, whose anchor is a whole number or null", _is_list_of(_is_note)),
}
"""Per key what its value must be."""
