"""How fast one training step is, beside the reference's own, with the same model, batch, precision and data."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lewm_ros.config import EncoderConfig, ModelConfig, PredictorConfig, SIGRegConfig, TrainConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.precision import autocast
from lewm_training.bench.peer import peer_module, peer_trainee
from lewm_training.learn.objective import Objective
from lewm_training.learn.trainer import make_optimizer, tune_for

Step = Callable[[], float]

WARM_UP = 1


def bench_training(
    device: torch.device,
    batch: int,
    image_size: int,
    patch_size: int,
    precision: str,
    steps: int,
    seed: int,
    peer: bool,
) -> dict[str, Any]:
    """Windows of four frames per second through loss, gradients, clipping and AdamW; steps of both in turn.

    Args:
        device: where to train.
        batch: windows per step.
        image_size: of the paper's model, whose other sizes are kept; without dropout, so that both losses must agree.
        patch_size: of its encoder.
        precision: fp32 or bf16.
        steps: timed, after one to warm up.
        seed: of weights and data.
        peer: whether to time the reference too.

    Returns:
        per trainer its windows per second, seconds per step and first loss; and the ratio of the medians.
    """
    config = TrainConfig(
        model=ModelConfig(
            encoder=EncoderConfig(image_size=image_size, patch_size=patch_size), predictor=PredictorConfig(dropout=0.0)
        ),
        sigreg=SIGRegConfig(weight=0.09),
        batch_size=batch,
        precision=precision,
    )
    torch.manual_seed(seed)
    model = LeWorldModel(config.model).to(device)
    pixels = torch.randn(batch, 4, 3, image_size, image_size, device=device)
    actions = torch.randn(batch, 3, config.model.action_dim, device=device)
    trainers: dict[str, Step] = {}
    if peer:
        trainers["stable-worldmodel"] = _peer_step(copy.deepcopy(model), config, pixels, actions)
    trainers["lewm_ros"] = _own_step(model, config, pixels, actions)
    elapsed_s: dict[str, list[float]] = {name: [] for name in trainers}
    losses: dict[str, float] = {}
    for number in tqdm(range(WARM_UP + steps), desc="training steps"):
        for name, step in trainers.items():
            torch.manual_seed(seed + number)
            started_s = time.perf_counter()
            loss = step()
            losses.setdefault(name, loss)
            if number >= WARM_UP:
                elapsed_s[name].append(time.perf_counter() - started_s)
    medians = {name: float(np.median(seconds)) for name, seconds in elapsed_s.items()}
    figures: dict[str, Any] = {
        name: {"windows_per_s": batch / median, "step_s": median, "first_loss": losses[name]}
        for name, median in medians.items()
    }
    if peer:
        figures["times_faster"] = medians["stable-worldmodel"] / medians["lewm_ros"]
    return figures | {"batch": batch, "image_size": image_size, "patch_size": patch_size, "precision": precision}


def _own_step(model: LeWorldModel, config: TrainConfig, pixels: Tensor, actions: Tensor) -> Step:
    model.train()
    tune_for(model, config, pixels.device)
    objective = Objective(model, config).to(pixels.device)
    optimizer = make_optimizer(model, config)
    directions = torch.Generator().manual_seed(0)
    inputs = {camera.name: pixels for camera in model.inputs.cameras}

    def step() -> float:
        with autocast(config.precision, pixels.device):
            drawn = objective.sigreg.draw_directions(config.model.embedding_dim, directions)
            loss = objective(inputs, actions, drawn)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
        return loss.item()

    return step


def _peer_step(model: LeWorldModel, config: TrainConfig, pixels: Tensor, actions: Tensor) -> Step:
    """The reference's training step (scripts/train/lewm.py of stable-worldmodel), without its logging."""
    peer = peer_trainee(model).to(pixels.device)
    sigreg = peer_module("wm.loss").SIGReg(knots=config.sigreg.knots, num_proj=config.sigreg.directions)
    sigreg = sigreg.to(pixels.device)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def step() -> float:
        with autocast(config.precision, pixels.device):
            seen = peer.encode({"pixels": pixels, "action": actions})
            predicted = peer.predict(seen["emb"][:, :-1], seen["act_emb"])
            loss = (predicted - seen["emb"][:, 1:]).pow(2).mean()
            loss = loss + config.sigreg.weight * sigreg(seen["emb"].transpose(0, 1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), config.gradient_clip)
        optimizer.step()
        return loss.item()

    return step
