"""Search for actions in latent space."""

from lewm_ros.planning.planner import Decision, RecedingHorizonPlanner

__all__ = ["Decision", "RecedingHorizonPlanner"]
