"""The solvers by name."""

from __future__ import annotations

from lewm_ros.config import PlannerConfig
from lewm_ros.planning.gauss_newton import GaussNewton
from lewm_ros.planning.gradient import Gradient
from lewm_ros.planning.sampling import CEM, ICEM, MPPI, RandomShooting
from lewm_ros.planning.solver import SearchSpace, Solver

SOLVERS = {
    "cem": CEM,
    "icem": ICEM,
    "mppi": MPPI,
    "gradient": Gradient,
    "gauss_newton": GaussNewton,
    "random": RandomShooting,
}


def make_solver(config: PlannerConfig, space: SearchSpace) -> Solver:
    """The solver that a configuration names."""
    return SOLVERS[config.solver](config, space)
