"""What a model imagines, shown as real frames: roll out, and look up the nearest embedding in a bank of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lewm_ros.model.checkpoint import Checkpoint, CheckpointError
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge.embeddings import embed

Rows = NDArray[np.int64]

BLOCKS_AHEAD = (1, 2, 3, 5, 10)


@dataclass(frozen=True)
class Retrieval:
    """S starts, each imagined T horizons ahead under the actions that were recorded there. Frames are given as rows.

    Args:
        blocks_ahead: the T horizons, in model steps.
        start: (S,) the newest frame that the model was shown.
        true: (S, T) what came.
        nearest: (S, T) the frame of the bank whose embedding is nearest to the imagined one; the bank holds `true`.
        nearest_elsewhere: (S, T) the same among the frames of other episodes; None if there is but one.
        best_elsewhere: (S, T) as `nearest_elsewhere`, for the embedding of the true frame: what perfect prediction
            would give with this encoder and this bank; None likewise.
        latent_error: (S, T) squared distance between imagined and true embedding, per dimension.
        latent_motion: (S, T) the same between the embeddings of the start and of the true frame.
        bank: (N,) rows of the bank.
        embeddings: (N, D) their embeddings.
    """

    blocks_ahead: tuple[int, ...]
    start: Rows
    true: Rows
    nearest: Rows
    nearest_elsewhere: Rows | None
    best_elsewhere: Rows | None
    latent_error: NDArray[np.float64]
    latent_motion: NDArray[np.float64]
    bank: Rows
    embeddings: NDArray[np.float64]


def retrieve(
    checkpoint: Checkpoint, dataset: EpisodeDataset, episodes: Rows, seed: int, starts: int = 100, bank: int = 4000
) -> Retrieval:
    """Imagine from random starts in `episodes` and retrieve from a bank of about `bank` of their frames.

    Raises:
        CheckpointError: the model takes other actions than the dataset holds.
        DatasetError: no episode is long enough for one block.
    """
    model, space = checkpoint.model, checkpoint.action_space
    _require_same_actions(checkpoint, dataset)
    block, history = space.action_block, model.config.history
    longest = (int(dataset.lengths[episodes].max()) - 1) // block - (history - 1)
    ahead = tuple(blocks for blocks in BLOCKS_AHEAD if blocks <= longest)
    if not ahead:
        needed = history * block + 1
        raise DatasetError(f"{dataset.path}: no held-out episode holds a window of {needed} control steps")
    frames = history + ahead[-1]

    span = (frames - 1) * block + 1

    rng = np.random.default_rng(seed)
    firsts = dataset.window_starts(episodes[dataset.lengths[episodes] >= span], span)
    firsts = np.sort(rng.choice(firsts, min(starts, len(firsts)), replace=False))
    windows = firsts[:, None] + block * np.arange(frames)  # (S, frames)
    single = dataset.window_starts(episodes, 1)
    single = rng.choice(single, min(bank, len(single)), replace=False)
    rows = np.union1d(windows, single)
    embeddings = embed(model, dataset, rows)

    z = embeddings[np.searchsorted(rows, windows)]  # (S, frames, D)
    actions = space.normalise(dataset.read_windows(firsts, frames, block)[1])  # (S, frames-1, A)
    imagined = _imagine(checkpoint, z[:, :history], actions)  # (S, ahead[-1], D)
    wanted = np.array(ahead) - 1
    imagined, true_z, true = imagined[:, wanted], z[:, history + wanted], windows[:, history + wanted]
    elsewhere = _episode_of(dataset, rows) != _episode_of(dataset, firsts)[:, None]  # (S, N)
    several = bool(elsewhere.any())
    return Retrieval(
        blocks_ahead=ahead,
        start=windows[:, history - 1],
        true=true,
        nearest=rows[_nearest(imagined, embeddings)],
        nearest_elsewhere=rows[_nearest(imagined, embeddings, elsewhere)] if several else None,
        best_elsewhere=rows[_nearest(true_z, embeddings, elsewhere)] if several else None,
        latent_error=np.square(imagined - true_z).mean(-1),
        latent_motion=np.square(z[:, history - 1, None] - true_z).mean(-1),
        bank=rows,
        embeddings=embeddings,
    )


def _require_same_actions(checkpoint: Checkpoint, dataset: EpisodeDataset) -> None:
    space = checkpoint.action_space
    ours = (space.kind, space.control_hz)
    theirs = (dataset.meta.get("action_space"), dataset.meta.get("control_hz"))
    if ours != theirs:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' acts in {ours[0]} at {ours[1]} Hz, "
            f"{dataset.path} holds {theirs[0]} at {theirs[1]} Hz; pictures of rollouts need the same"
        )


@torch.inference_mode()
def _imagine(checkpoint: Checkpoint, z: NDArray[np.float64], actions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Embeddings (S, H, D) and all z-scored blocks (S, H-1+T, A) -> imagined embeddings (S, T, D)."""
    device = next(checkpoint.model.parameters()).device
    known = z.shape[1]
    seen = torch.from_numpy(z).float().to(device)
    blocks = torch.from_numpy(actions).float().to(device)
    imagined = checkpoint.model.rollout(seen, blocks[:, : known - 1], blocks[:, known - 1 :].unsqueeze(1))
    return imagined[:, 0].double().cpu().numpy()


def _nearest(
    wanted: NDArray[np.float64], bank: NDArray[np.float64], allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Index (S, T) into the bank (N, D) of what is nearest to `wanted` (S, T, D), where `allowed` (S, N)."""
    distances = np.square(bank).sum(-1) - 2.0 * wanted @ bank.T  # (S, T, N), but for a constant
    if allowed is not None:
        distances = np.where(allowed[:, None], distances, np.inf)
    return distances.argmin(-1)


def _episode_of(dataset: EpisodeDataset, rows: Rows) -> Rows:
    return np.searchsorted(dataset.offsets, rows, side="right") - 1
