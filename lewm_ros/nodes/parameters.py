"""Parameters of the nodes: declared once with type, unit, range and description, and read once at start-up."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from lewm_ros.config import ConfigError, from_mapping

V = TypeVar("V", bool, int, float, str)
T = TypeVar("T")


class Parameters:
    """Declares a node's parameters and refuses those that nobody declared."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def declare(
        self,
        name: str,
        default: V,
        description: str,
        *,
        low: float | None = None,
        high: float | None = None,
        choices: tuple[str, ...] = (),
    ) -> V:
        """The value of a read-only parameter, from the command line, a YAML file or the default.

        Raises:
            ParameterException: wrong type or out of the range `low` to `high`.
            ConfigError: not one of the `choices`.
        """
        descriptor = ParameterDescriptor(description=description, read_only=True)
        if low is not None and high is not None:
            if isinstance(default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        if choices:
            descriptor.additional_constraints = f"one of: {', '.join(choices)}"
        value = self._node.declare_parameter(name, default, descriptor).value
        if choices and value not in choices:
            raise ConfigError(f"parameter {name}: '{value}' is unknown; known: {', '.join(choices)}")
        return value

    def declare_config(self, prefix: str, config: type[T]) -> T:
        """A configuration dataclass of scalars, each field a parameter `PREFIX.FIELD` with the field's default.

        Raises:
            ParameterException, ConfigError: a wrong type or an impossible combination.
        """
        values = {
            item.name: self.declare(f"{prefix}.{item.name}", item.default, f"see {config.__name__}.{item.name}")
            for item in dataclasses.fields(config)  # type: ignore[arg-type]
        }
        return from_mapping(config, values, f"parameters {prefix}")

    def refuse_unknown(self) -> None:
        """Raise ConfigError if a parameter was given that the node has not declared: most likely a misspelt key."""
        # rclpy offers the given values only by this attribute.
        given = self._node._parameter_overrides
        for name in given:
            if not self._node.has_parameter(name) and not name.startswith("qos_overrides."):
                known = sorted(self._node.get_parameters_by_prefix(""))
                raise ConfigError(f"parameter '{name}' is unknown; known: {', '.join(known)}")
