"""`lewm reconstructions`: what several decoders paint of the same held-out frames."""

from __future__ import annotations

import argparse
from typing import Any

from lewm_training.commands.arguments import add_datasets, add_device, device_of, picture_file, positive, whole

HELP = "Paint held-out frames from what the encoder says of them, one row per checkpoint with a decoder."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", nargs="+", required=True, help="checkpoints of `lewm train-decoder`, side by side"
    )
    add_datasets(parser, "with frames")
    parser.add_argument("--frames", type=positive, default=512, help="held-out frames to measure on (default 512)")
    parser.add_argument("--shown", type=whole(1, 32), default=8, help="of them in the picture (default 8)")
    add_device(parser)
    parser.add_argument(
        "--figure", type=picture_file, default="reconstructions.png", help="PNG to write (default reconstructions.png)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_training.data import open_datasets
    from lewm_training.judge.figures import plot_reconstructions
    from lewm_training.judge.reconstruction import fidelity, reconstruct, require_same_cameras, unseen_episodes

    checkpoints = [load_checkpoint(path, device_of(options)) for path in options.checkpoint]
    require_same_cameras(checkpoints)
    dataset = open_datasets(options.dataset)
    rows = dataset.window_starts(unseen_episodes(checkpoints, dataset), 1)
    rng = np.random.default_rng(options.seed)
    rows = np.sort(rng.choice(rows, min(options.frames, len(rows)), replace=False))
    shown = np.sort(rng.choice(len(rows), min(options.shown, len(rows)), replace=False))
    cameras = [camera.name for camera in checkpoints[0].inputs.cameras]
    seen = [reconstruct(checkpoint, dataset, rows) for checkpoint in checkpoints]
    figures = [fidelity(painted, cameras) for painted in seen]
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    plot_reconstructions(seen, figures, cameras, shown, options.figure)
    decoders = [
        {"checkpoint": checkpoint.identity, "decoder": painted.decoder, "cameras": measured}
        for checkpoint, painted, measured in zip(checkpoints, seen, figures, strict=True)
    ]
    return {"dataset": dataset.path, "frames": len(rows), "figure": str(options.figure), "decoders": decoders}


def summary(figures: dict[str, Any]) -> str:
    """PSNR as a table: a line per camera and decoder."""
    lines = [f"{figures['frames']} held-out frames of {figures['dataset']}; PSNR, dB, of all pixels and of what moves"]
    decoders = figures["decoders"]
    for camera, guess in decoders[0]["cameras"].items():
        lines += ["", f"camera {camera}", _line("the mean frame", guess, "mean_frame_")]
        lines += [_line(found["decoder"], found["cameras"][camera]) for found in decoders]
    return "\n".join([*lines, "", f"figure: {figures['figure']}"]) + "\n"


def _line(name: str, figures: dict[str, float | None], which: str = "") -> str:
    values = (figures[f"{which}{measure}"] for measure in ("psnr_db", "moving_psnr_db"))
    return f"  {name:<40}" + "".join(f"{'-' if v is None else format(v, '.1f'):>8}" for v in values)
