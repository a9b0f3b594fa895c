"""Closed-loop evaluation: problems solved, how close, how fast, and what a random policy would have done."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.config import ConfigError
from lewm_ros.environments import Environment, Problem, Score, make_environment, positions_of
from lewm_ros.environments.environment import Array, Behaviour, check_observation, check_score
from lewm_ros.environments.panda.tasks import TASKS
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.robot.action_space import ActionSpace
from lewm_training.data import EpisodeDataset
from lewm_training.judge.subgoals import SubgoalFinder, sequence_for

SURPRISE_THRESHOLD, SETTLED_STEPS = 5.0, 10
"""As shipped for planner_node, in standard deviations; and the first steps, in which nothing surprises."""


@dataclass
class Outcome:
    """What became of one problem: `final` and, on the way, `closest`; None where nothing was tried without a plan.

    `steps` were taken. `largest_surprise` is in standard deviations above what validation data let expect; None where
    none was judged.
    """

    start: Score
    final: Score | None = None
    closest: float | None = None
    steps: int = 0
    plan_latency_s: list[float] = field(default_factory=list)
    cost_variation: float | None = None
    largest_surprise: float | None = None

    @property
    def solved(self) -> bool:
        """Whether it counts as solved at the end."""
        return self.final is not None and self.final.success


@dataclass(frozen=True)
class Timing:
    """When the direct loop plans.

    Args:
        replan_steps: control steps from plan to plan.
        delay_steps: control steps from a frame until its plan is in force, as in the loop over ROS.
    """

    replan_steps: int = 1
    delay_steps: int = 2


def environment_for(checkpoint: Checkpoint, task: str, interference: str = "") -> Environment:
    """The environment of a task with the checkpoint's cameras, image size, action space and rate.

    Args:
        checkpoint: which is to act in it.
        task: name of an environment.
        interference: what comes between; empty: nothing. Only tasks of the simulated arm have some.

    Raises:
        ConfigError: the task has no such cameras or interference, or acts otherwise than the checkpoint.
    """
    options = {"interference": interference} if interference else {}
    if interference and task not in TASKS:
        raise ConfigError(f"interference '{interference}': only for {', '.join(TASKS)}, not for task '{task}'")
    inputs, space = checkpoint.inputs, checkpoint.action_space
    environment = make_environment(
        task,
        cameras=tuple(camera.name for camera in inputs.cameras),
        image_size=inputs.recorded_size,
        control_hz=space.control_hz,
        action_space=space.name,
        **options,
    )
    inputs.sources(environment.cameras, f"task '{task}'")
    space.require_same_actions(environment.action_space, f"checkpoint '{checkpoint.name}'", f"task '{task}'")
    return environment


def evaluate_direct(
    checkpoint: Checkpoint,
    task: str,
    episodes: int,
    seed: int,
    config: PlannerConfig,
    timing: Timing | None = None,
    interference: str = "",
    demonstrations: EpisodeDataset | None = None,
    compared: bool = True,
) -> dict[str, Any]:
    """Close the loop without ROS: the same planner, in an environment that waits for it.

    Args:
        checkpoint: the model to evaluate, on the device where it should run.
        task: name of an environment.
        episodes: problems to try. They come from a stream of their own, which no training episode draws from, and none
            is solved at its start.
        seed: of the problems and of the planner's sampling.
        config: of the search.
        timing: when plans are made, and how late they come into force.
        interference: what comes between; see `environment_for`.
        demonstrations: where goals on the way are found; None: the problem's own goals are the only ones.
        compared: whether to tell also what others make of the same problems, see `compare`.

    Returns:
        the report that `lewm eval` writes.
    """
    timing = timing or Timing()
    environment = environment_for(checkpoint, task, interference)
    planner = RecedingHorizonPlanner(checkpoint, config, seed)
    finder = SubgoalFinder(checkpoint, demonstrations) if demonstrations else None
    outcomes: list[Outcome] = []
    others: list[Compared] = []
    try:
        problems = islice(environment.problems(seed), episodes)
        for number, problem in enumerate(bar := tqdm(problems, desc=f"evaluate {task}", unit="goal", total=episodes)):
            outcomes.append(pursue(checkpoint, planner, environment, problem, timing, finder))
            if compared:
                others.append(_compare(environment, problem, seed, number))
            bar.set_postfix(solved=sum(outcome.solved for outcome in outcomes))
    finally:
        environment.close()
    control_hz = checkpoint.action_space.control_hz
    delay_s = timing.delay_steps / control_hz
    return summarise(environment, outcomes, others) | {
        "control_hz": control_hz,
        "plans_slower_than_delay": sum(spent > delay_s for outcome in outcomes for spent in outcome.plan_latency_s),
        "cycles": sum(outcome.steps for outcome in outcomes),
        "cost_variation": quantile([o.cost_variation for o in outcomes if o.cost_variation is not None], 0.5),
        "actor": planner.actor,
        "interference": interference,
        "subgoals": finder is not None,
        **asdict(timing),
        "checkpoint": checkpoint.identity,
        "seed": seed,
        "transport": "direct",
    }


@dataclass(frozen=True)
class Compared:
    """What others make of a problem, in as many steps as the planner gets; no expert where none is known."""

    random: Outcome
    nothing: Outcome
    expert: Outcome | None


def compare(environment: Environment, episodes: int, seed: int) -> list[Compared]:
    """What the random behaviour, doing nothing, and the environment's expert make of the same problems."""
    problems = islice(environment.problems(seed), episodes)
    return [_compare(environment, problem, seed, number) for number, problem in enumerate(problems)]


