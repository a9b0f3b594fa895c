"""How much memory training takes, with a small and with a large dataset."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from lewm_training.bench.synthetic import synthetic_dataset
from lewm_training.judge.machine import describe
from lewm_training.judge.processes import ProcessError

SAMPLED_EVERY_S = 0.005
IMAGE_SIZE = 64
CONFIG = {
    "model": {
        "encoder": {"image_size": IMAGE_SIZE, "patch_size": 16, "width": 64, "depth": 2, "heads": 2},
        "predictor": {"depth": 1, "heads": 2, "head_dim": 16, "mlp_dim": 128},
        "embedding_dim": 32,
        "projector_dim": 128,
    },
    "sigreg": {"directions": 64},
    "batch_size": 32,
    "epochs": 1,
    "steps_per_epoch": 30,
    "validation_fraction": 0.5,
    "validation_windows": 64,
    "probe_frames": 64,
}
"""A small model: the data's share of memory is to show. Half is held out, so that what validation and the pictures take
of it at most is there in a dataset of 100 MB too."""

STEADY = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
"""Environment of the runs. With an arena per thread, peaks of equal runs differ by more than 100 MB."""


def bench_memory(folder: Path, gigabytes: list[float], seed: int) -> dict[str, Any]:
    """Run `lewm train` on sparse datasets of several sizes and watch what each takes.

    Args:
        folder: for the datasets and the runs; what is written there is removed.
        gigabytes: sizes of the frames, in 10^9 bytes.
        seed: of the datasets and of training.

    Returns:
        per size the peak of anonymous memory, which is the process's own; mapped pages of the dataset are not in it,
        since the kernel takes them back whenever it needs them. They are given beside it.

    Raises:
        ProcessError: training failed.
    """
    peaks = [_train(folder, size, seed) for size in gigabytes]
    return {
        "dataset_gb": gigabytes,
        "peak_anonymous_mb": [peak["RssAnon"] for peak in peaks],
        "peak_mapped_mb": [peak["RssFile"] for peak in peaks],
        "growth_mb": peaks[-1]["RssAnon"] - peaks[0]["RssAnon"],
        "steps": CONFIG["epochs"] * CONFIG["steps_per_epoch"],
        **describe(torch.device("cpu")),
    }


def _train(folder: Path, gigabytes: float, seed: int) -> dict[str, float]:
    """Peaks in MB of a training run."""
    with (
        synthetic_dataset(folder, gigabytes, IMAGE_SIZE, seed, sparse=True) as dataset,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
    ):
        config, log = Path(scratch, "config.yaml"), Path(scratch, "log")
        config.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "lewm_training",
            "train",
            "--dataset",
            str(dataset),
            "--config",
            str(config),
        ]
        command += ["--out", str(Path(scratch, "run")), "--seed", str(seed), "--device", "cpu"]
        environment = os.environ | STEADY
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process,
        ):
            peaks = _watch(process)
        if process.returncode:
            raise ProcessError(f"lewm train: {log.read_text(encoding='utf-8').splitlines()[-1]}")
    return peaks


def _watch(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """The largest values of /proc/PID/status until the process ends, in MB."""
    peaks = {"RssAnon": 0.0, "RssFile": 0.0}
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        for name in peaks:
            found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
            peaks[name] = max(peaks[name], int(found[1]) * 1024 / 1e6 if found else 0.0)
        time.sleep(SAMPLED_EVERY_S)
    return peaks
