"""What an experiment compares: a base, and for each of several factors what takes the place of the base's level."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lewm_ros.config import ConfigError, check_settings, require


@dataclass(frozen=True)
class Level:
    """What one level of a factor changes, in the words of the commands that a cell is made by.

    Args:
        name: in tables.
        collect: further arguments of `lewm collect`.
        train, policy: values of `--set` of `lewm train` and `lewm train-policy`.
    """

    name: str
    collect: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    policy: tuple[str, ...] = ()


@dataclass(frozen=True)
class Factor:
    """Something that is varied while all else is as in the base; the first of its `levels` is the base's."""

    name: str
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        require(len(self.levels) >= 2, "levels", f"at least two of factor '{self.name}'")


@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment.

    Args:
        task: that is recorded and evaluated.
        recipe: YAML of `lewm train`.
        factors: what is varied, one at a time.
        collect, train, policy: of every cell, as in `Level`; a level's come after them. Without `policy` no policy is
            trained afterwards: the one that learned along with the model acts.
        probe_frames: held-out frames that probes are tested on.
        episodes: evaluated per cell.
    """

    task: str
    recipe: str
    factors: tuple[Factor, ...]
    collect: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    policy: tuple[str, ...] | None = None
    probe_frames: int = 1500
    episodes: int = 50

    def __post_init__(self) -> None:
        check_settings(self)
        told = any(level.policy for factor in self.factors for level in factor.levels)
        require(self.policy is not None or not told, "policy", "[] or more, since a level names settings of it")
        names = [cell.folder for cell in self.cells()]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"factors: two levels are both called '{min(twice)}'")

    def cells(self) -> Iterator[Cell]:
        """The base, then all others, factor by factor."""
        base = tuple(factor.levels[0] for factor in self.factors)
        yield self._cell("base", ", ".join(level.name for level in base), base)
        for place, factor in enumerate(self.factors):
            for level in factor.levels[1:]:
                yield self._cell(factor.name, level.name, (*base[:place], level, *base[place + 1 :]))

    def _cell(self, factor: str, level: str, levels: tuple[Level, ...]) -> Cell:
        return Cell(
            factor,
            level,
            (*self.collect, *(word for one in levels for word in one.collect)),
            (*self.train, *(word for one in levels for word in one.train)),
            None if self.policy is None else (*self.policy, *(word for one in levels for word in one.policy)),
        )


@dataclass(frozen=True)
class Cell:
    """One model of an experiment: `level` of `factor`, and what its commands are told; see `Level`."""

    factor: str
    level: str
    collect: tuple[str, ...]
    train: tuple[str, ...]
    policy: tuple[str, ...] | None

    @property
    def folder(self) -> str:
        """Name of the folder that it is made in."""
        words = "base" if self.factor == "base" else f"{self.factor} {self.level}"
        return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
