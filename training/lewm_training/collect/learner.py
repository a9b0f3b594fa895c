"""Episodes that begin where a policy has led: demonstrations of the way out of what it gets into.

What a policy does makes states that no demonstration passed, and there it is not taught what to do (DAgger, arXiv
1011.0686). So it acts first, unrecorded, and a demonstrator goes on from there.
"""

from __future__ import annotations

import numpy as np

from lewm_ros.config import ConfigError
from lewm_ros.environments import Environment
from lewm_ros.environments.environment import check_observation
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.solvers import POLICY

LED_STEPS = (10, 100)
"""For so many control steps, drawn for every episode, the policy acts."""

DELAY_STEPS = 2
"""So late what it decides comes into force, as when it is evaluated."""


class Learner:
    """A checkpoint's policy that acts in an environment, as far as needed.

    Args:
        path: of the checkpoint, or its name.
        environment: it acts in.

    Raises:
        ConfigError: the checkpoint has no policy, or sees or acts otherwise than the environment.
    """

    def __init__(self, path: str, environment: Environment) -> None:
        self._checkpoint, self._environment = load_checkpoint(path), environment
        name, task = f"checkpoint '{self._checkpoint.name}'", f"task '{environment.name}'"
        if self._checkpoint.policy is None:
            raise ConfigError(f"{name} has no policy that could lead; `lewm train-policy` teaches one")
        self._checkpoint.inputs.sources(environment.cameras, task)
        self._checkpoint.action_space.require_same_actions(environment.action_space, name, task)
        self._planner = RecedingHorizonPlanner(self._checkpoint, PlannerConfig(actor=POLICY, horizon=1))

    def lead(self, rng: np.random.Generator) -> int:
        """Act towards the environment's goal for a number of control steps that is drawn; returns it."""
        planner, environment, steps = self._planner, self._environment, int(rng.integers(*LED_STEPS))
        planner.reset()
        goal = self._checkpoint.encode_goal(environment.goals()[-1])
        for now_ns in range(0, steps * planner.control_ns, planner.control_ns):
            planner.observe(now_ns, self._checkpoint.encode(check_observation(environment, environment.observe())))
            planner.adopt(planner.decide(now_ns, goal, free_ns=now_ns + DELAY_STEPS * planner.control_ns))
            environment.step(planner.timeline.read(now_ns, 1)[0])
        return steps
