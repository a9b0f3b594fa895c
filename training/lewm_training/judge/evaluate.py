"""Closed-loop evaluation: goals reached, how close, how fast, and what a random policy would have reached."""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lewm_ros.config import PlannerConfig
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.model.pixels import normalise_pixels
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.sim import Problem, SimArm, Task, apply_action, draw_problems, make_task
from lewm_training.collect.exploration import Explorer
from lewm_training.collect.recording import JOINT_DELTA_LIMIT_RAD


@dataclass
class Episode:
    """One goal: how far away it was in the beginning and in the end, and how long each plan took."""

    start_distance_m: float
    final_distance_m: float = math.nan
    plan_latency_s: list[float] = field(default_factory=list)


def evaluate_direct(
    checkpoint: Checkpoint, task_name: str, episodes: int, seed: int, config: PlannerConfig
) -> dict[str, Any]:
    """Close the loop without ROS: the same planner and simulator, and block boundaries that wait for the plan.

    Args:
        checkpoint: the model to evaluate, on the device where it should run.
        task_name: one of the simulator's tasks.
        episodes: goals to try.
        seed: of the goals and of the planner's sampling. Goals come from a stream of their own, which no training
            episode draws from; starts that already satisfy the goal are rejected by the task.
        config: sizes of the planner's search.

    Returns:
        the report that `lewm eval` writes.
    """
    checkpoint.require_arm()
    task = make_task(task_name)
    space = checkpoint.action_space
    arm = SimArm(space.control_hz, checkpoint.model.config.encoder.image_size, cube=task.needs_cube)
    device = next(checkpoint.model.parameters()).device
    planner = RecedingHorizonPlanner(
        checkpoint.model.planning_model(config.precision),
        config,
        space,
        checkpoint.model.config.history,
        device,
        seed,
        checkpoint.proposal,
        checkpoint.gap,
    )
    reached, random = [], []
    problems = draw_problems(task, arm, seed)
    for _ in (bar := tqdm(range(episodes), desc=f"evaluate {task_name}", unit="goal")):
        problem = next(problems)
        reached.append(run_episode(checkpoint, planner, arm, task, problem))
        random.append(_run_random(arm, task, problem, _random_rng(seed, len(random))))
        bar.set_postfix(reached=sum(e.final_distance_m <= task.success_m for e in reached))
    arm.close()
    latencies_s = [latency_s for e in reached for latency_s in e.plan_latency_s]
    overrun = sum(latency_s > space.block_s for latency_s in latencies_s)
    return summarise(task, reached, random) | {
        "plan_latency_s": {"p50": float(np.quantile(latencies_s, 0.5)), "p95": float(np.quantile(latencies_s, 0.95))},
        "plan_rate_hz": len(latencies_s) / sum(latencies_s),
        "control_hz": space.control_hz,
        "missed_cycles": overrun * space.action_block,
        "cycles": task.budget_steps * episodes,
        "checkpoint": checkpoint.identity,
        "seed": seed,
        "transport": "direct",
    }


def summarise(task: Task, reached: list[Episode], random: list[Episode]) -> dict[str, Any]:
    """What becomes of the goals, which every transport reports alike."""
    successes = sum(e.final_distance_m <= task.success_m for e in reached)
    by_chance = sum(e.final_distance_m <= task.success_m for e in random)
    return {
        "task": task.name,
        "episodes": len(reached),
        "successes": successes,
        "success_rate": successes / len(reached),
        "ci95": wilson_interval(successes, len(reached)),
        "random_success_rate": by_chance / len(random),
        "success_m": task.success_m,
        "start_distance_m": _spread([e.start_distance_m for e in reached]),
        "final_distance_m": _spread([e.final_distance_m for e in reached]),
        "random_final_distance_m": _spread([e.final_distance_m for e in random]),
        "final_distances_m": [round(e.final_distance_m, 4) for e in reached],
    }


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a success rate (Wilson, 1927)."""
    rate = successes / trials
    centre = rate + z**2 / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def run_random_policy(task: Task, arm: SimArm, problems: list[Problem], seed: int) -> list[Episode]:
    """The floor: smooth random joint motion from each start, for as long as the planner gets."""
    return [_run_random(arm, task, problem, _random_rng(seed, i)) for i, problem in enumerate(problems)]


def run_episode(
    checkpoint: Checkpoint, planner: RecedingHorizonPlanner, arm: SimArm, task: Task, problem: Problem
) -> Episode:
    """Close the loop for one goal; the last block is cut off where the task's budget of control steps ends."""
    task.show_goal(arm, problem)
    goal = encode_view(checkpoint, arm)
    task.start(arm, problem)
    planner.reset()
    episode = Episode(task.distance_m(arm, problem))
    for block, step in enumerate(range(0, task.budget_steps, planner.action_space.action_block)):
        started = time.perf_counter()
        planner.observe(block, encode_view(checkpoint, arm))
        decision = planner.decide(block, goal, arm.positions_rad)
        episode.plan_latency_s.append(time.perf_counter() - started)
        planner.adopt(decision, first_free=block + 1)
        for action in planner.actions(block)[: task.budget_steps - step]:
            apply_action(arm, planner.action_space.kind, action)
    episode.final_distance_m = task.distance_m(arm, problem)
    return episode


def _run_random(arm: SimArm, task: Task, problem: Problem, rng: np.random.Generator) -> Episode:
    task.start(arm, problem)
    start_distance_m = task.distance_m(arm, problem)
    explorer = Explorer("waypoints", np.asarray(JOINT_DELTA_LIMIT_RAD), rng)
    for _ in range(task.budget_steps):
        apply_action(arm, "joint_delta", explorer.act(arm))
    return Episode(start_distance_m, task.distance_m(arm, problem))


def _random_rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(b"random policy"), number])


@torch.inference_mode()
def encode_view(checkpoint: Checkpoint, arm: SimArm) -> torch.Tensor:
    """The embedding (D,) of what the cameras see."""
    device = next(checkpoint.model.parameters()).device
    pixels = torch.from_numpy(arm.render()).to(device).unsqueeze(0)
    return checkpoint.model.encode(normalise_pixels(pixels))[0]


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "mean": float(np.mean(values)),
        "p95": float(np.quantile(values, 0.95)),
        "max": float(np.max(values)),
    }
