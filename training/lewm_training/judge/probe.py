"""What can be read out of the encoder: probes of its states and tokens for every label of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.model import LeWorldModel
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge.embeddings import embed_everything, embed_flat, untrained_like
from lewm_training.judge.labels import STANDARD, Array, distances_mm, labels_of, missing_labels
from lewm_training.judge.question import Question, why_not
from lewm_training.judge.regression import AttentivePooling, Parts, linear_probe, mlp, network_probe, standardise
from lewm_training.judge.scores import once, r_squared

EMBEDDING, ALL_PATCHES = "embedding", "all patches"
"""Names of sources: the state, and what it is made of."""

STILL = 1e-6
"""A label that changes by less, such as a gripper's that nobody moves, has no variance to be explained."""

PRINCIPAL_COMPONENTS = 256
"""Of a state of patch tokens, fitted on the training frames: what probes get in place of thousands of numbers."""


@dataclass(frozen=True)
class ProbeSplit:
    """Rows of three disjoint sets of episodes: to fit probes, to stop the MLP early, to measure."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    train_episodes: NDArray[np.int64]
    validation_episodes: NDArray[np.int64]
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
        rows = dataset.window_starts(episodes, 1)
        return np.sort(rng.choice(rows, min(count, len(rows)), replace=False))

    stop, fit = np.sort(rest[:stopping]), np.sort(rest[stopping:])
    train, validation = choose(fit, 4 * frames), choose(stop, frames)
    unseen = len(held_out) > 0 and _is_same(dataset, provenance)
    return ProbeSplit(train, validation, choose(test, frames), fit, stop, test, unseen)


def held_out_episodes(
    dataset: EpisodeDataset, provenance: dict[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The episodes that a model was trained on, and those that were held out; both empty if that is not known.

    A checkpoint's `provenance` tells, if it is of this dataset: of one with the same fingerprint; or, if it knows none,
    of one with the same name and as many episodes, which may be another one all the same.
    """
    source, recipe = provenance.get("dataset", {}), provenance.get("train", {})
    count = len(dataset.lengths)
    named = "fingerprint" not in source and source.get("file") == dataset.name
    same = _is_same(dataset, provenance) or (named and source.get("episodes", count) == count)
    if not (same and "validation_fraction" in recipe and "seed" in provenance):
        return np.array([], dtype=np.int64), np.array([], dtype=np.int64)
    return dataset.split(recipe["validation_fraction"], provenance["seed"])


def _is_same(dataset: EpisodeDataset, provenance: dict[str, Any]) -> bool:
    """Whether the dataset is known to be the one that a model was trained on."""
    return provenance.get("dataset", {}).get("fingerprint") == dataset.fingerprint


def probe_encoder(model: LeWorldModel, dataset: EpisodeDataset, split: ProbeSplit, seed: int) -> dict[str, Any]:
    """Probe what `model` makes of frames, and what an untrained one of the same architecture does: the floor.

    Returns:
        `labels`: per label its unit, components, frames and the error of always guessing the mean; `missing`: labels
        that a manipulator's dataset should have and this one lacks, and why; `probes`: one record per label, encoder,
        source and probe, with figures as `Question.score` gives them.
    """
    rows = np.concatenate([split.train, split.validation, split.test])
    bounds = np.cumsum([len(split.train), len(split.validation)])
    labels = labels_of(dataset, rows)
    unusable = {label.name: reason for label in labels if (reason := why_not(label, bounds))}
    episodes = np.searchsorted(np.sort(dataset.offsets), rows, side="right") - 1
    asked = [Question(label, bounds, episodes, seed) for label in labels if label.name not in unusable]
    if not asked:
        raise DatasetError(
            f"{dataset.path}: has nothing to probe for; a column of {_standard_columns()} would be right"
        )
    records = []
    for encoder, network in {"trained": model, "untrained": untrained_like(model, seed)}.items():
        sources = _sources(network, dataset, rows, bounds[0], seed, f"encode, {encoder} model")
        for source in tqdm(list(sources), desc=f"probe, {encoder} model", unit="source"):
            x = Parts(*np.split(sources.pop(source), bounds))
            read = _read_patches(model, x, asked, seed) if source == ALL_PATCHES else _read_vectors(x, asked, seed)
            records += [
                {"label": question.label.name, "encoder": encoder, "source": source, "probe": probe}
                | question.score(said)
                for probe, answers in read.items()
                for question, said in zip(asked, answers, strict=True)
            ]
    described = {question.label.name: question.describe() for question in asked}
    return {"labels": described, "missing": missing_labels(dataset, labels) | unusable, "probes": records}


def _standard_columns() -> str:
    return ", ".join(dict.fromkeys(column for columns in STANDARD.values() for column in columns))


def _sources(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], fit: int, seed: int, progress: str
) -> dict[str, NDArray[Any]]:
    """What probes read, by name, at unit scale: (N, P), and all patches (N, cells, width); fitted on `fit` rows."""
    if model.config.tokens == "patches":
        patches = embed_everything(model, dataset, rows, progress=progress).patches
        flat = principal_components(patches.reshape(len(rows), -1), fit, seed)
        found = {EMBEDDING: flat}
    else:
        features = embed_everything(model, dataset, rows, progress=progress)
        states, patches = features.states, features.patches
        found = {EMBEDDING: states.reshape(len(rows), -1)}
        if states.shape[1] > 1:
            found |= {name: states[:, token] for token, name in enumerate(_token_names(model))}
        found["CLS before the projector"] = features.cls
    views = patches.reshape(len(rows), len(model.inputs.cameras), -1, patches.shape[-1])
    found["mean patch"] = views.mean(2).reshape(len(rows), -1)
    found[ALL_PATCHES] = patches
    return {name: standardise(x, x[:fit]).astype(np.float32) for name, x in found.items()}


def _token_names(model: LeWorldModel) -> list[str]:
    """What each token of a state is, in their order."""
    kinds = ["CLS", *(f"register {n}" for n in range(1, model.config.tokens_per_frame))]
    names = [f"{kind} of {camera.name}" for camera in model.inputs.cameras for kind in kinds]
    return names + (["vectors"] if model.inputs.vectors else [])


def _read_vectors(x: Parts, asked: list[Question], seed: int) -> dict[str, list[Array]]:
    exact = Parts(*(part.astype(np.float64) for part in x))
    answers = network_probe(partial(mlp, x.fit.shape[1]), x, [question.target for question in asked], seed)
    return {"linear": [question.read(exact) for question in asked], "mlp": answers}


def _read_patches(model: LeWorldModel, x: Parts, asked: list[Question], seed: int) -> dict[str, list[Array]]:
    make = partial(AttentivePooling, *x.fit.shape[1:], model.config.encoder.heads)
    return {"attentive": network_probe(make, x, [question.target for question in asked], seed)}


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


def light_probe(
    model: LeWorldModel,
    dataset: EpisodeDataset,
    train_rows: NDArray[np.int64],
    test_rows: NDArray[np.int64],
    seed: int = 0,
) -> dict[str, float | list[float]]:
    """What a linear probe reads from states, for validation in training.

    What the dataset lacks, or what never changes in it, is left out.

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
        if np.ptp(true, axis=0).max() < STILL:
            continue
        predicted = linear_probe(x[:count], train, x[count:])
        figures[f"probe/{name}_r2"] = [round(float(v), 4) for v in r_squared(predicted, true, once(len(true)))[0]]
        if name == "position":
            figures["probe/position_error_mm"] = round(float(np.median(distances_mm(predicted, true))), 2)
    return figures
