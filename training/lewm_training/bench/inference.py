"""How fast this machine encodes what is perceived and makes a plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.observation.input_spec import InputSpec
from lewm_ros.observation.observation import Observation
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_training.judge.machine import describe, time_calls


def bench_inference(checkpoint: Checkpoint, config: PlannerConfig, repeats: int, seed: int) -> dict[str, Any]:
    """Time one observation through the encoder (from uint8 pixels on) and one planning cycle with a full history.

    Args:
        checkpoint: the model, on the device to time.
        config: sizes of the search.
        repeats: timed calls of each, after a few to warm up.
        seed: of the random observations.

    Returns:
        p50 and p95 in seconds, the search, and the machine.
    """
    device, history, rng = checkpoint.device, checkpoint.history, np.random.default_rng(seed)
    observations = [_random_observation(checkpoint.inputs, rng) for _ in range(history)]
    planner = RecedingHorizonPlanner(checkpoint, config, seed)
    stamps_ns = [block * checkpoint.action_space.action_block * planner.control_ns for block in range(history)]
    for stamp_ns, observation in zip(stamps_ns, observations, strict=True):
        planner.observe(stamp_ns, checkpoint.encode(observation))
    goal = checkpoint.encode_goal(_random_observation(checkpoint.inputs, rng))
    encode_s = time_calls(lambda: checkpoint.encode(observations[0]), repeats, device, "encode")
    plan_s = time_calls(lambda: planner.decide(stamps_ns[-1], goal), repeats, device, "plan")
    return {
        "encode_s": _percentiles(encode_s),
        "plan_s": _percentiles(plan_s),
        "planner": vars(config),
        "checkpoint": checkpoint.identity,
        **describe(device),
    }


def _random_observation(inputs: InputSpec, rng: np.random.Generator) -> Observation:
    frames = {cam.name: rng.integers(0, 256, (cam.size, cam.size, 3), dtype=np.uint8) for cam in inputs.cameras}
    return Observation(frames, {vector.name: np.array(vector.mean) for vector in inputs.vectors})


def _percentiles(elapsed_s: list[float]) -> dict[str, float]:
    return {name: float(np.quantile(elapsed_s, q)) for name, q in (("p50", 0.5), ("p95", 0.95))}
