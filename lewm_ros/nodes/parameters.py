"""Parameters of the nodes: declared once with type, unit, range and description, checked again when they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from lewm_ros.config import ConfigError, from_mapping, meanings

V = TypeVar("V", bool, int, float, str, list[float], list[str])
T = TypeVar("T")


class Setting(Generic[V]):
    """A declared parameter; calling it gives its present value."""

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._values, self.name = values, name

    def __call__(self) -> V:
        return self._values[self.name]


class Parameters:
    """Declares a node's parameters, refuses unknown ones, and guards them while the node runs.

    A parameter is fixed while the node is configured, unless it is declared as `live`.

    Args:
        node: has the parameters.
        is_configured: whether the node is past its configuration.
    """

    def __init__(self, node: Node, is_configured: Callable[[], bool]) -> None:
        self._node, self._is_configured = node, is_configured
        self._fixed: set[str] = set()
        # They are read at every frame and every command: too often for rclpy's own look-up.
        self._values: dict[str, Any] = {}
        self._rules: dict[str, Callable[[Any], str]] = {}
        self._configs: dict[str, Callable[[Mapping[str, Any]], object]] = {}

    def declare(
        self,
        name: str,
        default: V,
        description: str,
        *,
        unit: str = "",
        low: float | None = None,
        high: float | None = None,
        choices: tuple[str, ...] = (),
        size: int = 0,
        may_be_infinite: bool = False,
        live: bool = False,
    ) -> Setting[V]:
        """A parameter from the command line, a YAML file or its default.

        Raises:
            ParameterException: wrong type or out of the range `low` to `high`.
            ConfigError: not one of the `choices`, not `size` numbers where a size is given, or not finite.
        """
        descriptor = ParameterDescriptor(description=f"{description} [{unit}]" if unit else description)
        if low is not None and high is not None:
            if isinstance(default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        when = "may change at any time" if live else "fixed while the node is configured"
        descriptor.additional_constraints = f"one of: {', '.join(choices)}; {when}" if choices else when
        value = self._node.declare_parameter(name, default, descriptor).value
        self._rules[name] = partial(_problem, choices=choices, size=size, may_be_infinite=may_be_infinite)
        if problem := self._rules[name](value):
            raise ConfigError(f"parameter {name}: {problem}")
        if not live:
            self._fixed.add(name)
        self._values[name] = value
        return Setting(self._values, name)

    def declare_config(self, prefix: str, config: type[T]) -> Callable[[], T]:
        """A configuration dataclass of scalars, each of its fields a parameter `PREFIX.FIELD` with default and meaning.

        Returns:
            what reads the parameters' present values; it raises ConfigError if their combination is impossible.
        """
        settings = {}
        for name, meaning in meanings(config).items():
            settings[name] = self.declare(f"{prefix}.{name}", getattr(config, name), **meaning._asdict())

        def build(values: Mapping[str, Any]) -> T:
            return from_mapping(config, {name: values[s.name] for name, s in settings.items()}, f"parameters {prefix}")

        self._configs[prefix] = build
        return lambda: build(self._values)

    def seal(self) -> None:
        """Call when all are declared: from here on, changes are judged.

        Raises:
            ConfigError: a parameter was given that the node has not declared: most likely a misspelt key.
        """
        # rclpy offers the given values only by this attribute.
        for name in self._node._parameter_overrides:
            if not self._node.has_parameter(name) and not name.startswith("qos_overrides."):
                known = sorted(self._node.get_parameters_by_prefix(""))
                raise ConfigError(f"parameter '{name}' is unknown; known: {', '.join(known)}")
        self._node.add_on_set_parameters_callback(self._judge)
        self._node.add_post_set_parameters_callback(self._keep)

    def _keep(self, changes: list[Parameter]) -> None:
        self._values.update({change.name: change.value for change in changes if change.name in self._values})

    def _judge(self, changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            if problem := self._rules.get(change.name, lambda _: "")(change.value):
                return SetParametersResult(successful=False, reason=f"{change.name}: {problem}")
            if change.name in self._fixed and self._is_configured():
                name = self._node.get_fully_qualified_name()
                reason = f"{change.name}: fixed while configured; first deactivate and clean up {name}"
                return SetParametersResult(successful=False, reason=reason)
        changed = self._values | {change.name: change.value for change in changes}
        try:
            for prefix, build in self._configs.items():
                if any(change.name.startswith(f"{prefix}.") for change in changes):
                    build(changed)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _problem(value: Any, choices: tuple[str, ...], size: int, may_be_infinite: bool) -> str:
    """Why a parameter cannot have this value; empty if it can."""
    if choices and value not in choices:
        return f"'{value}' is unknown; known: {', '.join(choices)}"
    numbers = [value] if value is None or isinstance(value, (bool, int, float, str)) else value
    usable = (lambda number: not math.isnan(number)) if may_be_infinite else math.isfinite
    good = all(usable(number) for number in numbers if isinstance(number, float))
    if good and (not size or len(numbers) == size):
        return ""
    kind = "numbers" if may_be_infinite else "finite numbers"
    return f"must be {size} {kind}" if size else f"must be {kind}"