def summarise(environment: Environment, outcomes: Sequence[Outcome], others: Sequence[Compared]) -> dict[str, Any]:
    """The figures that every transport reports."""
    solved = sum(outcome.solved for outcome in outcomes)
    floor, experts = [other.random for other in others], [other.expert for other in others if other.expert]
    latencies = [latency for outcome in outcomes for latency in outcome.plan_latency_s]
    unit = outcomes[0].start.unit
    surprises = [outcome.largest_surprise for outcome in outcomes if outcome.largest_surprise is not None]
    finals = [outcome.final.value for outcome in outcomes if outcome.final is not None]
    return {
        "task": environment.name,
        "episodes": len(outcomes),
        "successes": solved,
        "success_rate": solved / len(outcomes),
        "ci95": wilson_interval(solved, len(outcomes)),
        "stages": _count_stages(outcomes),
        "random_success_rate": _rate(floor),
        "do_nothing_success_rate": _rate([other.nothing for other in others]),
        "expert_success_rate": _rate(experts),
        "cost": quantiles([outcome.final.cost for outcome in outcomes if outcome.final is not None]),
        "without_plan": len(outcomes) - len(finals),
        "unit": unit,
        f"start_distance_{unit}": quantiles([outcome.start.value for outcome in outcomes]),
        f"final_distance_{unit}": quantiles(finals),
        f"random_final_distance_{unit}": quantiles([o.final.value for o in floor if o.final is not None]),
        "plan_latency_s": {f"p{round(100 * q)}": quantile(latencies, q) for q in (0.5, 0.95)},
        "plan_rate_hz": len(latencies) / sum(latencies) if latencies else 0.0,
        f"lost_{unit}": quantiles([o.final.value - o.closest for o in outcomes if o.final and o.closest is not None]),
        "surprised_episodes": sum(surprise > SURPRISE_THRESHOLD for surprise in surprises),
        "largest_surprise": quantiles(surprises),
        "by_episode": [_figures(outcome) for outcome in outcomes],
    }


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a success rate (Wilson, 1927)."""
    rate = successes / trials
    centre = rate + z**2 / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def quantile(values: Sequence[float], q: float) -> float | None:
    """None without values."""
    return float(np.quantile(values, q)) if values else None


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Median, mean, 95th percentile and largest of the values; None each without any."""
    return {
        "median": quantile(values, 0.5),
        "mean": float(np.mean(values)) if values else None,
        "p95": quantile(values, 0.95),
        "max": quantile(values, 1.0),
    }


