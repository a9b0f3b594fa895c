"""The solvers by name, and the configuration of a search with any of them."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.config import setting
from lewm_ros.planning.costs import CostSettings
from lewm_ros.planning.gauss_newton import GaussNewton
from lewm_ros.planning.gradient import Gradient, GradientSettings
from lewm_ros.planning.homing import HomingSettings
from lewm_ros.planning.sampling import CEM, ICEM, MPPI, ICEMSettings, MPPISettings, RandomShooting
from lewm_ros.planning.solver import SearchSpace, Solver

SOLVERS = {
    "cem": CEM,
    "icem": ICEM,
    "mppi": MPPI,
    "gradient": Gradient,
    "gauss_newton": GaussNewton,
    "random": RandomShooting,
}


@dataclass(frozen=True)
class PlannerConfig(CostSettings, HomingSettings, GradientSettings, MPPISettings, ICEMSettings):
    """The search in latent space. One plan covers `horizon` blocks beyond the one that is being executed.

    It holds the settings of the cost and of every solver, of which those of `solver` count. Every solver works in
    `iterations`, keeps to the action bounds, and never returns anything worse than what it started from.
    """

    solver: str = setting("cem", "of the search; cem is the paper's", choices=tuple(SOLVERS))
    precision: str = setting("bf16", "of the rollouts", choices=("bf16", "fp32"))
    deadline_ms: float = setting(
        60_000.0, "after which the search ends with the best plan so far", "ms", 0.001, 600_000.0
    )


def make_solver(config: PlannerConfig, space: SearchSpace) -> Solver:
    """The solver that a configuration names."""
    return SOLVERS[config.solver](config, space)
