"""Search by least squares: Levenberg-Marquardt on the residuals, with finite differences through the model.

A plan has few free knots and a rollout of one candidate more costs next to nothing, so the whole Jacobian is one batch
of candidates that differ in one knot each. Near a goal this converges in a few batches where sampling needs dozens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lewm_ros.planning.solver import Deadline, Plan, Residuals, SearchSettings, SearchSpace, pick, total

DIFFERENCE = 0.05
"""Size of the finite differences, in z-scored actions: above the rounding of fp32 rollouts, below their curvature."""

DAMPINGS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0, 10.0)
"""Tried side by side in every iteration, relative to the mean curvature; the best one counts."""

JACOBIAN_EVERY = 3
"""Iterations. In between, Broyden's update keeps it up to what the last step showed, at no rollout."""


class GaussNewton:
    """Levenberg-Marquardt (Marquardt, 1963) from the best start; a knot at a bound moves only inwards.

    Between measured Jacobians stand Broyden's rank-one updates (1965): such a step takes the rollouts of its dampings
    only, a fifth of those that a Jacobian takes for 35 knots.

    `precision` should be fp32.
    """

    def __init__(self, config: SearchSettings, space: SearchSpace) -> None:
        self.config, self.space = config, space
        self._dampings = torch.tensor(DAMPINGS, device=space.low.device)

    def solve(self, residuals: Residuals, starts: Tensor, generator: torch.Generator, deadline: Deadline) -> Plan:
        """See `Solver`."""
        space = self.space
        candidates = space.clamp(space.to_knots(starts))  # (B, P, T, knots, dim)
        if not deadline.allows_step():
            unscored = torch.full((len(starts),), float("inf"), device=starts.device)
            return Plan(space.to_blocks(candidates[:, 0]), unscored, starts[:, :1], 0)
        best, cost, here = _best(candidates, residuals(space.to_blocks(candidates)))
        elites, finished = best.unsqueeze(1), 0
        while finished < self.config.iterations and deadline.allows_step():
            if finished % JACOBIAN_EVERY == 0:
                jacobian = self._jacobian(residuals, best, here)
            candidates = self._steps(best, here, jacobian)  # (B, dampings, T, knots, dim)
            values = residuals(space.to_blocks(candidates))
            elites = pick(candidates, total(values).argsort(1))
            knots, new_cost, there = _best(candidates, values)
            jacobian = _broyden(jacobian, (knots - best).flatten(1), there - here)
            better = new_cost < cost
            best = torch.where(better[:, None, None, None], knots, best)
            here = torch.where(better[:, None], there, here)
            cost = torch.where(better, new_cost, cost)
            finished += 1
        return Plan(space.to_blocks(best), cost, space.to_blocks(elites), finished)

    def _jacobian(self, residuals: Residuals, knots: Tensor, here: Tensor) -> Tensor:
        """The Jacobian (B, N, R), transposed, at knots (B, T, knots, dim) with residuals (B, R)."""
        sizes = self._differences(knots)
        probed = residuals(self.space.to_blocks(_probes(knots, sizes))).nan_to_num()
        return (probed - here.unsqueeze(1)) / sizes.unsqueeze(2)

    def _differences(self, knots: Tensor) -> Tensor:
        """By how much (B, N) to change each of the knots (B, T, knots, dim): towards the inside of the bounds."""
        return torch.where(knots + DIFFERENCE > self.space.high, -DIFFERENCE, DIFFERENCE).flatten(1)

    def _steps(self, knots: Tensor, here: Tensor, jacobian: Tensor) -> Tensor:
        """Where damped Gauss-Newton steps lead from knots (B, T, knots, dim)."""
        space = self.space
        x, low, high = knots.flatten(1), *(bound.expand_as(knots).flatten(1) for bound in (space.low, space.high))
        gradient = (jacobian @ here.unsqueeze(2)).squeeze(2)  # (B, N)
        held = ((x <= low) & (gradient > 0.0)) | ((x >= high) & (gradient < 0.0))
        jacobian = jacobian.masked_fill(held.unsqueeze(2), 0.0)
        gradient = gradient.masked_fill(held, 0.0)
        curvature = jacobian @ jacobian.transpose(1, 2)  # (B, N, N)
        scale = curvature.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-9)
        damping = (scale.unsqueeze(1) * self._dampings)[..., None, None] * torch.eye(x.shape[1], device=x.device)
        # `solve` looks at the result's validity, for which a CUDA graph cannot wait; damped, the matrix is regular.
        step, _ = torch.linalg.solve_ex(curvature.unsqueeze(1) + damping, -gradient[:, None, :, None])
        return space.clamp((x.unsqueeze(1) + step.squeeze(3)).unflatten(2, knots.shape[1:]))


def _best(candidates: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of candidates (B, S, T, knots, dim) with residuals (B, S, R) the best: knots, cost (B,) and residuals (B, R)."""
    cost, index = total(values).min(1)
    index = index.unsqueeze(1)
    return pick(candidates, index)[:, 0], cost, pick(values, index)[:, 0].nan_to_num()


def _probes(knots: Tensor, sizes: Tensor) -> Tensor:
    """Candidates (B, N, T, knots, dim) that differ from knots (B, T, knots, dim) by one of the sizes (B, N) each."""
    return knots.unsqueeze(1) + torch.diag_embed(sizes).unflatten(2, knots.shape[1:])


def _broyden(jacobian: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """The transposed Jacobian (B, N, R) closest to this one that explains what a step (B, N) changed (B, R)."""
    missing = change - (step.unsqueeze(1) @ jacobian).squeeze(1)
    return jacobian + (step / step.square().sum(1, keepdim=True).clamp_min(1e-12)).unsqueeze(2) * missing.unsqueeze(1)
