"""What a decoder paints, beside what was there: how much of a frame is in a state, and in an imagined one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lewm_ros.config import ConfigError, UserError
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.decoder import Decoder
from lewm_ros.model.inputs import to_inputs
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.windows import InputReader
from lewm_training.judge.probe import held_out_episodes
from lewm_training.judge.retrieval import imagine

Rows = NDArray[np.int64]
Pictures = NDArray[np.uint8]
"""Of several cameras, as a model sees them: (N, C, size, size, 3)."""

BATCH = 64

MOVING = 26
"""A pixel that differs so much from the mean frame, of 255, in one of its colours, shows something that moves."""


@dataclass(frozen=True)
class Painted:
    """Frames that were there and, of the same N rows, what a decoder, whose name is for eyes, painted of them."""

    decoder: str
    true: Pictures
    painted: Pictures


@dataclass(frozen=True)
class Future:
    """S starts, each imagined T blocks ahead under the actions that were recorded there.

    Attributes:
        start: (S,) row of the newest frame that the model was shown.
        now: (S, C, size, size, 3) that frame.
        true: (S, T, C, size, size, 3) what came.
        seen: (S, T, ...) painted from the states of what came: what is lost by state and decoder alone.
        imagined: (S, T, ...) painted from the imagined states.
    """

    start: Rows
    now: Pictures
    true: Pictures
    seen: Pictures
    imagined: Pictures


def decoder_of(checkpoint: Checkpoint) -> Decoder:
    """The decoder of a checkpoint.

    Raises:
        UserError: it has none.
    """
    if checkpoint.decoder is None:
        raise UserError(f"checkpoint '{checkpoint.name}': has no decoder; teach it one with `lewm train-decoder`")
    return checkpoint.decoder


def decoder_split(
    dataset: EpisodeDataset, provenance: dict[str, Any], validation_fraction: float, seed: int
) -> tuple[Rows, Rows]:
    """Episodes that a decoder learns from, and those that it is judged on.

    The latter are those that the model's own training held out, where that is known.

    Raises:
        DatasetError: there are too few for both.
    """
    trained, held_out = held_out_episodes(dataset, provenance)
    return (trained, held_out) if len(held_out) else dataset.split(validation_fraction, seed)


def unseen_episodes(checkpoints: Sequence[Checkpoint], dataset: EpisodeDataset) -> Rows:
    """The episodes that the decoder of none of these checkpoints has learned from.

    Raises:
        UserError: one has no decoder.
        DatasetError: there is no such episode.
    """
    unseen = np.arange(len(dataset.lengths))
    for checkpoint in checkpoints:
        decoder_of(checkpoint)
        learned = checkpoint.provenance["decoder"]
        if learned["dataset"]["fingerprint"] == dataset.fingerprint:
            fraction = learned["train"]["validation_fraction"]
            unseen = np.intersect1d(unseen, decoder_split(dataset, checkpoint.provenance, fraction, learned["seed"])[1])
    if not len(unseen):
        raise DatasetError(
            f"{dataset.path}: no episode is unknown to all of the decoders; train them with the same --seed"
        )
    return unseen


def require_same_cameras(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise ConfigError, which names both, unless all checkpoints see the same frames."""
    first, *others = checkpoints
    for other in others:
        if other.inputs.cameras != first.inputs.cameras:
            raise ConfigError(
                f"checkpoints '{first.name}' and '{other.name}' see other frames (cameras, crops or sizes differ); "
                "choose those of one model, or of models with the same inputs"
            )


@torch.inference_mode()
def reconstruct(checkpoint: Checkpoint, dataset: EpisodeDataset, rows: Rows) -> Painted:
    """Encode the frames at `rows` (N,) and paint them again.

    Raises:
        UserError: the checkpoint has no decoder.
        ConfigError, DatasetError: the dataset lacks what the model takes in.
    """
    decoder, model = decoder_of(checkpoint), checkpoint.model
    reader, true, painted = InputReader(dataset, model.inputs), [], []
    for chunk in np.array_split(rows, math.ceil(len(rows) / BATCH)):
        values = {name: value.to(checkpoint.device) for name, value in reader.read(chunk).items()}
        tokens = decoder.tokens(model, to_inputs(model.inputs, values))
        true.append(torch.stack([values[camera.name] for camera in model.inputs.cameras], dim=1).cpu().numpy())
        painted.append(decoder.decode(tokens).cpu().numpy())
    return Painted(_described(checkpoint), np.concatenate(true), np.concatenate(painted))


