"""Search for actions in latent space."""

from lewm_ros.planning.cem import CEM, Plan
from lewm_ros.planning.planner import RecedingHorizonPlanner

__all__ = ["CEM", "Plan", "RecedingHorizonPlanner"]
