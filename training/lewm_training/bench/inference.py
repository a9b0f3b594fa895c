"""How fast this machine encodes a frame and makes a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lewm_ros.config import PlannerConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.pixels import normalise_pixels
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_training.judge.machine import describe, time_calls


def bench_inference(checkpoint: Checkpoint, config: PlannerConfig, repeats: int, seed: int) -> dict[str, Any]:
    """Time one frame through the encoder (from uint8 pixels on) and one planning cycle with a full history.

    Args:
        checkpoint: the model, on the device to time.
        config: sizes of the search.
        repeats: timed calls of each, after a few to warm up.
        seed: of the random frames.

    Returns:
        p50 and p95 in seconds, the search, and the machine.
    """
    model, device = checkpoint.model, next(checkpoint.model.parameters()).device
    size, history = model.config.encoder.image_size, model.config.history
    rng = np.random.default_rng(seed)
    frames = torch.from_numpy(rng.integers(0, 256, (history + 1, size, size, 3), dtype=np.uint8))
    planner = RecedingHorizonPlanner(
        model.planning_model(config.precision),
        config,
        checkpoint.action_space,
        history,
        device,
        seed,
        checkpoint.proposal,
        checkpoint.gap,
    )

    @torch.inference_mode()
    def encode() -> torch.Tensor:
        return model.encode(normalise_pixels(frames[:1].to(device)))

    with torch.inference_mode():
        embeddings = model.encode(normalise_pixels(frames.to(device)))
    for block in range(history):
        planner.observe(block, embeddings[block])
    plan_s = time_calls(lambda: planner.decide(history - 1, embeddings[-1]), repeats, device, "plan")
    return {
        "encode_s": _percentiles(time_calls(encode, repeats, device, "encode")),
        "plan_s": _percentiles(plan_s),
        "planner": vars(config),
        "checkpoint": checkpoint.identity,
        **describe(device),
    }


def _percentiles(elapsed_s: list[float]) -> dict[str, float]:
    return {name: float(np.quantile(elapsed_s, q)) for name, q in (("p50", 0.5), ("p95", 0.95))}