def imagine_frames(
    checkpoint: Checkpoint, dataset: EpisodeDataset, episodes: Rows, blocks: int, starts: int, seed: int
) -> Future:
    """Imagine `blocks` ahead from random starts in `episodes`, and paint what is imagined.

    Raises:
        UserError: the checkpoint has no decoder.
        ConfigError: its decoder paints patch tokens, which the state does not hold.
        ConfigError, DatasetError: the dataset lacks what the model takes in, has other actions, or is too short.
    """
    decoder, model, space = decoder_of(checkpoint), checkpoint.model, checkpoint.action_space
    if not decoder.paints_states:
        raise ConfigError(
            f"checkpoint '{checkpoint.name}': its decoder paints patch tokens, which are not imagined; "
            "train one with --from state"
        )
    dataset.require_same_actions(space, f"checkpoint '{checkpoint.name}'")
    history, block = model.config.history, space.action_block
    frames = history + blocks
    span = (frames - 1) * block + 1
    firsts = dataset.window_starts(episodes[dataset.lengths[episodes] >= span], span)
    firsts = np.sort(np.random.default_rng(seed).choice(firsts, min(starts, len(firsts)), replace=False))
    windows = firsts[:, None] + block * np.arange(frames)  # (S, H + T)
    read = InputReader(dataset, model.inputs).read(windows)
    values = {name: value.to(checkpoint.device) for name, value in read.items()}
    with torch.inference_mode():
        states = model.encode_windows(to_inputs(model.inputs, values))  # (S, H + T, K, D)
    imagined = imagine(
        checkpoint, states[:, :history], space.normalise(dataset.read_actions(firsts, frames - 1, block))
    )
    true = torch.stack([values[camera.name] for camera in model.inputs.cameras], dim=2).cpu().numpy()
    return Future(
        start=windows[:, history - 1],
        now=true[:, history - 1],
        true=true[:, history:],
        seen=decoder.decode(states[:, history:]).cpu().numpy(),
        imagined=decoder.decode(imagined).cpu().numpy(),
    )


def psnr_db(true: Pictures, painted: Pictures, moving: NDArray[np.bool_] | None = None) -> float | None:
    """Peak signal-to-noise ratio, dB, of all pixels together, or of those that are `moving` (without the colours).

    None if there are no such pixels, or no error.
    """
    squares = np.square((true.astype(np.float32) - painted) / 255.0).mean(-1)
    chosen = squares if moving is None else squares[moving]
    error = float(chosen.mean()) if chosen.size else 0.0
    return round(-10.0 * math.log10(error), 2) if error > 0.0 else None


def fidelity(seen: Painted, cameras: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """PSNR of what was painted, by camera, of all pixels and of those that show something that moves.

    These differ from the mean of the N true frames. Painting just that mean stands beside it, as `mean_frame_`.
    """
    figures = {}
    for place, camera in enumerate(cameras):
        true, painted = seen.true[:, place], seen.painted[:, place]
        mean = true.mean(0, keepdims=True).round().astype(np.uint8)
        moving = (np.abs(true.astype(np.int16) - mean) > MOVING).any(-1)
        guessed = np.broadcast_to(mean, true.shape)
        figures[camera] = {
            "psnr_db": psnr_db(true, painted),
            "moving_psnr_db": psnr_db(true, painted, moving),
            "mean_frame_psnr_db": psnr_db(true, guessed),
            "mean_frame_moving_psnr_db": psnr_db(true, guessed, moving),
        }
    return figures


def _described(checkpoint: Checkpoint) -> str:
    """What the decoder of a checkpoint paints from, and whose it is."""
    tokens = checkpoint.state_shape[0]
    sources = {
        "state": f"state of {tokens} token{'s' if tokens > 1 else ''}",
        "cls": "one CLS token",
        "patches": "patch tokens",
    }
    return f"{sources[decoder_of(checkpoint).config.source]} ({checkpoint.name})"
