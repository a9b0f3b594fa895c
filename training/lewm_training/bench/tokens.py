"""One token per frame against many."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from lewm_ros.config import EncoderConfig, PatchConfig
from lewm_ros.model.patch import PatchWorldModel
from lewm_training.bench.flops import flops_per_plan
from lewm_training.bench.paper import DTYPES, PAPER_SEARCH, paper_model, plan_from
from lewm_training.judge.machine import time_calls

SEARCH = replace(PAPER_SEARCH, samples=16, iterations=2, elites=4)
"""Small enough for patch tokens on a CPU."""


def bench_tokens(device: torch.device, seed: int) -> dict[str, Any]:
    """One CLS vector per frame against 256 patch tokens: same predictor sizes, planner, samples and precision."""
    model, patch_config = paper_model(seed).to(device), PatchConfig(encoder=EncoderConfig(image_size=224))
    patch = PatchWorldModel(patch_config).eval().to(device)
    generator = torch.Generator().manual_seed(seed)
    figures: dict[str, Any] = {
        "tokens_per_frame": patch_config.tokens,
        "samples": SEARCH.samples,
        "iterations": SEARCH.iterations,
        "horizon": SEARCH.horizon,
    }
    for precision in DTYPES:
        config = replace(SEARCH, precision=precision)
        seconds = {}
        for name, world, width in (("cls", model, 192), ("patch", patch, patch_config.tokens * 192)):
            z, goal = (torch.randn(1, width, generator=generator).to(device) for _ in range(2))
            repeats = 5 if name == "cls" else 1
            call = partial(plan_from, world, config, z, goal[0], seed)
            seconds[name] = min(time_calls(call, repeats, device, f"{name} tokens", warm_up=1))
        sizes = (config.samples, config.iterations, config.horizon)
        flops = {
            name: flops_per_plan(world.config, *sizes, known=1).total
            for name, world in (("cls", model), ("patch", patch))
        }
        figures[precision] = {
            "cls_s": seconds["cls"],
            "patch_s": seconds["patch"],
            "ratio": seconds["patch"] / seconds["cls"],
            "flops_ratio": flops["patch"] / flops["cls"],
        }
    return figures
