"""Search by gradient: Adam through the model, from several starts at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lewm_ros.config import setting
from lewm_ros.planning.sampling import SamplingSettings
from lewm_ros.planning.solver import Best, Deadline, Plan, Residuals, SearchSpace, pick


@dataclass(frozen=True)
class GradientSettings(SamplingSettings):
    """Of `gradient`."""

    gradient_step: float = setting(0.1, "of the gradient solver's Adam", "z-scored actions", 1e-6, 1e6)


class Gradient:
    """Projected gradient descent on `samples` candidates: the starts themselves, then noisy copies of the best one."""

    def __init__(self, config: GradientSettings, space: SearchSpace) -> None:
        self.config, self.space = config, space

    def solve(self, residuals: Residuals, starts: Tensor, generator: torch.Generator, deadline: Deadline) -> Plan:
        """See `Solver`."""
        config, space = self.config, self.space
        candidates = space.clamp(space.to_knots(starts))  # (B, P, T, knots, dim)
        best = Best(candidates[:, 0], torch.full((len(starts),), float("inf"), device=starts.device))
        elites = candidates[:, :1]
        if deadline.allows_step():
            best = Best.of(candidates, space.score(residuals, candidates))
            candidates = self._spread(candidates, best.knots, generator)
        with torch.enable_grad():
            knots = candidates.clone().requires_grad_()
            optimizer = torch.optim.Adam([knots], lr=config.gradient_step)
            finished = 0
            while finished < config.iterations and deadline.allows_step():
                costs = space.score(residuals, knots)
                with torch.no_grad():
                    best = best.better_of(Best.of(knots, costs))
                    elites = pick(knots, costs.topk(min(config.elites, costs.shape[1]), largest=False).indices)
                (gradient,) = torch.autograd.grad(torch.where(costs.isfinite(), costs, 0.0).sum(), knots)
                knots.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
                optimizer.step()
                with torch.no_grad():
                    knots.copy_(space.clamp(knots))
                finished += 1
        if finished:
            with torch.no_grad():
                best = best.better_of(Best.of(knots, space.score(residuals, knots)))
        return Plan(space.to_blocks(best.knots), best.cost, space.to_blocks(elites), finished)

    def _spread(self, starts: Tensor, best: Tensor, generator: torch.Generator) -> Tensor:
        missing = max(0, self.config.samples - starts.shape[1])
        shape = (len(best), missing, *best.shape[1:])
        noise = torch.randn(shape, generator=generator, device=best.device)
        return torch.cat([starts, self.space.clamp(best.unsqueeze(1) + self.config.initial_std * noise)], dim=1)
