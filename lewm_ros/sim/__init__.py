"""A simulated Panda on a table, its cameras and its tasks."""

from lewm_ros.sim.actions import apply_action
from lewm_ros.sim.arm import SimArm
from lewm_ros.sim.disturbance import Disturbance
from lewm_ros.sim.problem import draw_problems
from lewm_ros.sim.tasks import TASKS, Problem, Task, make_task

__all__ = ["TASKS", "Disturbance", "Problem", "SimArm", "Task", "apply_action", "draw_problems", "make_task"]
