"""How often the planner is surprised without a cause, and how surely and soon by a scene that is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.environments import positions_of
from lewm_ros.environments.panda import Disturbance, PandaEnvironment
from lewm_ros.environments.panda.problem import PandaProblem
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.surprise import SurpriseWatch
from lewm_training.judge.evaluate import environment_for
from lewm_training.judge.machine import describe

TASK = "reach"
STEPS = 24
DISTURBED_STEP = 12
FIRST_JUDGED_STEP = 4
"""As by the planner node, which leaves out the second in which speed is ramped up."""
PUSH_N, PUSH_S = 300.0, 0.5
CROSSING_S = 2.0


def _shaken(time_s: float) -> Disturbance:
    sway_m = 0.03 * np.sin(2.0 * np.pi * time_s * np.array([0.0, 1.3, 1.7]))
    return Disturbance(camera_offset_m=tuple(sway_m))


def _crossed(time_s: float) -> Disturbance:
    return Disturbance(obstacle_position_m=(0.6, 0.5 - time_s / CROSSING_S, 0.2))


KINDS: dict[str, Callable[[float], Disturbance]] = {
    "camera off by 2 cm": lambda _: Disturbance(camera_offset_m=(0.0, 0.02, 0.0)),
    "camera off by 5 cm": lambda _: Disturbance(camera_offset_m=(0.0, 0.05, 0.0)),
    "camera off by 10 cm": lambda _: Disturbance(camera_offset_m=(0.0, 0.1, 0.0)),
    "camera off by 15 cm": lambda _: Disturbance(camera_offset_m=(0.0, 0.15, 0.0)),
    "camera turned by 5 degrees": lambda _: Disturbance(camera_turn_rad=(0.0, 0.0, np.deg2rad(5.0))),
    "camera drifts 10 cm in 2 s": lambda time_s: Disturbance(camera_offset_m=(0.0, 0.05 * min(time_s, 2.0), 0.0)),
    "camera shakes by 3 cm": _shaken,
    "half the light": lambda _: Disturbance(brightness=0.5),
    "a box appears": lambda _: Disturbance(obstacle_position_m=(0.6, 0.2, 0.06)),
    "a box crosses": _crossed,
    "arm pushed": lambda _: Disturbance(),
}
"""What is seen as a function of the time since the disturbance began, s."""


@dataclass
class WatchedRun:
    """One goal: the normalised surprise at each step but the first, and the step at which the arm touched anything."""

    scores: list[float]
    touched_step: int | None = None

    def alarm(self, threshold: float, steps: int, first: int = FIRST_JUDGED_STEP) -> int | None:
        """The first step, from `first` on, at which the surprise is a problem."""
        watch = SurpriseWatch(threshold, steps)
        for step, score in enumerate(self.scores[first - 1 :], first):
            watch.saw(score)
            if watch.problem:
                return step
        return None

    def undisturbed_steps(self) -> int:
        """How many steps are judged before the arm touches anything."""
        return max(0, (STEPS if self.touched_step is None else self.touched_step) - FIRST_JUDGED_STEP)


def bench_surprise(
    checkpoint: Checkpoint,
    config: PlannerConfig,
    goals: int,
    disturbed_goals: int,
    threshold: float,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """Close the loop without ROS, undisturbed and with each disturbance beginning half-way.

    Args:
        checkpoint: must say how errors are distributed.
        config: of the search.
        goals: reached for undisturbed.
        disturbed_goals: of these, reached for once more with every kind of disturbance.
        threshold: in standard deviations; the scores in the result allow to judge others.
        steps: so many above it in a row are an alarm.
        seed: of goals and search.

    Raises:
        ConfigError: the simulated arm does not have the checkpoint's cameras or actions.
    """
    loop = _Loop(checkpoint, config, seed)
    problems = list(islice(loop.environment.problems(seed), goals))
    with tqdm(total=goals + len(KINDS) * disturbed_goals, desc="surprise", unit="goal") as bar:
        runs: dict[str, list[WatchedRun]] = {"": []} | {kind: [] for kind in KINDS}
        for kind, done in runs.items():
            for problem in problems[: disturbed_goals if kind else goals]:
                done.append(loop.run(problem, kind))
                bar.update()
    loop.environment.close()
    undisturbed = runs.pop("")
    return {
        **describe(checkpoint.device),
        "checkpoint": checkpoint.identity,
        "seed": seed,
        "threshold": threshold,
        "steps": steps,
        "block_s": checkpoint.action_space.block_s,
        "first_judged_step": FIRST_JUDGED_STEP,
        "disturbed_step": DISTURBED_STEP,
        "undisturbed": _judge_undisturbed(undisturbed, threshold, steps, checkpoint.action_space.block_s),
        "disturbed": {kind: _judge_disturbed(done, threshold, steps) for kind, done in runs.items()},
        "scores": {"undisturbed": [run.scores for run in undisturbed]}
        | {kind: [run.scores for run in done] for kind, done in runs.items()},
    }


class _Loop:
    """Runs one goal after the other."""

    def __init__(self, checkpoint: Checkpoint, config: PlannerConfig, seed: int) -> None:
        self.environment: PandaEnvironment = environment_for(checkpoint, TASK)
        self._checkpoint = checkpoint
        self._planner = RecedingHorizonPlanner(checkpoint, config, seed)

    def run(self, problem: PandaProblem, kind: str = "") -> WatchedRun:
        """Reach for a goal; `kind` is one of KINDS, or empty."""
        environment, checkpoint, planner = self.environment, self._checkpoint, self._planner
        arm, block_s = environment.arm, checkpoint.action_space.block_s
        arm.disturbance = Disturbance()
        environment.reset(problem)
        goal = checkpoint.encode_goal(environment.goals()[-1])
        planner.reset()
        run = WatchedRun([])
        for step in range(STEPS):
            time_s = (step - DISTURBED_STEP) * block_s
            if kind and time_s >= 0.0:
                arm.disturbance = KINDS[kind](time_s)
                arm.data.body("hand").xfrc_applied[1] = PUSH_N if kind == "arm pushed" and time_s < PUSH_S else 0.0
            observation = environment.observe()
            now_ns = step * checkpoint.action_space.action_block * planner.control_ns
            planner.observe(now_ns, checkpoint.encode(observation))
            surprise = planner.prediction_error(now_ns)
            if surprise is not None:
                run.scores.append(checkpoint.error.surprise(surprise.error, surprise.change))
            planner.adopt(planner.decide(now_ns, goal, positions_of(environment, observation)))
            for action in planner.timeline.read(now_ns, checkpoint.action_space.action_block):
                environment.step(action)
                if arm.data.ncon and run.touched_step is None:
                    run.touched_step = step
        return run


def _judge_undisturbed(runs: list[WatchedRun], threshold: float, steps: int, block_s: float) -> dict[str, Any]:
    """An alarm after the arm has touched something by itself counts apart: it is a surprise with a cause."""
    alarms = [(run, run.alarm(threshold, steps)) for run in runs]
    false = sum(step is not None and (run.touched_step is None or step <= run.touched_step) for run, step in alarms)
    scores = [s for run in runs for s in run.scores[FIRST_JUDGED_STEP - 1 :][: run.undisturbed_steps()]]
    minutes = len(scores) * block_s / 60.0
    return {
        "goals": len(runs),
        "minutes": minutes,
        "false_alarms": false,
        "false_alarms_per_hour": 60.0 * false / minutes,
        "goals_at_which_the_arm_touched_something": sum(run.touched_step is not None for run in runs),
        "alarms_after_that": sum(step is not None for _, step in alarms) - false,
        "score_p50": float(np.quantile(scores, 0.5)),
        "score_p99": float(np.quantile(scores, 0.99)),
        "score_max": float(np.max(scores)),
    }


def _judge_disturbed(runs: list[WatchedRun], threshold: float, steps: int) -> dict[str, Any]:
    alarms = [run.alarm(threshold, steps, DISTURBED_STEP) for run in runs]
    delays = [step - DISTURBED_STEP for step in alarms if step is not None]
    return {
        "goals": len(runs),
        "seen": len(delays),
        "delay_steps_median": float(np.median(delays)) if delays else None,
        "largest_score_median": float(np.median([max(run.scores[DISTURBED_STEP - 1 :]) for run in runs])),
    }
