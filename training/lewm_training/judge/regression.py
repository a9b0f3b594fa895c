"""The fits behind probes: ridge and logistic regression, and small networks that read every label at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

Array = NDArray[np.float64]

RIDGE = 1e-3
MLP_WIDTH = 256
STEPS, BATCH, CHECKS = 1500, 256, 20
"""Of a network: updates, frames in each, and how often the stopping frames are looked at."""


class Parts(NamedTuple):
    """Frames to fit a probe, to stop it, and to test on: what it reads, or a label (., L)."""

    fit: NDArray[Any]
    stop: NDArray[Any]
    test: NDArray[Any]


@dataclass(frozen=True)
class Target:
    """What a network is to read: numbers to fit and to stop on (., L), NaN where unknown; of yes or no, 1 and 0."""

    fit: Array
    stop: Array
    yes_or_no: bool


def linear_probe(fit_x: Array, fit_y: Array, test_x: Array) -> Array:
    """Ridge regression: from x (N, D) and y (N, L), and x (M, D), to predicted y (M, L).

    Inputs should be centred and of unit scale: they are taken as they are, so that weak dimensions weigh little.
    """
    offset = fit_y.mean(0)
    gram = fit_x.T @ fit_x + RIDGE * len(fit_x) * np.eye(fit_x.shape[1])
    return test_x @ np.linalg.solve(gram, fit_x.T @ (fit_y - offset)) + offset


def logistic_probe(fit_x: Array, fit_y: Array, test_x: Array) -> Array:
    """Logistic regression: from yes or no (N, 1), both weighing alike, to the chance of a yes (M, 1)."""
    x, y = _tensor(fit_x), _tensor(fit_y)
    line = nn.Linear(x.shape[1], 1)
    nn.init.zeros_(line.weight)
    nn.init.zeros_(line.bias)
    balance = _balance(y)
    optimizer = torch.optim.LBFGS(line.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(line(x), y, pos_weight=balance) + RIDGE * line.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.inference_mode():
        return line(_tensor(test_x)).sigmoid().double().numpy()


def mlp(numbers: int, outputs: Sequence[int]) -> nn.Module:
    """Two hidden layers: from x (B, `numbers`) to all outputs side by side."""
    return nn.Sequential(
        nn.Linear(numbers, MLP_WIDTH),
        nn.GELU(),
        nn.Linear(MLP_WIDTH, MLP_WIDTH),
        nn.GELU(),
        nn.Linear(MLP_WIDTH, sum(outputs)),
    )


class AttentivePooling(nn.Module):
    """One learned query per label looks at all tokens (B, N, width), and a line of its own reads what it found.

    As V-JEPA is probed (Bardes et al., 2404.08471): cross-attention, then an MLP.

    Args:
        tokens: N; each has a learned place, since tokens of two cameras may look alike.
        width: of a token.
        heads: of the attention; divides the width.
        outputs: numbers of each label.
    """

    def __init__(self, tokens: int, width: int, heads: int, outputs: Sequence[int]) -> None:
        super().__init__()
        self.pool = AttentionPoolLatent(
            width,
            num_heads=heads,
            feat_size=tokens,
            mlp_ratio=1.0,
            latent_len=len(outputs),
            pos_embed="abs",
            pool_type="",
            norm_layer=nn.LayerNorm,
        )
        self.lines = nn.ModuleList(nn.Linear(width, count) for count in outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, width) -> all outputs side by side."""
        found = self.pool(tokens).unbind(1)
        return torch.cat([line(x) for line, x in zip(self.lines, found, strict=True)], dim=1)


def network_probe(
    make: Callable[[list[int]], nn.Module], x: Parts, targets: Sequence[Target], seed: int
) -> list[Array]:
    """Fit one network to all targets, each weighing alike.

    Args:
        make: builds it, from the numbers of each target; it gives them side by side.
        x: what it reads.
        targets: what it is to say.
        seed: of its weights and batches.

    Returns:
        what it says of each target on the test frames (M, L), as it was when it did best on the stopping frames; of yes
        or no, the chance of a yes.
    """
    sizes = [target.fit.shape[1] for target in targets]
    binary = np.repeat([target.yes_or_no for target in targets], sizes)
    fit, stop = (np.concatenate([getattr(target, part) for target in targets], axis=1) for part in ("fit", "stop"))
    mean, std = np.where(binary, 0.0, np.nanmean(fit, axis=0)), np.where(binary, 1.0, np.nanstd(fit, axis=0) + 1e-8)
    loss = _Loss(sizes, torch.from_numpy(binary), _balance(_tensor(fit)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make(sizes)
        said = _fit(network, x, _tensor((fit - mean) / std), _tensor((stop - mean) / std), loss)
    said = np.where(binary, torch.from_numpy(said).sigmoid().numpy(), said * std + mean)
    return np.split(said, np.cumsum(sizes)[:-1], axis=1)


@dataclass(frozen=True)
class _Loss:
    """Mean over known numbers of every label (labels,): squared, of yes or no the cross-entropy."""

    sizes: list[int]
    binary: Tensor
    balance: Tensor

    def __call__(self, said: Tensor, true: Tensor) -> Tensor:
        known = true.isfinite()
        true = true.nan_to_num()
        answered = binary_cross_entropy_with_logits(
            said, true.clamp(0.0, 1.0), pos_weight=self.balance, reduction="none"
        )
        each = torch.where(self.binary, answered, (said - true).square()) * known
        mean = each.sum(0) / known.sum(0).clamp(min=1)
        return torch.stack([part.mean() for part in mean.split(self.sizes)])


def _fit(network: nn.Module, x: Parts, fit_y: Tensor, stop_y: Tensor, loss: _Loss) -> Array:
    """What the network says (M, C) on the test frames, each label as it was at its best."""
    fit_x, stop_x, test_x = (torch.from_numpy(part) for part in x)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS, pct_start=0.1, cycle_momentum=False)
    least, best = torch.full((len(loss.sizes),), torch.inf), torch.zeros(len(test_x), sum(loss.sizes))
    for step in range(1, STEPS + 1):
        batch = torch.randint(len(fit_x), (BATCH,))
        optimizer.zero_grad(set_to_none=True)
        loss(network(fit_x[batch]), fit_y[batch]).mean().backward()
        optimizer.step()
        schedule.step()
        if step % -(-STEPS // CHECKS) == 0 or step == STEPS:
            with torch.inference_mode():
                errors = loss(_in_batches(network, stop_x), stop_y)
                better = (errors < least).repeat_interleave(torch.tensor(loss.sizes))
                best = torch.where(better, _in_batches(network, test_x), best)
                least = errors.minimum(least)
    return best.double().numpy()


def _in_batches(network: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([network(part) for part in x.split(BATCH)])


def _balance(y: Tensor) -> Tensor:
    """What each yes of every column (N, C) must weigh, so that all together weigh as much as the noes; else unused."""
    yes, no = (y == 1.0).sum(0), (y == 0.0).sum(0)
    return (no / yes.clamp(min=1)).clamp(min=1e-3)


def standardise(x: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """Take the mean and the spread of each dimension of `like` (M, ...) out of x (N, ...)."""
    return (x - like.mean(0)) / (like.std(0) + 1e-8)


def _tensor(x: Array) -> Tensor:
    return torch.from_numpy(x.astype(np.float32))
