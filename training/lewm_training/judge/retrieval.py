"""What a model imagines, shown as real frames: roll out, and look up the nearest state in a bank of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lewm_ros.model.checkpoint import Checkpoint
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge.embeddings import embed, embed_flat, flat_states

Rows = NDArray[np.int64]

BLOCKS_AHEAD = (1, 2, 3, 5, 10)


@dataclass(frozen=True)
class Retrieval:
    """S starts, each imagined T horizons ahead under the actions that were recorded there.

    Frames are given as rows, states as vectors; see `flat_states`.

    Args:
        blocks_ahead: the T horizons, in model steps.
        start: (S,) the newest frame that the model was shown.
        true: (S, T) what came.
        nearest: (S, T) the frame of the bank whose state is nearest to the imagined one; the bank holds `true`.
        nearest_elsewhere: (S, T) the same among the frames of other episodes; None if there is but one.
        best_elsewhere: (S, T) as `nearest_elsewhere`, for the state of the true frame: what perfect prediction
            would give with this encoder and this bank; None likewise.
        latent_error: (S, T) squared distance between imagined and true state, per dimension.
        latent_motion: (S, T) the same between the states of the start and of the true frame.
        bank: (N,) rows of the bank.
        states: (N, F) their states.
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
    states: NDArray[np.float64]


def retrieve(
    checkpoint: Checkpoint, dataset: EpisodeDataset, episodes: Rows, seed: int, starts: int = 100, bank: int = 4000
) -> Retrieval:
    """Imagine from random starts in `episodes` and retrieve from a bank of about `bank` of their frames.

    Raises:
        DatasetError: the model takes other actions than the dataset holds, or no episode is long enough for one block.
    """
    model, space = checkpoint.model, checkpoint.action_space
    dataset.require_same_actions(space, f"checkpoint '{checkpoint.name}'")
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
    states = embed_flat(model, dataset, rows)

    z = states[np.searchsorted(rows, windows)]  # (S, frames, F)
    seen = embed(model, dataset, windows[:, :history].reshape(-1)).reshape(-1, history, *checkpoint.state_shape)
    actions = space.normalise(dataset.read_actions(firsts, frames - 1, block))  # (S, frames-1, A)
    imagined = _imagine(checkpoint, seen, actions)  # (S, ahead[-1], F)
    wanted = np.array(ahead) - 1
    imagined, true_z, true = imagined[:, wanted], z[:, history + wanted], windows[:, history + wanted]
    elsewhere = _episode_of(dataset, rows) != _episode_of(dataset, firsts)[:, None]  # (S, N)
    several = bool(elsewhere.any())
    return Retrieval(
        blocks_ahead=ahead,
        start=windows[:, history - 1],
        true=true,
        nearest=rows[_nearest(imagined, states)],
        nearest_elsewhere=rows[_nearest(imagined, states, elsewhere)] if several else None,
        best_elsewhere=rows[_nearest(true_z, states, elsewhere)] if several else None,
        latent_error=np.square(imagined - true_z).mean(-1),
        latent_motion=np.square(z[:, history - 1, None] - true_z).mean(-1),
        bank=rows,
        states=states,
    )


@torch.inference_mode()
def imagine(checkpoint: Checkpoint, z: Tensor, actions: NDArray[np.float64]) -> Tensor:
    """States (S, H, K, D) and all z-scored blocks (S, H-1+T, A) -> imagined states (S, T, K, D)."""
    device, known = checkpoint.device, z.shape[1]
    seen, blocks = z.float().to(device), torch.from_numpy(actions).float().to(device)
    return checkpoint.model.rollout(seen, blocks[:, : known - 1], blocks[:, known - 1 :].unsqueeze(1))[:, 0]


def _imagine(checkpoint: Checkpoint, z: NDArray[np.float64], actions: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `imagine`, flat: imagined states (S, T, F)."""
    return flat_states(checkpoint.model, imagine(checkpoint, torch.from_numpy(z), actions)).double().cpu().numpy()


def _nearest(
    wanted: NDArray[np.float64], bank: NDArray[np.float64], allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Index (S, T) into the bank (N, F) of what is nearest to `wanted` (S, T, F), where `allowed` (S, N)."""
    distances = np.square(bank).sum(-1) - 2.0 * wanted @ bank.T  # (S, T, N), but for a constant
    if allowed is not None:
        distances = np.where(allowed[:, None], distances, np.inf)
    return distances.argmin(-1)


def _episode_of(dataset: EpisodeDataset, rows: Rows) -> Rows:
    return np.searchsorted(dataset.offsets, rows, side="right") - 1
