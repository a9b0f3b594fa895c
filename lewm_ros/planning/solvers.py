"""The solvers by name, and the configuration of a search with any of them."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.config import setting
from lewm_ros.planning.costs import CostSettings
from lewm_ros.planning.escape import EscapeSettings
from lewm_ros.planning.gauss_newton import GaussNewton
from lewm_ros.planning.goal_sequence import GoalSettings
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


AUTO, SEARCH, POLICY, POLICY_AND_SEARCH = "auto", "search", "policy", "policy_and_search"


@dataclass(frozen=True)
class ActorSettings:
    """Who decides what to do."""

    actor: str = setting(
        AUTO,
        "who decides: the search, the checkpoint's policy, or the search beginning with what the policy would do; "
        "auto: the policy if the checkpoint has one",
        choices=(AUTO, SEARCH, POLICY, POLICY_AND_SEARCH),
    )
    pace_steps: float = setting(
        5.0, "in so many control steps a policy that is paced is to be at the goal", "control steps", 1.0, 1_000.0
    )
    policy_samples: int = setting(8, "plans drawn from the policy with which policy_and_search begins", "", 1, 10_000)


@dataclass(frozen=True)
class PlannerConfig(
    ActorSettings,
    EscapeSettings,
    CostSettings,
    GoalSettings,
    HomingSettings,
    GradientSettings,
    MPPISettings,
    ICEMSettings,
):
    """The search in latent space. One plan covers `horizon` blocks beyond the one that is being executed.

    It holds the settings of the cost and of every solver, of which those of `solver` count. Every solver works in
    `iterations`, keeps to the action bounds, and never returns anything worse than what it started from.
    """

    solver: str = setting("cem", "of the search; cem is the paper's", choices=tuple(SOLVERS))
    precision: str = setting("bf16", "of the rollouts", choices=("bf16", "fp32"))
    compile: bool = setting(False, "compile the rollouts; on the CPU it takes a C++ compiler, and a minute at first")
    deadline_ms: float = setting(
        60_000.0, "after which the search ends with the best plan so far", "ms", 0.001, 600_000.0
    )


def actor_of(config: PlannerConfig, has_policy: bool) -> str:
    """Who decides, SEARCH, POLICY or POLICY_AND_SEARCH, with a checkpoint that has a policy or none.

    Raises:
        ValueError: a policy is asked for, and there is none.
    """
    if config.actor == AUTO:
        return POLICY if has_policy else SEARCH
    if config.actor != SEARCH and not has_policy:
        raise ValueError(
            f"actor: {config.actor} needs a checkpoint with a policy; teach it one with `lewm train-policy`, "
            f"or set actor: {SEARCH}"
        )
    return config.actor


def make_solver(config: PlannerConfig, space: SearchSpace) -> Solver:
    """The solver that a configuration names."""
    return SOLVERS[config.solver](config, space)
