"""What the encoder node costs beside its network, with a camera that sends to it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.config import ConfigError
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_training.bench.camera import Stream, transport_environment, watch_camera
from lewm_training.judge.processes import run_nodes


def bench_node(checkpoint: str, stream: Stream, setting: str, frames: int, rate_hz: float) -> dict[str, Any]:
    """Frames to a real encoder_node; what it says about itself at the end, and when its embeddings came.

    Args:
        checkpoint: `default` or a path.
        stream: what the camera sends.
        setting: of Fast DDS, see `transport_environment`.
        frames: how many; the node's percentiles are of its newest 200.
        rate_hz: how many per second.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: it takes more than the frames of one camera.
    """
    inputs = load_checkpoint(checkpoint).inputs
    names = [item.name for item in (*inputs.cameras, *inputs.vectors)]
    if len(names) > 1:
        raise ConfigError(f"checkpoint {checkpoint}: takes {', '.join(names)}; only one camera is sent here")
    transport = "compressed" if stream.compressed else "raw"
    parameters = {"encoder_node": {"checkpoint": checkpoint, "device": "cpu", "image_transport": transport}}
    environment = transport_environment(setting)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with run_nodes(parameters, folder, ("encoder_node",), environment):
            report = watch_camera(environment, folder, stream, frames, rate_hz, listen_to="embedding")
    said = report["diagnostics"].get("encoder_node", {})
    latencies_ms = 1e3 * np.array(report["latencies_s"] or [np.nan])
    return {
        "frames": frames,
        "embeddings": len(report["latencies_s"]),
        **{f"around_network_ms_p{p}": milliseconds(said, f"around_network_p{p}_s") for p in (50, 95)},
        **{f"encode_latency_ms_p{p}": milliseconds(said, f"encode_latency_p{p}_s") for p in (50, 95)},
        **{f"image_to_embedding_ms_p{p}": round(float(np.percentile(latencies_ms, p)), 2) for p in (50, 95, 99)},
    }


def milliseconds(values: dict[str, str], name: str) -> float | None:
    """A duration among diagnostics values; None if it was not measured."""
    text = values.get(name, "none")
    return None if text == "none" else round(1e3 * float(text), 2)
