"""Search by least squares: Levenberg-Marquardt on the residuals, with finite differences through the model.

A plan has few free knots and a rollout of one candidate more costs next to nothing, so the whole Jacobian is one batch
of candidates that differ in one knot each. Near a goal this converges in a few batches where sampling needs dozens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lewm_ros.planning.solver import Best, Deadline, Plan, Residuals, SearchSettings, SearchSpace, pick

DIFFERENCE = 0.05
"""Size of the finite differences, in z-scored actions: above the rounding of fp32 rollouts, below their curvature."""

DAMPINGS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Tried side by side in every iteration, relative to the mean curvature; the best one counts."""


class GaussNewton:
    """Levenberg-Marquardt (Marquardt, 1963) from the best start; a knot at a bound moves only inwards.

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
        best = Best.of(candidates, space.score(residuals, candidates))
        elites = best.knots.unsqueeze(1)
        finished = 0
        while finished < self.config.iterations and deadline.allows_step():
            candidates = self._steps(residuals, best.knots)  # (B, dampings, T, knots, dim)
            costs = space.score(residuals, candidates)
            elites = pick(candidates, costs.argsort(1))
            best = best.better_of(Best.of(candidates, costs))
            finished += 1
        return Plan(space.to_blocks(best.knots), best.cost, space.to_blocks(elites), finished)

    def _steps(self, residuals: Residuals, knots: Tensor) -> Tensor:
        """Where damped Gauss-Newton steps lead from knots (B, T, knots, dim)."""
        space = self.space
        x, low, high = knots.flatten(1), *(bound.expand_as(knots).flatten(1) for bound in (space.low, space.high))
        size = torch.where(x + DIFFERENCE > high, -DIFFERENCE, DIFFERENCE)  # (B, N), towards the inside
        probes = torch.cat([x.unsqueeze(1), x.unsqueeze(1) + torch.diag_embed(size)], dim=1)  # (B, 1 + N, N)
        values = residuals(space.to_blocks(probes.unflatten(2, knots.shape[1:]))).nan_to_num()  # (B, 1 + N, R)
        here = values[:, 0]
        jacobian = (values[:, 1:] - values[:, :1]) / size.unsqueeze(2)  # (B, N, R), transposed
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
