"""The paper's tasks, measured on frozen pairs: one attempt at each is judged by every protocol at once."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.config import ConfigError, to_mapping
from lewm_ros.environments.environment import STATE, RestorableEnvironment
from lewm_ros.environments.paper_tasks.protocols import PROTOCOLS, Criterion, Verdict, criteria_of
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_training.judge.evaluate import Timing, environment_for, pursue, quantile, wilson_interval
from lewm_training.judge.journal import Journal
from lewm_training.judge.pairs import FrozenPairs, Pair


class Attempt:
    """What the protocols make of one attempt."""

    def __init__(self, environment: RestorableEnvironment, pair: Pair, criteria: dict[str, Criterion]) -> None:
        self._environment, goal = environment, np.array(pair.goal)
        self._verdicts = {name: Verdict(criteria[name], goal) for name in pair.protocols}

    def is_over(self) -> bool:
        """Take in the present state, and tell whether nothing can change the verdicts any more."""
        state = self._environment.labels()[STATE]
        for verdict in self._verdicts.values():
            verdict.saw(state)
        return all(self.solved.values())

    @property
    def solved(self) -> dict[str, bool]:
        """Whether the attempt is successful so far, by protocol."""
        return {name: verdict.solved for name, verdict in self._verdicts.items()}


def evaluate_pairs(
    checkpoint: Checkpoint,
    pairs: FrozenPairs,
    protocols: Sequence[str],
    seed: int,
    config: PlannerConfig,
    timing: Timing,
    compared: bool = True,
    journal: Path | None = None,
) -> dict[str, Any]:
    """Close the loop from recorded starts to recorded goals.

    Args:
        checkpoint: the model to evaluate, on the device where it should run.
        pairs: of starts and goals.
        protocols: which pairs are tried: those that are judged by one of these.
        seed: of the planner's sampling and of the random policy.
        config: of the search.
        timing: when plans are made, and how late they come into force.
        compared: whether the random policy tries the same pairs.
        journal: where finished pairs are kept until all are; None: nowhere.

    Returns:
        the report that `lewm eval --pairs` writes.

    Raises:
        ConfigError: the checkpoint acts otherwise than the task, or the pairs' states are not the task's.
    """
    criteria, environment = criteria_of(pairs.task), environment_for(checkpoint, pairs.task)
    tried = [(number, pair) for number, pair in enumerate(pairs.pairs) if set(protocols) & set(pair.protocols)]
    planner = RecedingHorizonPlanner(checkpoint, config, seed)
    settings = {
        "task": pairs.task,
        "pairs_sha256": pairs.sha256,
        "checkpoint": checkpoint.identity,
        "seed": seed,
        "protocols": list(protocols),
        "compared": compared,
        "planner": to_mapping(config),
        **asdict(timing),
    }
    kept = Journal(journal, settings)
    try:
        for number, pair in (bar := tqdm(tried, desc=f"evaluate {pairs.task}", unit="pair")):
            if number not in kept.finished:
                _require_states(environment, pair)
                result = _try(checkpoint, planner, environment, pair, criteria, timing)
                if compared:
                    rng = np.random.default_rng([seed, zlib.crc32(b"random policy"), number])
                    result["random"] = _wander(environment, pair, criteria, rng)
                kept.keep(number, result)
            bar.set_postfix({name: _count(kept.finished.values(), "solved", name) for name in protocols})
    finally:
        environment.close()
    kept.end()
    results = [kept.finished[number] for number, _ in tried]
    latencies = [latency for result in results for latency in result["plan_latency_s"]]
    return {
        **settings,
        "dataset": pairs.dataset,
        "tried": len(results),
        "actor": planner.actor,
        "judged": {name: _rates(results, name, compared) for name in protocols},
        "plan_latency_s": {f"p{round(100 * q)}": quantile(latencies, q) for q in (0.5, 0.95)},
        "plans": len(latencies),
        "cost_variation": quantile([r["cost_variation"] for r in results if r["cost_variation"] is not None], 0.5),
        "by_pair": [
            {"episode": pair.episode, "step": pair.step, "steps": r["steps"], "solved": r["solved"]}
            | ({"random": r["random"]} if compared else {})
            for (_, pair), r in zip(tried, results, strict=True)
        ],
    }


def _try(
    checkpoint: Checkpoint,
    planner: RecedingHorizonPlanner,
    environment: RestorableEnvironment,
    pair: Pair,
    criteria: dict[str, Criterion],
    timing: Timing,
) -> dict[str, Any]:
    problem, attempt = _problem(environment, pair), Attempt(environment, pair, criteria)
    outcome = pursue(checkpoint, planner, environment, problem, timing, watch=attempt.is_over)
    return {
        "solved": attempt.solved,
        "steps": outcome.steps,
        "plan_latency_s": [round(latency, 5) for latency in outcome.plan_latency_s],
        "cost_variation": outcome.cost_variation,
    }


def _wander(
    environment: RestorableEnvironment, pair: Pair, criteria: dict[str, Criterion], rng: np.random.Generator
) -> dict[str, bool]:
    """What the random policy makes of a pair."""
    environment.reset(_problem(environment, pair))
    behaviour, attempt = environment.random(rng), Attempt(environment, pair, criteria)
    for _ in range(environment.budget_steps):
        environment.step(behaviour.act())
        if attempt.is_over():
            break
    return attempt.solved


def _problem(environment: RestorableEnvironment, pair: Pair) -> Any:
    return environment.between(np.array(pair.start), np.array(pair.goal))


def _require_states(environment: RestorableEnvironment, pair: Pair) -> None:
    numbers = environment.labels()[STATE].size
    if len(pair.start) != numbers:
        raise ConfigError(
            f"pairs: states have {len(pair.start)} numbers, those of task '{environment.name}' have {numbers}"
        )


def _count(results: Any, of: str, protocol: str) -> int:
    return sum(result[of].get(protocol, False) for result in results)


def _rates(results: Sequence[dict[str, Any]], protocol: str, compared: bool) -> dict[str, Any]:
    """What a protocol says of all its pairs, and of the random policy on the same."""
    judged = [result for result in results if protocol in result["solved"]]
    if not judged:
        return {"pairs": 0}

    def rate(of: str, name: str) -> dict[str, Any]:
        solved = _count(judged, of, protocol)
        interval = [round(end, 4) for end in wilson_interval(solved, len(judged))]
        return {f"{name}successes": solved, f"{name}success_rate": solved / len(judged), f"{name}ci95": interval}

    return {"pairs": len(judged)} | rate("solved", "") | (rate("random", "random_") if compared else {})


def chosen(protocol: str) -> tuple[str, ...]:
    """The protocols that a word names: one of them, or `all`."""
    return PROTOCOLS if protocol == "all" else (protocol,)
