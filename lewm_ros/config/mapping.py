"""Configuration dataclasses from and to nested mappings, as YAML and JSON give them."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import reprlib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

LARGEST_INT = 2**31 - 1
"""No size and no count of a configuration is larger."""


class UserError(Exception):
    """What the user gave cannot be used, or a run could not go on; the message is one line that says why."""


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used; the message is one line for the user."""


def require(holds: bool, key: str, right: str) -> None:
    """Raise ConfigError unless a field is as it must be; `right` says how that is."""
    if not holds:
        raise ConfigError(f"{key}: must be {right}")


def from_mapping(cls: type[T], mapping: Any, where: str = "") -> T:
    """Build the dataclass `cls` from a nested mapping.

    Args:
        cls: a dataclass whose fields are scalars, strings, tuples or dataclasses.
        mapping: what YAML or JSON gave.
        where: the file or section named in errors.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range.
    """
    place = where or cls.__name__
    if not isinstance(mapping, dict):
        raise ConfigError(f"{place}: expected a mapping of settings, got {type(mapping).__name__}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in mapping.items():
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(names)}"
            raise ConfigError(f"{place}: unknown key {key!r}; {hint}")
        values[key] = _convert(hints[key], value, f"{place}: {key}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    except TypeError as error:
        missing = [f.name for f in dataclasses.fields(cls) if _is_required(f) and f.name not in values]  # type: ignore[arg-type]
        raise ConfigError(f"{place}: missing key '{missing[0]}'" if missing else f"{place}: {error}") from None


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, place)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, place)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{place}: expected a list, got {reprlib.repr(value)}")
        return tuple(_convert(arguments[0], item, f"{place}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{place}: expected a mapping, got {reprlib.repr(value)}")
        key_hint, value_hint = arguments
        return {_convert(key_hint, k, place): _convert(value_hint, v, f"{place}: {k}") for k, v in value.items()}
    if hint is float:
        return _float(value, place)
    if hint in (int, str, bool) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigError(f"{place}: expected {hint.__name__}, got {reprlib.repr(value)}")
    if hint is int and abs(value) > LARGEST_INT:
        raise ConfigError(f"{place}: must be at most {LARGEST_INT}, got {reprlib.repr(value)}")
    return value


def _float(value: Any, place: str) -> float:
    # YAML 1.1 reads 5e-5 as a string.
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise ConfigError(f"{place}: expected a finite float, got {reprlib.repr(value)}")
    return number


def to_mapping(config: Any) -> dict[str, Any]:
    """The nested mapping that `from_mapping` reads back."""
    return dataclasses.asdict(config)


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML text holds; None if it is empty.

    Args:
        text: the YAML.
        where: what it is called in errors.

    Raises:
        ConfigError: it is not YAML, or a key stands twice; the message names the line.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark, problem = (getattr(error, name, None) for name in ("problem_mark", "problem"))
        line = f" at line {mark.line + 1}" if mark else ""
        reason = f" ({' '.join(problem.split())})" if problem else ""
        raise ConfigError(f"{where}: not valid YAML{line}{reason}") from None
    except (RecursionError, ValueError):  # nested too deeply, or a date or number that does not exist
        raise ConfigError(f"{where}: not valid YAML") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        ConfigError: the file is missing, empty or not YAML; the message names the file and the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not valid YAML (not a text in UTF-8)") from None
    content = parse_yaml(text, str(path))
    if content is None:
        raise ConfigError(f"{path}: is empty; {{}} stands for the defaults")
    return content


def load(cls: type[T], path: Path) -> T:
    """Read a YAML file into the dataclass `cls`; see `from_mapping` for the errors."""
    return from_mapping(cls, read_yaml(path), str(path))
