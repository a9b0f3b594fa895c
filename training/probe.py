"""What can be read out of an embedding: linear probes for every label of a dataset."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lewm_ros.model import LeWorldModel
from lewm_ros.model.pixels import normalise_pixels
from lewm_training.dataset import EpisodeDataset

RIDGE = 1e-3


@torch.inference_mode()
def embed(
    model: LeWorldModel, dataset: EpisodeDataset, rows: NDArray[np.int64], batch: int = 256, progress: str = ""
) -> NDArray[np.float64]:
    """Embeddings (N, D) of the frames at `rows`, in evaluation mode; `progress` names a bar to show."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    chunks = np.array_split(rows, max(1, len(rows) // batch))
    embeddings = [
        model.encode(normalise_pixels(torch.from_numpy(dataset.pixels[chunk]).to(device))).double().cpu().numpy()
        for chunk in tqdm(chunks, desc=progress, unit="batch", disable=not progress)
    ]
    model.train(was_training)
    return np.concatenate(embeddings)


def linear_probe(
    train_x: NDArray[np.float64], train_y: NDArray[np.float64], test_x: NDArray[np.float64], test_y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ridge regression from embeddings (N, D) to labels (N, L).

    Returns:
        R2 (L,) on the test rows, and the predicted test labels (M, L).
    """
    centre, scale = train_x.mean(0), train_x.std(0) + 1e-8
    train, test = (train_x - centre) / scale, (test_x - centre) / scale
    offset = train_y.mean(0)
    gram = train.T @ train + RIDGE * len(train) * np.eye(train.shape[1])
    predicted = test @ np.linalg.solve(gram, train.T @ (train_y - offset)) + offset
    residual = ((test_y - predicted) ** 2).sum(0)
    total = ((test_y - test_y.mean(0)) ** 2).sum(0) + 1e-12
    return 1.0 - residual / total, predicted


def probe_joints_and_position(
    model: LeWorldModel, dataset: EpisodeDataset, train_rows: NDArray[np.int64], test_rows: NDArray[np.int64]
) -> dict[str, float | list[float]]:
    """R2 of each joint, and the median error of the end effector's position in mm, read linearly from embeddings."""
    train_z, test_z = embed(model, dataset, train_rows), embed(model, dataset, test_rows)
    joints = dataset.columns["proprio"].astype(np.float64)
    position = dataset.columns["ee_position"].astype(np.float64)
    joint_r2, _ = linear_probe(train_z, joints[train_rows], test_z, joints[test_rows])
    position_r2, predicted = linear_probe(train_z, position[train_rows], test_z, position[test_rows])
    error_mm = 1000.0 * np.linalg.norm(predicted - position[test_rows], axis=1)
    return {
        "joint_r2": [round(float(v), 4) for v in joint_r2],
        "position_r2": [round(float(v), 4) for v in position_r2],
        "position_error_mm": round(float(np.median(error_mm)), 2),
    }
