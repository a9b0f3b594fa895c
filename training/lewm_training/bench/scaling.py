"""What a plan costs in time and memory, by each size of the search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from tqdm import tqdm

from lewm_training.bench.paper import PAPER_SEARCH, paper_model, random_states, search_from
from lewm_training.judge.machine import time_calls


def bench_scaling(device: torch.device, seed: int) -> dict[str, list[dict[str, float]]]:
    """Seconds and peak memory (MB) of a plan against each size of the search, the others held."""
    base = replace(PAPER_SEARCH, samples=64, iterations=4, elites=8, precision="fp32")
    sizes = {
        "samples": (32, 64, 128, 256, 512),
        "iterations": (2, 4, 8, 16, 32),
        "horizon": (1, 2, 4, 8, 16),
        "history": (1, 2, 3, 4, 6),
        "problems": (1, 2, 4, 8),
    }
    figures: dict[str, list[dict[str, float]]] = {}
    for name, values in sizes.items():
        figures[name] = []
        for value in tqdm(values, desc=f"scaling {name}", leave=False):
            history = value if name == "history" else 3
            batch = value if name == "problems" else 1
            config = base if name in ("history", "problems") else replace(base, **{name: value})
            model = paper_model(seed, history).to(device)
            generator = torch.Generator().manual_seed(seed)
            z = random_states(model.config, batch * history, generator, device).unflatten(0, (batch, history))
            goal = random_states(model.config, 1, generator, device)[0]
            call = partial(search_from, model, config, z, goal, seed)
            seconds = min(time_calls(call, 3, device, name, warm_up=1))
            figures[name].append({"value": value, "plan_s": seconds, "peak_mb": _peak_mb(call, device)})
    return figures


def _peak_mb(call: Callable[[], object], device: torch.device) -> float:
    """Memory that a call needs at most beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    return _peak_of(profile) / 1e6


def _peak_of(profile: torch.profiler.profile) -> int:
    """The largest sum of live allocations in a profile."""
    live = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak
