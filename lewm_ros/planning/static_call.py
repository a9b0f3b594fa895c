"""A function of tensors called again and again at the same addresses, as a CUDA graph demands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

WARM_UPS = 3


class StaticCall(Generic[I, O]):
    """Calls `function` on inputs of fixed shapes; where it was captured in a CUDA graph, that is only replayed.

    Inputs are copied to fixed places and results are copied out, so that callers may keep and change both. Where
    nothing was captured the same copies are made and the function runs as it is.

    Args:
        function: from a dataclass of tensors (or None) to another dataclass. It must not look at the tensors' values,
            such as in `if cost < best`, nor bring tensors from the host: a graph can do neither.
        generator: the random numbers that the function draws; every replay goes on where the last one ended.
        inputs: of the shapes that all others will have.
    """

    def __init__(self, function: Callable[[I], O], generator: torch.Generator, inputs: I) -> None:
        self._function, self._generator = function, generator
        self._inputs = _map(torch.clone, inputs)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: O | None = None

    def __call__(self, inputs: I) -> O:
        """The function's result for `inputs`.

        Raises:
            ValueError: they have other shapes.
        """
        _copy(inputs, self._inputs)
        if self._graph is None:
            return _map(torch.clone, self._function(self._inputs))
        self._graph.replay()
        return _map(torch.clone, self._outputs)

    def capture(self) -> None:
        """Capture the function in a CUDA graph. That takes a few calls: do it before time matters.

        Raises:
            RuntimeError: it cannot be captured; calls run the function as it is.
        """
        if self._generator.device.type != "cuda":
            raise RuntimeError(f"{self._generator.device} has no graphs")
        state = self._generator.get_state()
        side = torch.cuda.Stream(self._generator.device)
        side.wait_stream(torch.cuda.current_stream(self._generator.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._function(self._inputs)
        torch.cuda.current_stream(self._generator.device).wait_stream(side)
        self._generator.set_state(state)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph):
            self._outputs = self._function(self._inputs)
        self._graph = graph


def _map(change: Callable[[Tensor], Tensor], record: Any) -> Any:
    """The dataclass with every tensor changed."""
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    changed = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
    return dataclasses.replace(record, **changed)


def _copy(source: Any, target: Any) -> None:
    for item in dataclasses.fields(source):
        new, place = getattr(source, item.name), getattr(target, item.name)
        if isinstance(new, Tensor):
            if new.shape != place.shape:
                right = tuple(place.shape)
                raise ValueError(f"{item.name}: has shape {tuple(new.shape)}, was captured with {right}")
            place.copy_(new)
