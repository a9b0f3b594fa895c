"""Settings that say what they are: description, unit and range stand at the field.

The check, the nodes' parameters and the documentation read them there.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from lewm_ros.config.mapping import require


class Meaning(NamedTuple):
    """What is said of a field; no range where `low` and `high` are None."""

    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def setting(
    default: Any,
    description: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of a dataclass with a default and a meaning."""
    return dataclasses.field(default=default, metadata={"meaning": Meaning(description, unit, low, high, choices)})


def meanings(config: Any) -> dict[str, Meaning]:
    """What is said of the fields of a dataclass, or of an instance of one, by name."""
    return {item.name: item.metadata["meaning"] for item in dataclasses.fields(config) if "meaning" in item.metadata}


def check_settings(config: Any) -> None:
    """Raise ConfigError, naming the key, unless every field of a dataclass is finite, in its range, among its choices.

    Whole numbers without a range are sizes and counts, at least 1. For dataclasses that are also built in code; of what
    comes from a mapping, `from_mapping` sees to types and finiteness.
    """
    known = meanings(config)
    for item in dataclasses.fields(config):
        value, meaning = getattr(config, item.name), known.get(item.name, Meaning(""))
        if meaning.choices:
            require(value in meaning.choices, item.name, f"one of {', '.join(meaning.choices)}, got '{value}'")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(item.name, number, meaning)


def _check_number(key: str, number: float, meaning: Meaning) -> None:
    require(math.isfinite(number), key, f"finite, got {number}")
    if meaning.low is not None and meaning.high is not None:
        unit = f" {meaning.unit}" if meaning.unit else ""
        right = f"from {meaning.low:g} to {meaning.high:g}{unit}, got {number:g}"
        require(meaning.low <= number <= meaning.high, key, right)
    elif isinstance(number, int):
        require(number >= 1, key, f"at least 1, got {number}")
