"""One token per frame against many."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from lewm_ros.model import LeWorldModel
from lewm_training.bench.flops import flops_per_plan
from lewm_training.bench.paper import PAPER_SEARCH, PATCHES, PRECISIONS, paper_model, plan_from, random_states
from lewm_training.judge.machine import time_calls

SEARCH = replace(PAPER_SEARCH, samples=16, iterations=2, elites=4)
"""Small enough for patch tokens on a CPU."""


def bench_tokens(device: torch.device, seed: int) -> dict[str, Any]:
    """One CLS vector per frame against 256 patch tokens: same predictor sizes, planner, samples and precision."""
    models = {"cls": paper_model(seed).to(device), "patch": LeWorldModel(PATCHES).eval().to(device)}
    generator = torch.Generator().manual_seed(seed)
    figures: dict[str, Any] = {
        "tokens_per_frame": PATCHES.tokens_per_frame,
        "samples": SEARCH.samples,
        "iterations": SEARCH.iterations,
        "horizon": SEARCH.horizon,
    }
    sizes = (SEARCH.samples, SEARCH.iterations, SEARCH.horizon)
    flops = {name: flops_per_plan(model.config, *sizes, known=1).total for name, model in models.items()}
    for precision in PRECISIONS:
        config, seconds = replace(SEARCH, precision=precision), {}
        for name, model in models.items():
            z, goal = (random_states(model.config, 1, generator, device) for _ in range(2))
            call = partial(plan_from, model, config, z, goal[0], seed)
            repeats = 5 if name == "cls" else 1
            seconds[name] = min(time_calls(call, repeats, device, f"{name} tokens", warm_up=1))
        figures[precision] = {
            "cls_s": seconds["cls"],
            "patch_s": seconds["patch"],
            "ratio": seconds["patch"] / seconds["cls"],
            "flops_ratio": flops["patch"] / flops["cls"],
        }
    return figures
