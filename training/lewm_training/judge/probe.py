"""What can be read out of the encoder: linear and MLP probes for every label of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.model import LeWorldModel
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge.embeddings import embed_flat, embed_with_patches, untrained_like
from lewm_training.judge.labels import Array, Label, labels_of, median_distance_mm
from lewm_training.judge.regression import linear_probe, mlp_probe, pearson_r, r_squared, standardise

PRINCIPAL_COMPONENTS = 256
"""Of the patch tokens, fitted on the training frames: what probes get in place of thousands of numbers."""

LEAST_SPREAD = 0.1
"""A component that spreads less than this share over the test frames, of what it does over those that probes are
fitted on, as good as never changes there: R2 and r would say nothing."""


@dataclass(frozen=True)
class ProbeSplit:
    """Rows of three disjoint sets of episodes: to fit probes, to stop the MLP early, to measure."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    test_episodes: NDArray[np.int64]
    unseen: bool
    """Whether the test episodes are known to have been held out from the model's own training."""


def split_episodes(dataset: EpisodeDataset, provenance: dict[str, Any], frames: int, seed: int) -> ProbeSplit:
    """Choose up to `frames` rows to test on, as many for early stopping, and four times as many to fit.

    The test episodes are those that the model's training held out, where that is known; otherwise a fifth of all. A
    sixth of the rest stops the MLP.

    Raises:
        DatasetError: there are fewer than three episodes, or fewer than two beside those to test on.
    """
    count = len(dataset.lengths)
    if count < 3:
        raise DatasetError(f"{dataset.path}: probes need three episodes (to fit, to stop, to test), this has {count}")
    trained, held_out = held_out_episodes(dataset, provenance)
    rest, test = (trained, held_out) if len(held_out) else dataset.split(0.2, seed)
    if len(rest) < 2:
        raise DatasetError(
            f"{dataset.path}: probes need two episodes to fit and to stop that the model's training did not hold out, "
            f"this has {len(rest)}"
        )
    rng = np.random.default_rng(seed)
    rest = rng.permutation(rest)
    stopping = max(1, len(rest) // 6)

    def choose(episodes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        rows = dataset.window_starts(np.sort(episodes), 1)
        return np.sort(rng.choice(rows, min(count, len(rows)), replace=False))

    train, validation = choose(rest[stopping:], 4 * frames), choose(rest[:stopping], frames)
    unseen = len(held_out) > 0 and _is_same(dataset, provenance)
    return ProbeSplit(train, validation, choose(test, frames), test, unseen)


def held_out_episodes(
    dataset: EpisodeDataset, provenance: dict[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The episodes that a model was trained on, and those that were held out; both empty if that is not known.

    A checkpoint's `provenance` tells, if it is of this dataset: of one with the same fingerprint; or, if it knows none,
    of one with the same name and as many episodes, which may be another one all the same.
    """
    source, recipe = provenance.get("dataset", {}), provenance.get("train", {})
    count = len(dataset.lengths)
    named = "fingerprint" not in source and source.get("file") == dataset.path.name
    same = _is_same(dataset, provenance) or (named and source.get("episodes", count) == count)
    if not (same and "validation_fraction" in recipe and "seed" in provenance):
        return np.array([], dtype=np.int64), np.array([], dtype=np.int64)
    return dataset.split(recipe["validation_fraction"], provenance["seed"])


def _is_same(dataset: EpisodeDataset, provenance: dict[str, Any]) -> bool:
    """Whether the dataset is known to be the one that a model was trained on."""
    return provenance.get("dataset", {}).get("fingerprint") == dataset.fingerprint


def probe_encoder(model: LeWorldModel, dataset: EpisodeDataset, split: ProbeSplit, seed: int) -> dict[str, Any]:
    """Probe the embedding and the patch tokens of `model`, and those of an untrained encoder of the same architecture.

    Returns:
        `labels`: per label its unit, components, frames and the error of always guessing the mean; `probes`: one
        record per label, input and probe, with R2 and Pearson's r per component (None where it hardly changes over the
        test frames) and their means, and the error in the label's unit.
    """
    rows = np.concatenate([split.train, split.validation, split.test])
    bounds = np.cumsum([len(split.train), len(split.validation)])
    labels = labels_of(dataset, rows)
    described = {label.name: _describe(label, bounds) for label in labels}
    records = []
    for prefix, network in {"": model, "untrained ": untrained_like(model, seed)}.items():
        inputs = _inputs(network, dataset, rows, bounds[0], seed, f"encode, {prefix or 'trained '}model")
        for source, x in inputs.items():
            for label in tqdm(labels, desc=f"probe {prefix}{source}", unit="label"):
                records += [{"label": label.name, "input": prefix + source} | r for r in _probe(x, label, bounds, seed)]
    return {"labels": described, "probes": records}


def _inputs(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], train: int, seed: int, progress: str
) -> dict[str, Array]:
    """What probes read, by name, at unit scale (N, P): fitted on the first `train` rows."""
    if model.config.tokens == "patches":
        states = embed_flat(model, dataset, rows, progress=progress).astype(np.float32)
        return {"patches": principal_components(states, train, seed)}
    features = embed_with_patches(model, dataset, rows, progress=progress)
    states = features.states.astype(np.float64)
    return {
        "embedding": standardise(states, states[:train]),
        "patches": principal_components(features.patches, train, seed),
    }


def principal_components(x: NDArray[np.float32], train: int, seed: int) -> Array:
    """The first components (N, P) of x (N, L), fitted on its first `train` rows (randomised: Halko et al., 2011).

    One factor brings them to unit scale, so that the weak ones stay weak: whitened, they would drown an MLP in noise.
    """
    count = min(PRINCIPAL_COMPONENTS, train, x.shape[1])
    centred = torch.from_numpy(x - x[:train].mean(0))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _, _, directions = torch.pca_lowrank(centred[:train], q=count, center=False)
    components = (centred @ directions).double().numpy()
    return components / (np.sqrt(components[:train].var(0).mean()) + 1e-8)


def _parts(label: Label, bounds: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Which frames have the label: those to train, to validate and to test on."""
    known = np.isfinite(label.values).all(axis=1)
    return [part[known[part]] for part in np.split(np.arange(len(known)), bounds)]


def _describe(label: Label, bounds: NDArray[np.int64]) -> dict[str, Any]:
    train, validation, test = _parts(label, bounds)
    mean = np.broadcast_to(label.values[train].mean(0), label.values[test].shape)
    return {
        "unit": label.unit,
        "components": list(label.components),
        "frames": [len(train), len(validation), len(test)],
        "guess_error": label.error(mean, label.values[test]),
    }


def _probe(x: Array, label: Label, bounds: NDArray[np.int64], seed: int) -> list[dict[str, Any]]:
    train, validation, test = _parts(label, bounds)
    y = label.values
    predictions = {
        "linear": linear_probe(x[train], y[train], x[test]),
        "mlp": mlp_probe(x[train], y[train], x[validation], y[validation], x[test], seed),
    }
    varies = y[test].std(0) > LEAST_SPREAD * y[train].std(0)
    return [{"probe": name} | _score(label, predicted, y[test], varies) for name, predicted in predictions.items()]


def _score(label: Label, predicted: Array, true: Array, varies: NDArray[np.bool_]) -> dict[str, Any]:
    scores = {"r2": r_squared(predicted, true), "r": pearson_r(predicted, true)}
    figures: dict[str, Any] = {"error": label.error(predicted, true)}
    for name, values in scores.items():
        figures[f"{name}_mean"] = float(values[varies].mean()) if varies.any() else None
        figures[name] = [round(float(v), 4) if told else None for v, told in zip(values, varies, strict=True)]
    return figures


def light_probe(
    model: LeWorldModel,
    dataset: EpisodeDataset,
    train_rows: NDArray[np.int64],
    test_rows: NDArray[np.int64],
    seed: int = 0,
) -> dict[str, float | list[float]]:
    """What a linear probe reads from states, for validation in training; what the dataset lacks is left out.

    Returns:
        `probe/NAME_r2` of every vector (a figure per number), `probe/position_r2` (x, y, z of the end effector) and
        `probe/position_error_mm` (median).
    """
    columns = {name: name for name in dataset.spec.vectors} | {"position": "ee_position"}
    present = {name: dataset.columns[column] for name, column in columns.items() if column in dataset.columns}
    if not present:
        return {}
    states = embed_flat(model, dataset, np.concatenate([train_rows, test_rows]))
    count = len(train_rows)
    if model.config.tokens == "patches":
        x = principal_components(states.astype(np.float32), count, seed)
    else:
        x = standardise(states, states[:count])
    figures: dict[str, float | list[float]] = {}
    for name, column in present.items():
        true, train = (column[rows].reshape(len(rows), -1).astype(np.float64) for rows in (test_rows, train_rows))
        predicted = linear_probe(x[:count], train, x[count:])
        figures[f"probe/{name}_r2"] = [round(float(v), 4) for v in r_squared(predicted, true)]
        if name == "position":
            figures["probe/position_error_mm"] = round(median_distance_mm(predicted, true), 2)
    return figures
