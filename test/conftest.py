"""A world small enough to test with: a tiny random checkpoint, and a ROS domain of its own."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

# Small tensors gain nothing from threads, and processes that share cores lose much.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from lewm_ros.config import EncoderConfig, ModelConfig, PatchConfig, PredictorConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.model.patch import PatchWorldModel
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm import PANDA
from lewm_training.judge.domains import own_domain

# What runs in the background ignores SIGINT, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Nodes of this run, in this process and in those that it starts, meet each other and no one else.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(own_domain())

SMALL_PATCH = PatchConfig(
    encoder=EncoderConfig(image_size=32, patch_size=8, width=32, depth=1, heads=2),
    predictor=PredictorConfig(depth=2, heads=2, head_dim=8, mlp_dim=32, dropout=0.0),
    width=16,
)


def small_model_config(stem_channels: tuple[int, ...] = ()) -> ModelConfig:
    """32 px, one layer, 16 dimensions, blocks of five 7-D actions."""
    return ModelConfig(
        encoder=EncoderConfig(image_size=32, patch_size=8, stem_channels=stem_channels, width=32, depth=1, heads=2),
        predictor=PredictorConfig(depth=1, heads=2, head_dim=8, mlp_dim=32, dropout=0.0),
        embedding_dim=16,
        projector_dim=32,
        history=3,
        action_dim=35,
    )


def joint_delta_space() -> ActionSpace:
    """Blocks of five joint deltas at 20 Hz, at most 0.05 rad each."""
    return ActionSpace(
        kind="joint_delta",
        control_hz=20.0,
        action_block=5,
        limit=(0.05,) * 7,
        std=(0.015,) * 7,
        joint_names=PANDA.joint_names,
    )


def random_model() -> LeWorldModel:
    """A small model in which actions matter: what AdaLN-zero starts at zero is drawn too."""
    torch.manual_seed(0)
    model = LeWorldModel(small_model_config()).eval()
    for parameter in model.predictor.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def random_patch_model(history: int = 3) -> PatchWorldModel:
    """Random everywhere, also where AdaLN-zero and the norms start from constants."""
    torch.manual_seed(2)
    model = PatchWorldModel(replace(SMALL_PATCH, history=history)).eval()
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny checkpoint for joint deltas."""
    return save_checkpoint(
        Checkpoint(random_model(), joint_delta_space()), tmp_path_factory.mktemp("checkpoint") / "tiny"
    )
