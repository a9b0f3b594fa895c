"""A simulated Panda on a table, its cameras and its tasks."""

from lewm_ros.environments.panda.arm import SimArm
from lewm_ros.environments.panda.disturbance import Disturbance
from lewm_ros.environments.panda.environment import PandaEnvironment

__all__ = ["Disturbance", "PandaEnvironment", "SimArm"]
