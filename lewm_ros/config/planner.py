"""How plans are searched."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.config.mapping import require, require_numbers

SOLVERS = ("cem", "icem", "mppi", "gradient", "gauss_newton", "random")


@dataclass(frozen=True)
class PlannerConfig:
    """The search in latent space. One plan covers `horizon` blocks beyond the one that is being executed.

    `solver` is cem (as in the paper), icem, mppi, gradient, gauss_newton or random. Every one works in `iterations`,
    those that sample with `samples` candidates in each, keeps to the action bounds, and never returns anything worse
    than what it started from. Of a block, `knots_per_block` actions are free, each held for its share of the block's
    control steps. `initial_std` and `minimum_std` are in z-scored actions.

    The cost adds up weighted terms. `latent_weight`, `map_weight` (the proposal's map) and `gap_weight` (the learned
    number of blocks to the goal) are distances to the goal at the last step, plus `running_weight` times their mean
    over all steps: a loop that replans at every block needs some of the latter, since with the last step alone arriving
    can be put off from plan to plan. `smoothness_weight` is on the squared change between successive actions, and
    `limit_weight` on coming closer than `limit_margin_rad` to the edge of the joint positions known from training.

    A search ends early once the elites' std falls below `agreement_std`, and after `deadline_ms` at the latest.
    """

    solver: str = "cem"
    horizon: int = 5
    samples: int = 300
    iterations: int = 10
    elites: int = 30
    initial_std: float = 1.0
    minimum_std: float = 0.05
    knots_per_block: int = 5
    precision: str = "bf16"
    latent_weight: float = 1.0
    running_weight: float = 0.0
    map_weight: float = 0.0
    gap_weight: float = 0.0
    smoothness_weight: float = 0.0
    limit_weight: float = 0.0
    limit_margin_rad: float = 0.1
    agreement_std: float = 0.0
    deadline_ms: float = 60_000.0
    icem_noise_exponent: float = 2.0
    icem_kept_fraction: float = 0.3
    icem_population_decay: float = 1.25
    icem_momentum: float = 0.1
    mppi_temperature: float = 0.1
    gradient_step: float = 0.1

    def __post_init__(self) -> None:
        require_numbers(self)
        require(self.solver in SOLVERS, "solver", f"one of {', '.join(SOLVERS)}")
        require(self.elites <= self.samples, "elites", f"between 1 and samples {self.samples}")
        for key in ("initial_std", "limit_margin_rad", "deadline_ms", "mppi_temperature", "gradient_step"):
            require(getattr(self, key) > 0.0, key, "above 0")
        weights = ("latent", "running", "map", "gap", "smoothness", "limit")
        for key in ("minimum_std", "agreement_std", "icem_noise_exponent", *(f"{name}_weight" for name in weights)):
            require(getattr(self, key) >= 0.0, key, "at least 0")
        require(0.0 <= self.icem_kept_fraction <= 1.0, "icem_kept_fraction", "in [0, 1]")
        require(self.icem_population_decay >= 1.0, "icem_population_decay", "at least 1")
        require(0.0 <= self.icem_momentum < 1.0, "icem_momentum", "in [0, 1)")
        require(self.precision in ("bf16", "fp32"), "precision", "bf16 or fp32")
