"""The search that the benchmarks share: the model and the sizes of the paper, without bounds or receding horizon."""

from __future__ import annotations

import torch
from torch import Tensor

from lewm_ros.config import EncoderConfig, ModelConfig, PredictorConfig
from lewm_ros.model import LeWorldModel, Rollout, make_rollout
from lewm_ros.planning import PlannerConfig
from lewm_ros.planning.costs import latent_displacement
from lewm_ros.planning.solver import Deadline, Plan, SearchSpace
from lewm_ros.planning.solvers import make_solver

PAPER_SEARCH = PlannerConfig(samples=300, iterations=30, elites=30, horizon=5, initial_std=1.0, minimum_std=0.0)
PRECISIONS = ("fp32", "bf16")

PATCHES = ModelConfig(tokens="patches")
"""The baseline in the paper's sizes: every patch token of a frame, and otherwise the same predictor."""

VJEPA2_AC = ModelConfig(
    encoder=EncoderConfig(image_size=256, patch_size=16, width=1408, depth=40, heads=22),
    predictor=PredictorConfig(depth=24, heads=16, head_dim=64, mlp_dim=4096, dropout=0.0),
    tokens="patches",
    embedding_dim=1408,
    predictor_width=1024,
)
"""The sizes of V-JEPA 2-AC (300 M parameters behind a ViT-g of 1 B): 256 tokens of 1408 per frame."""


def paper_model(seed: int, history: int = 3) -> LeWorldModel:
    """LeWorldModel of the paper's sizes with random weights. The gates that start at zero are drawn too."""
    torch.manual_seed(seed)
    model = LeWorldModel(ModelConfig(history=history)).eval()
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.02)
    return model


def random_states(config: ModelConfig, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """States (count, K, D) of unit variance, of a model with one camera and no vectors."""
    return torch.randn(count, config.tokens_per_frame, config.embedding_dim, generator=generator).to(device)


def plan_from(
    model: LeWorldModel, config: PlannerConfig, z: Tensor, goal: Tensor, seed: int, rollout: Rollout | None = None
) -> Plan:
    """`search_from` for one problem, from states (H, K, D)."""
    return search_from(model, config, z.unsqueeze(0), goal, seed, rollout)


@torch.no_grad()
def search_from(
    model: LeWorldModel, config: PlannerConfig, z: Tensor, goal: Tensor, seed: int, rollout: Rollout | None = None
) -> Plan:
    """The bare search from states (B, H, K, D) towards one goal (K, D): every action free, no bounds to speak of.

    `rollout` is the model's, if it has been prepared already.
    """
    batch, known, size = len(z), z.shape[1], model.config.action_dim
    wide = torch.full((size,), 1e6, device=z.device)
    solver = make_solver(config, SearchSpace(-wide, wide, action_block=5, knots=5))
    rollout, target = rollout or make_rollout(model, config.precision, config.compile), goal.flatten()
    imagine = rollout.start(z, z.new_zeros(batch, known - 1, size))
    return solver.solve(
        lambda plans: latent_displacement(imagine(plans)[:, :, -1].flatten(-2), target),
        z.new_zeros(batch, 1, config.horizon, size),
        torch.Generator(z.device).manual_seed(seed),
        Deadline(),
    )


@torch.no_grad()
def final_distance(model: LeWorldModel, z: Tensor, goal: Tensor, blocks: Tensor) -> float:
    """The latent distance at the end of blocks (T, A) from z (K, D), by the model's own rollout in fp32."""
    past = blocks.new_zeros(1, 0, blocks.shape[-1])
    last = model.rollout(z[None, None], past, blocks[None, None])[0, 0, -1]
    return float((last - goal).square().mean())
