"""What arrives of a camera's frames between two processes on one host, by setting of Fast DDS."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_training.bench.camera import STREAMS, transport_environment, watch_camera


def bench_transport(settings: Iterable[str], streams: Iterable[str], frames: int, rate_hz: float) -> dict[str, Any]:
    """For each setting and stream: frames that arrived, and p50 and p99 of the time from stamp to receipt, in ms."""
    figures: dict[str, Any] = {"frames": frames, "rate_hz": rate_hz}
    trials = [(setting, stream) for setting in settings for stream in streams]
    with tempfile.TemporaryDirectory() as folder:
        for setting, stream in tqdm(trials, desc="trials", leave=False):
            environment = transport_environment(setting)
            report = watch_camera(environment, Path(folder), STREAMS[stream], frames, rate_hz)
            latencies_ms = 1e3 * np.array(report["latencies_s"] or [np.nan])
            figures[f"{setting}, {stream}"] = {
                "arrived": len(report["latencies_s"]),
                "latency_ms_p50": round(float(np.percentile(latencies_ms, 50)), 2),
                "latency_ms_p99": round(float(np.percentile(latencies_ms, 99)), 2),
            }
    return figures
