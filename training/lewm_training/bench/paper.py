"""The search that the benchmarks share: the model and the sizes of the paper, without bounds or receding horizon."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from lewm_ros.config import ModelConfig, PlannerConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.planning.costs import latent_displacement
from lewm_ros.planning.search import WorldModel
from lewm_ros.planning.solver import Deadline, Plan, SearchSpace
from lewm_ros.planning.solvers import make_solver

PAPER_SEARCH = PlannerConfig(samples=300, iterations=30, elites=30, horizon=5, initial_std=1.0, minimum_std=0.0)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class PlanningModel(Protocol):
    """A model of any kind that plans can be tried in."""

    def planning_model(self, precision: str) -> WorldModel:
        """A frozen copy that rolls out plans fast."""
        ...


def paper_model(seed: int, history: int = 3) -> LeWorldModel:
    """LeWorldModel of the paper's sizes with random weights. The gates that start at zero are drawn too."""
    torch.manual_seed(seed)
    model = LeWorldModel(ModelConfig(history=history)).eval()
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.02)
    return model


def plan_from(model: PlanningModel, config: PlannerConfig, z: Tensor, goal: Tensor, seed: int) -> Plan:
    """`search_from` for one problem, from embeddings (H, D)."""
    return search_from(model, config, z.unsqueeze(0), goal, seed)


@torch.no_grad()
def search_from(model: PlanningModel, config: PlannerConfig, z: Tensor, goal: Tensor, seed: int) -> Plan:
    """The bare search from embeddings (B, H, D) towards one goal (D,): every action free, no bounds to speak of."""
    batch, known, _ = z.shape
    wide = torch.full((35,), 1e6, device=z.device)
    solver = make_solver(config, SearchSpace(-wide, wide, action_block=5, knots=5))
    imagine = model.planning_model(config.precision).start(z, z.new_zeros(batch, known - 1, 35))
    return solver.solve(
        lambda plans: latent_displacement(imagine(plans)[:, :, -1], goal),
        z.new_zeros(batch, 1, config.horizon, 35),
        torch.Generator(z.device).manual_seed(seed),
        Deadline(),
    )


@torch.no_grad()
def final_distance(model: LeWorldModel, z: Tensor, goal: Tensor, blocks: Tensor) -> float:
    """The latent distance at the end of blocks (T, A) from z (D,), by the model's own rollout in fp32."""
    past = blocks.new_zeros(1, 0, blocks.shape[-1])
    last = model.rollout(z[None, None], past, blocks[None, None])[0, 0, -1]
    return float((last - goal).square().mean())
