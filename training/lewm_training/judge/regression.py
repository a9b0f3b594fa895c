"""The regressions behind probes: ridge and a small MLP, and how well they do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lewm_training.judge.labels import Array

RIDGE = 1e-3
MLP_WIDTH, MLP_EPOCHS, MLP_BATCH = 256, 50, 256


def linear_probe(train_x: Array, train_y: Array, test_x: Array) -> Array:
    """Ridge regression: from x (N, D) and y (N, L), and x (M, D), to predicted y (M, L).

    Inputs should be centred and of unit scale: they are taken as they are, so that weak dimensions weigh little.
    """
    offset = train_y.mean(0)
    gram = train_x.T @ train_x + RIDGE * len(train_x) * np.eye(train_x.shape[1])
    return test_x @ np.linalg.solve(gram, train_x.T @ (train_y - offset)) + offset


def mlp_probe(
    train_x: Array, train_y: Array, validation_x: Array, validation_y: Array, test_x: Array, seed: int
) -> Array:
    """As `linear_probe`, by an MLP with two hidden layers, as it was when it did best on the validation frames."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(train_x.shape[1], MLP_WIDTH),
            nn.GELU(),
            nn.Linear(MLP_WIDTH, MLP_WIDTH),
            nn.GELU(),
            nn.Linear(MLP_WIDTH, train_y.shape[1]),
        )
        y, judged_y = (_tensor(standardise(part, train_y)) for part in (train_y, validation_y))
        _fit(network, _tensor(train_x), y, _tensor(validation_x), judged_y)
    with torch.inference_mode():
        predicted = network(_tensor(test_x)).double().numpy()
    return predicted * train_y.std(0) + train_y.mean(0)


def _fit(network: nn.Module, x: Tensor, y: Tensor, judged_x: Tensor, judged_y: Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, MLP_EPOCHS)
    least, best = float("inf"), network.state_dict()
    for _ in range(MLP_EPOCHS):
        for batch in torch.randperm(len(x)).split(MLP_BATCH):
            optimizer.zero_grad(set_to_none=True)
            (network(x[batch]) - y[batch]).square().mean().backward()
            optimizer.step()
        schedule.step()
        with torch.inference_mode():
            error = float((network(judged_x) - judged_y).square().mean())
        if error < least:
            least, best = error, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)


def standardise(x: Array, like: Array) -> Array:
    """Take the mean and the spread of each dimension of `like` (M, D) out of x (N, D)."""
    return (x - like.mean(0)) / (like.std(0) + 1e-8)


def _tensor(x: Array) -> Tensor:
    return torch.from_numpy(x.astype(np.float32))


def r_squared(predicted: Array, true: Array) -> Array:
    """Share of the variance of each component of `true` (M, L) that is predicted (L,)."""
    return 1.0 - ((true - predicted) ** 2).sum(0) / (((true - true.mean(0)) ** 2).sum(0) + 1e-12)


def pearson_r(predicted: Array, true: Array) -> Array:
    """Correlation (L,) of each component of (M, L) and (M, L); 0 where one of the two never changes."""
    a, b = predicted - predicted.mean(0), true - true.mean(0)
    return (a * b).sum(0) / (np.sqrt((a**2).sum(0) * (b**2).sum(0)) + 1e-12)
