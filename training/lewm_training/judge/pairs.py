"""Starts and goals that are drawn once from recorded episodes, and then frozen in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lewm_ros.config import ConfigError, from_mapping, to_mapping
from lewm_ros.environments.environment import STATE
from lewm_ros.environments.paper_tasks.protocols import GOAL_STEPS, PROTOCOLS, criteria_of
from lewm_ros.model.checkpoint import HEADS, Checkpoint
from lewm_training.data import DatasetError, EpisodeDataset

MUJOCO_STATE = ("qpos", "qvel")
"""The columns that make up the state in released datasets without a column of that name."""


@dataclass(frozen=True)
class Split:
    """Of a dataset that is also trained on, the episodes that `lewm train` with this fraction and seed holds out."""

    validation_fraction: float
    seed: int


@dataclass(frozen=True)
class Pair:
    """A start and a goal.

    Args:
        episode: of the dataset.
        step: of the episode, where it starts.
        protocols: by which an attempt at it is judged.
        start, goal: states.
    """

    episode: int
    step: int
    protocols: tuple[str, ...]
    start: tuple[float, ...]
    goal: tuple[float, ...]


@dataclass(frozen=True)
class FrozenPairs:
    """What the file holds, beside its own hash.

    Args:
        task: name of one of the paper's tasks.
        dataset: fingerprint of the one that they were drawn from.
        seed: by which they were drawn.
        split: the part of the dataset; None: all of it.
        pairs: in the order in which they were drawn.
    """

    task: str
    dataset: str
    seed: int
    split: Split | None
    pairs: tuple[Pair, ...]

    @property
    def sha256(self) -> str:
        """Hex digits that change with anything in it."""
        return hashlib.sha256(json.dumps(to_mapping(self), sort_keys=True).encode()).hexdigest()

    def text(self) -> str:
        """What the file holds."""
        return json.dumps({"sha256": self.sha256} | to_mapping(self)) + "\n"

    @classmethod
    def load(cls, path: Path) -> FrozenPairs:
        """Read a file of pairs.

        Raises:
            ConfigError: it is none, or was changed.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(f"{path}: not a file of `lewm pairs` ({error})") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: not a file of `lewm pairs`")
        recorded = content.pop("sha256", None)
        pairs = from_mapping(cls, content, str(path))
        if pairs.sha256 != recorded:
            raise ConfigError(f"{path}: was changed after it was frozen; draw it again with `lewm pairs`")
        return pairs

    def of(self, protocol: str) -> tuple[Pair, ...]:
        """Those that are judged by a protocol."""
        return tuple(pair for pair in self.pairs if protocol in pair.protocols)

    def require_dataset(self, dataset: EpisodeDataset, path: Path) -> None:
        """Raise ConfigError unless they were drawn from this dataset."""
        if dataset.fingerprint != self.dataset:
            raise ConfigError(
                f"{path}: its pairs were drawn from dataset {self.dataset}, {dataset.path} is {dataset.fingerprint}"
            )

    def require_held_out(self, checkpoint: Checkpoint, path: Path) -> None:
        """Raise ConfigError if the checkpoint, or a head of it, was trained on their episodes."""
        for trained in (checkpoint.provenance, *(checkpoint.provenance.get(head, {}) for head in HEADS)):
            if trained.get("dataset", {}).get("fingerprint") != self.dataset:
                continue
            fraction, seed = trained["train"]["validation_fraction"], trained["seed"]
            if self.split != Split(fraction, seed):
                raise ConfigError(
                    f"{path}: checkpoint '{checkpoint.name}' was trained on the dataset of these pairs; draw them from "
                    f"another one, or with --validation-fraction {fraction:g} --seed {seed}"
                )


def draw_pairs(
    dataset: EpisodeDataset,
    task: str,
    count: int,
    seed: int,
    validation_fraction: float | None,
    episode_starts: bool = False,
) -> FrozenPairs:
    """Draw starts and goals so that every protocol has `count` of them, as many from one episode as from another.

    A protocol takes those that fit it and are not solved where they start; what fits several is shared by them.

    Args:
        dataset: of recorded episodes, with their states.
        task: name of one of the paper's tasks.
        count: for each protocol.
        seed: of the draw.
        validation_fraction: only episodes that `lewm train` with this fraction and seed holds out; None: all.
        episode_starts: all start where an episode does, so that none starts half-way to what its demonstrator wants.

    Raises:
        ConfigError: the task is none of the paper's.
        DatasetError: the dataset is of another task, has no states, or too few pairs.
    """
    criteria, states = criteria_of(task), recorded_states(dataset, task)
    split = None if validation_fraction is None else Split(validation_fraction, seed)
    episodes = dataset.split(split.validation_fraction, seed)[1] if split else np.arange(len(dataset.lengths))
    left, pairs = dict.fromkeys(PROTOCOLS, count), []
    for episode, step in _starts(dataset, episodes, np.random.default_rng(seed), 1 if episode_starts else None):
        row = int(dataset.offsets[episode]) + step
        way = np.asarray(states[row : row + GOAL_STEPS + 1], np.float64)
        taken = tuple(name for name in PROTOCOLS if left[name] and criteria[name].admits(way))
        for name in taken:
            left[name] -= 1
        if taken:
            pairs.append(Pair(episode, step, taken, tuple(way[0].tolist()), tuple(way[-1].tolist())))
        if not any(left.values()):
            return FrozenPairs(task, dataset.fingerprint, seed, split, tuple(pairs))
    name, missing = next((name, missing) for name, missing in left.items() if missing)
    raise DatasetError(f"{dataset.path}: has {count - missing} pairs for protocol '{name}', {count} are asked for")


def recorded_states(dataset: EpisodeDataset, task: str) -> NDArray[Any]:
    """The state in every row (N, numbers).

    Raises:
        DatasetError: the dataset is of another task, or its states were not recorded.
    """
    recorded = dataset.meta.get("config", {}).get("task", task)
    if recorded != task:
        raise DatasetError(f"{dataset.path}: was recorded in task '{recorded}', not '{task}'")
    if STATE in dataset.columns:
        return dataset.columns[STATE][:]
    if all(name in dataset.columns for name in MUJOCO_STATE):
        return np.concatenate([dataset.columns[name][:] for name in MUJOCO_STATE], axis=1)
    raise DatasetError(f"{dataset.path}: has no column '{STATE}'; record it again with `lewm collect --task {task}`")


def _starts(
    dataset: EpisodeDataset, episodes: NDArray[np.int64], rng: np.random.Generator, first: int | None
) -> Iterator[tuple[int, int]]:
    """Episodes and steps from which there is a goal: one of every episode, then another one of every episode, ...

    Of each only the `first` steps count; None: all.
    """
    counts = {int(e): max(0, int(dataset.lengths[e]) - GOAL_STEPS) for e in rng.permutation(episodes)}
    steps = {episode: rng.permutation(range(count)[:first]) for episode, count in counts.items()}
    for turn in range(max((len(order) for order in steps.values()), default=0)):
        yield from ((episode, int(order[turn])) for episode, order in steps.items() if turn < len(order))
