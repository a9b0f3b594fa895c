"""Solvers that sample: the cross-entropy method, iCEM, MPPI, and random shooting as the floor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lewm_ros.config import ConfigError, setting
from lewm_ros.planning.solver import Best, Deadline, Plan, Residuals, SearchSettings, SearchSpace, pick


@dataclass(frozen=True)
class SamplingSettings(SearchSettings):
    """Of every solver that samples."""

    samples: int = setting(300, "candidates in each iteration", "plans", 1, 100_000)
    elites: int = setting(30, "best candidates, which the next iteration is drawn from", "plans", 1, 100_000)
    initial_std: float = setting(1.0, "of the first candidates", "z-scored actions", 0.001, 100.0)
    minimum_std: float = setting(0.05, "of the later candidates", "z-scored actions", 0.0, 100.0)
    agreement_std: float = setting(
        0.0, "of the elites, below which the search ends; 0: never", "z-scored actions", 0.0, 100.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.elites > self.samples:
            raise ConfigError(f"elites: must be at most samples, {self.samples}, got {self.elites}")


@dataclass(frozen=True)
class ICEMSettings(SamplingSettings):
    """Of `icem`."""

    icem_noise_exponent: float = setting(2.0, "colour of icem's noise; 0: white", "", 0.0, 10.0)
    icem_kept_fraction: float = setting(0.3, "of icem's elites that the next iteration keeps", "", 0.0, 1.0)
    icem_population_decay: float = setting(
        1.25, "factor by which icem's candidates get fewer per iteration", "", 1.0, 100.0
    )
    icem_momentum: float = setting(0.1, "of icem's mean and std", "", 0.0, 0.999)


@dataclass(frozen=True)
class MPPISettings(SamplingSettings):
    """Of `mppi`."""

    mppi_temperature: float = setting(0.1, "of mppi's weights, in standard deviations of the cost", "", 1e-6, 1e6)


class RandomShooting:
    """Sample, clamp, score, keep the best. The other sampling solvers refit the distribution in between.

    In shapes, L is the number of free knots of a plan, horizon x knots_per_block.
    """

    def __init__(self, config: SamplingSettings, space: SearchSpace) -> None:
        self.config, self.space = config, space

    def solve(self, residuals: Residuals, starts: Tensor, generator: torch.Generator, deadline: Deadline) -> Plan:
        """See `Solver`. The first candidate of every iteration is the mean itself."""
        config, space = self.config, self.space
        candidates = space.clamp(space.to_knots(starts))  # (B, P, T, knots, dim)
        if not deadline.allows_step():
            unscored = torch.full((len(starts),), float("inf"), device=starts.device)
            return Plan(space.to_blocks(candidates[:, 0]), unscored, starts[:, :1], 0)
        best = Best.of(candidates, space.score(residuals, candidates))
        mean, std = best.knots, torch.full_like(best.knots, config.initial_std)
        elites = best.knots.unsqueeze(1)
        finished = 0
        while finished < config.iterations and deadline.allows_step():
            noise = self.noise(self.population(finished), mean, generator)
            noise[:, 0].zero_()
            candidates = space.clamp(mean.unsqueeze(1) + std.unsqueeze(1) * noise)  # (B, S, T, knots, dim)
            candidates = self.carry(candidates, elites)
            costs = space.score(residuals, candidates)
            elites = pick(candidates, costs.topk(config.elites, largest=False).indices)  # (B, K, T, knots, dim)
            best = best.better_of(Best.of(candidates, costs))
            mean, std = self.refit(mean, std, candidates, costs, elites)
            finished += 1
            if config.agreement_std > 0.0 and bool((std.mean((1, 2, 3)) < config.agreement_std).all()):
                break
        return Plan(space.to_blocks(best.knots), best.cost, space.to_blocks(elites), finished)

    def population(self, iteration: int) -> int:
        """How many candidates S to sample."""
        return self.config.samples

    def noise(self, samples: int, mean: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal noise (B, S, T, knots, dim) for means (B, T, knots, dim)."""
        shape = (len(mean), samples, *mean.shape[1:])
        return torch.randn(shape, generator=generator, device=mean.device)

    def carry(self, candidates: Tensor, elites: Tensor) -> Tensor:
        """The candidates, with what should stay of the last iteration's elites."""
        return candidates

    def refit(
        self, mean: Tensor, std: Tensor, candidates: Tensor, costs: Tensor, elites: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next mean and std (B, T, knots, dim)."""
        return mean, std


class CEM(RandomShooting):
    """The cross-entropy method (Rubinstein, 1999; as used by LeWM): refit to the elites."""

    def refit(
        self, mean: Tensor, std: Tensor, candidates: Tensor, costs: Tensor, elites: Tensor
    ) -> tuple[Tensor, Tensor]:
        return elites.mean(1), elites.std(1, correction=0).clamp_min(self.config.minimum_std)


class ICEM(CEM):
    """iCEM (Pinneri et al., CoRL 2020): coloured noise, kept elites, shrinking population, momentum."""

    config: ICEMSettings

    def __init__(self, config: ICEMSettings, space: SearchSpace) -> None:
        super().__init__(config, space)
        length = config.horizon * config.knots_per_block
        self._colour = coloured(length, config.icem_noise_exponent).to(space.low.device)

    def population(self, iteration: int) -> int:
        shrunk = self.config.samples / self.config.icem_population_decay**iteration
        return min(self.config.samples, max(2 * self.config.elites, round(shrunk)))

    def noise(self, samples: int, mean: Tensor, generator: torch.Generator) -> Tensor:
        white = super().noise(samples, mean, generator).flatten(2, 3)  # (B, S, L, dim)
        return torch.einsum("lk,bskj->bslj", self._colour, white).unflatten(2, mean.shape[1:3])

    def carry(self, candidates: Tensor, elites: Tensor) -> Tensor:
        kept = min(round(self.config.icem_kept_fraction * self.config.elites), elites.shape[1], candidates.shape[1] - 1)
        return torch.cat([candidates[:, : candidates.shape[1] - kept], elites[:, :kept]], dim=1)

    def refit(
        self, mean: Tensor, std: Tensor, candidates: Tensor, costs: Tensor, elites: Tensor
    ) -> tuple[Tensor, Tensor]:
        new_mean, new_std = super().refit(mean, std, candidates, costs, elites)
        return new_mean.lerp(mean, self.config.icem_momentum), new_std.lerp(std, self.config.icem_momentum)


class MPPI(RandomShooting):
    """Model predictive path integral control (Williams et al., 2017): the mean weighted by exp(-cost / temperature).

    The temperature is a share of the spread of each iteration's costs, so that it does not depend on their scale.
    """

    config: MPPISettings

    def refit(
        self, mean: Tensor, std: Tensor, candidates: Tensor, costs: Tensor, elites: Tensor
    ) -> tuple[Tensor, Tensor]:
        finite = costs.isfinite()
        worst = torch.where(finite, costs, -float("inf")).amax(1, keepdim=True)
        costs = torch.where(finite, costs, worst)
        excess = costs - costs.amin(1, keepdim=True)
        spread = excess.std(1, keepdim=True).nan_to_num().clamp_min(1e-12)
        weights = torch.softmax(-excess.nan_to_num() / (self.config.mppi_temperature * spread), dim=1)
        return torch.einsum("bs,bstkj->btkj", weights, candidates), std


def coloured(length: int, exponent: float) -> Tensor:
    """The matrix (L, L) that turns white noise into noise of power spectrum f^-exponent and unit variance."""
    frequencies = torch.fft.rfftfreq(length)
    frequencies[0] = frequencies[1] if length > 1 else 1.0
    scale = frequencies ** (-exponent / 2.0)
    matrix = torch.fft.irfft(torch.fft.rfft(torch.eye(length), dim=0) * scale.unsqueeze(1), n=length, dim=0)
    return matrix / matrix.norm(dim=1, keepdim=True)