def pursue(
    checkpoint: Checkpoint,
    planner: RecedingHorizonPlanner,
    environment: Environment,
    problem: Problem,
    timing: Timing,
    finder: SubgoalFinder | None = None,
    watch: Callable[[], bool] | None = None,
) -> Outcome:
    """Plan and act until the budget is used up, or until `watch`, asked after every step, says that it is over."""
    environment.reset(problem)
    planner.reset()
    goals = sequence_for(checkpoint, planner, environment, finder)
    start = check_score(environment, environment.score())
    outcome, closest, control_ns = Outcome(start), start.value, planner.control_ns
    # The model looks back in blocks: where plans come in whole blocks too, no frame between them is needed.
    every_frame = timing.replan_steps % planner.action_space.action_block != 0
    for step in range(environment.budget_steps):
        now_ns, plans = step * control_ns, step % timing.replan_steps == 0
        if plans or every_frame:
            started_s = time.perf_counter()
            observation = check_observation(environment, environment.observe())
            planner.observe(now_ns, checkpoint.encode(observation))
            if plans:
                free_ns, goal = now_ns + timing.delay_steps * control_ns, planner.pursue(now_ns, goals)
                planner.adopt(planner.decide(now_ns, goal, positions_of(environment, observation), free_ns))
                outcome.plan_latency_s.append(time.perf_counter() - started_s)
                if step == 0:
                    outcome.cost_variation = planner.cost_variation(now_ns, goal)
            error = planner.prediction_error(now_ns) if checkpoint.error and step >= SETTLED_STEPS else None
            if error is not None:
                surprise = checkpoint.error.surprise(*error)
                outcome.largest_surprise = max(surprise, outcome.largest_surprise or surprise)
        environment.step(planner.timeline.read(now_ns, 1)[0])
        score = check_score(environment, environment.score())
        closest, outcome.steps = min(closest, score.value), step + 1
        if score.over or (watch is not None and watch()):
            break
    outcome.final, outcome.closest = score, closest
    return outcome


def _figures(outcome: Outcome) -> dict[str, Any]:
    """Of one problem."""
    figures = {"start": outcome.start.value, "final": outcome.final and outcome.final.value}
    figures |= {
        "cost": outcome.final and outcome.final.cost,
        "closest": outcome.closest,
        "largest_surprise": outcome.largest_surprise,
    }
    rounded = {name: None if value is None else round(value, 4) for name, value in figures.items()}
    return {"solved": outcome.solved, **rounded, **(outcome.final.stages if outcome.final else {})}


def _count_stages(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many problems got to each stage."""
    counts: dict[str, int] = {}
    for stages in (outcome.final.stages for outcome in outcomes if outcome.final):
        for name, reached in stages.items():
            counts[name] = counts.get(name, 0) + reached
    return counts


def _rate(outcomes: Sequence[Outcome]) -> float | None:
    return sum(outcome.solved for outcome in outcomes) / len(outcomes) if outcomes else None


def _compare(environment: Environment, problem: Problem, seed: int, number: int) -> Compared:
    def outcome_of(choose: Callable[[], Behaviour | None]) -> Outcome | None:
        environment.reset(problem)
        behaviour = choose()
        if behaviour is None:
            return None
        outcome = Outcome(environment.score())
        for _ in range(environment.budget_steps):
            environment.step(behaviour.act())
            if environment.score().over:
                break
        outcome.final = environment.score()
        return outcome

    rng = np.random.default_rng([seed, zlib.crc32(b"random policy"), number])
    return Compared(
        outcome_of(lambda: environment.random(rng)),
        outcome_of(lambda: Resting(environment.action_space)),
        outcome_of(environment.expert),
    )


@dataclass(frozen=True)
class Resting:
    """Does nothing."""

    space: ActionSpace

    def act(self) -> Array:
        """The action (dim,) that asks for no motion."""
        return self.space.rest()
