"""The planners of `stable-worldmodel` with this project's weights, to be measured beside ours."""

from __future__ import annotations

import contextlib
import importlib
import io
import types
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lewm_ros.config import UserError
from lewm_ros.model import LeWorldModel
from lewm_ros.planning import PlannerConfig
from lewm_training.data.formats.released import installed_transformers
from lewm_training.data.formats.released_names import to_released

PEER = "stable-worldmodel"


def peer_module(name: str) -> types.ModuleType:
    """A module of the reference package, such as `wm.lewm.module`.

    Raises:
        UserError: it is not installed.
    """
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of simulators that it does not find
            return importlib.import_module(f"stable_worldmodel.{name}")
    except ImportError as error:
        raise UserError(f"{PEER} cannot be imported ({error}); pip install -e '.[bench]'") from None


def peer_model(model: LeWorldModel) -> nn.Module:
    """The reference LeWM with the predictor of `model`; frames come in as embeddings, so its encoder is left out.

    Raises:
        UserError: the reference is not installed, or has no such model.
    """
    if (model.tokens, model.config.embedding_dim) != (1, model.config.width):
        raise UserError(
            f"{PEER} has states of one token, as wide as its predictor; this model's have {model.tokens} of "
            f"{model.config.embedding_dim}, its predictor {model.config.width}"
        )
    module, config = peer_module("wm.lewm.module"), model.config
    width, predictor = config.embedding_dim, config.predictor
    weights = to_released(model.state_dict())
    peer = peer_module("wm.lewm").LeWM(
        encoder=nn.Identity(),
        predictor=module.Predictor(
            num_frames=config.history,
            depth=predictor.depth,
            heads=predictor.heads,
            mlp_dim=predictor.mlp_dim,
            input_dim=width,
            hidden_dim=width,
            dim_head=predictor.head_dim,
            dropout=predictor.dropout,
        ),
        action_encoder=module.Embedder(
            config.action_dim, smoothed_dim=weights["action_encoder.patch_embed.weight"].shape[0], emb_dim=width
        ),
        pred_proj=module.MLP(width, config.projector_dim, width, norm_fn=nn.BatchNorm1d),
    )
    own = ("predictor.", "action_encoder.", "pred_proj.")
    peer.load_state_dict({name: tensor for name, tensor in weights.items() if name.startswith(own)})
    return peer.eval()


def peer_trainee(model: LeWorldModel) -> nn.Module:
    """The whole reference LeWM with the weights of `model`, whose encoder must be the paper's; in training mode.

    Raises:
        UserError: the reference, or the ViT that it is built of, is not installed.
    """
    try:
        from transformers import ViTConfig, ViTModel
    except ImportError as error:
        raise UserError(f"transformers cannot be imported ({error}); pip install -e '.[bench]'") from None
    peer, config, encoder = peer_model(model), model.config, model.config.encoder
    peer.encoder = ViTModel(
        ViTConfig(
            image_size=encoder.image_size,
            patch_size=encoder.patch_size,
            hidden_size=encoder.width,
            num_hidden_layers=encoder.depth,
            num_attention_heads=encoder.heads,
            intermediate_size=4 * encoder.width,
            layer_norm_eps=encoder.norm_eps,
        ),
        add_pooling_layer=False,
    )
    peer.projector = peer_module("wm.lewm.module").MLP(
        encoder.width, config.projector_dim, config.embedding_dim, norm_fn=nn.BatchNorm1d
    )
    peer.load_state_dict(to_released(model.state_dict(), renamed_vit=installed_transformers() >= (5, 9)))
    return peer.train()


def peer_solver(name: str, peer: nn.Module, action_dim: int, horizon: int, seed: int, **sizes: Any) -> Any:
    """A solver of the reference: `CEMSolver` or `ICEMSolver`, ready for one problem at a time.

    Args:
        name: of the class.
        peer: the world model.
        action_dim: size A of a block.
        horizon: blocks.
        seed: of its sampling.
        sizes: num_samples, n_steps, topk.
    """
    import gymnasium

    solver = getattr(peer_module("solver"), name)(peer, seed=seed, **sizes)
    unbounded = gymnasium.spaces.Box(-1e6, 1e6, (1, action_dim), np.float32)
    solver.configure(action_space=unbounded, n_envs=1, config=types.SimpleNamespace(horizon=horizon, action_block=1))
    return solver


def peer_sizes(config: PlannerConfig) -> dict[str, int]:
    """The sizes of a search under the reference's names."""
    return {"num_samples": config.samples, "n_steps": config.iterations, "topk": config.elites}


def peer_plan(solver: Any, z: Tensor, goal: Tensor) -> Tensor:
    """The blocks (T, A) that the solver finds from states (H, 1, D) towards a goal (1, D)."""
    with contextlib.redirect_stdout(io.StringIO()):
        return solver.solve(_information(z, goal))["actions"][0]


@torch.no_grad()
def peer_costs(peer: nn.Module, z: Tensor, goal: Tensor, plans: Tensor) -> Tensor:
    """The reference's costs (1, S) of plans (1, S, T, A) from states (H, 1, D) towards a goal (1, D)."""
    samples = plans.shape[1]
    information = {
        name: tensor.unsqueeze(1).expand(1, samples, *tensor.shape[1:])
        for name, tensor in _information(z, goal).items()
    }
    return peer.get_cost(information, plans)


def _information(z: Tensor, goal: Tensor) -> dict[str, Tensor]:
    return {
        "pixels": torch.zeros(1, len(z), 1),  # its shape tells how many frames there are
        "goal": torch.zeros(1, 1, 1),
        "emb": z.transpose(0, 1),
        "goal_emb": goal[None],
    }
