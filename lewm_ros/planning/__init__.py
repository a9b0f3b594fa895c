"""Search for actions in latent space."""

from lewm_ros.planning.planner import Decision, RecedingHorizonPlanner
from lewm_ros.planning.solvers import SOLVERS, PlannerConfig

__all__ = ["SOLVERS", "Decision", "PlannerConfig", "RecedingHorizonPlanner"]
