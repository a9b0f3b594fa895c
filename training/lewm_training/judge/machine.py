"""The machine that is measured, and how a call on it is timed."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

WARM_UP = 3


def describe(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def time_calls(
    call: Callable[[], object], repeats: int, device: torch.device, name: str, warm_up: int = WARM_UP
) -> list[float]:
    """Seconds (repeats,) that each call took, after `warm_up` that do not count; `name` labels the progress bar."""
    elapsed_s = []
    for _ in tqdm(range(warm_up + repeats), desc=name, leave=False):
        started_s = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed_s.append(time.perf_counter() - started_s)
    return elapsed_s[warm_up:]


def matmul_rate(dtype: torch.dtype, device: torch.device, size: int = 2048, repeats: int = 10) -> float:
    """Floating-point operations per second of a square matmul: what this machine can reach at best."""
    a = torch.randn(size, size, device=device).to(dtype)
    return 2.0 * size**3 / min(time_calls(lambda: a @ a, repeats, device, "matmul"))
