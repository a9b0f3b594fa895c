"""A world small enough to test with: a tiny random checkpoint, and a ROS domain of its own."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Small tensors gain nothing from threads, and processes that share cores lose much.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from lewm_ros.config import EncoderConfig, ModelConfig, PredictorConfig
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.observation.input_spec import CameraSpec, InputSpec, VectorSpec
from lewm_ros.robot.action_space import ActionSpace
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import joint_delta
from lewm_training.judge.domains import own_domain

# What runs in the background ignores SIGINT, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Nodes of this run, in this process and in those that it starts, meet each other and no one else.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(own_domain())

SMALL_PATCH = ModelConfig(
    encoder=EncoderConfig(image_size=32, patch_size=8, width=32, depth=1, heads=2),
    predictor=PredictorConfig(depth=2, heads=2, head_dim=8, mlp_dim=32, dropout=0.0),
    tokens="patches",
    embedding_dim=32,
    predictor_width=16,
)
"""16 patch tokens of 32 numbers."""


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
    space = joint_delta(PANDA.joint_names, (0.05,) * 7, control_hz=20.0)
    return replace(space, action_block=5, std=(0.015,) * 7)


def two_cameras() -> InputSpec:
    """Cameras `scene` and `wrist`, the joints and a finger."""
    mean, std = tuple(PANDA.home_rad.tolist()), (0.5,) * len(PANDA.joint_names)
    vectors = VectorSpec("proprio", PANDA.joint_names, mean, std), VectorSpec("gripper", ("finger",), (0.02,), (0.02,))
    return InputSpec((CameraSpec("scene", 32), CameraSpec("wrist", 32)), vectors)


def random_model(inputs: InputSpec | None = None) -> LeWorldModel:
    """A small model in which actions matter: what AdaLN-zero starts at zero is drawn too."""
    torch.manual_seed(0)
    model = LeWorldModel(small_model_config(), inputs).eval()
    for parameter in model.predictor.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def stirred(model: LeWorldModel) -> LeWorldModel:
    """The model in evaluation mode, random everywhere: also gates, norms and BatchNorm statistics."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def random_patch_model(history: int = 3) -> LeWorldModel:
    """The baseline, random everywhere."""
    torch.manual_seed(2)
    return stirred(LeWorldModel(replace(SMALL_PATCH, history=history)))


@dataclass
class ToyCheckpoint:
    """What a planner needs to know, for a world model of a test: states of one token of 7 numbers."""

    model: Any
    action_space: ActionSpace
    proposal: Any = None
    gap: Any = None
    policy: Any = None
    history: int = 3
    state_shape: tuple[int, int] = (1, 7)
    goal_tokens: tuple[int, ...] = (0,)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def rollout(self, precision: str, compiled: bool) -> Any:
        return self.model


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny checkpoint for joint deltas."""
    return save_checkpoint(
        Checkpoint(random_model(), joint_delta_space()), tmp_path_factory.mktemp("checkpoint") / "tiny"
    )


@pytest.fixture(scope="session")
def two_camera_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two cameras, joints and a finger as inputs."""
    model = random_model(two_cameras())
    return save_checkpoint(Checkpoint(model, joint_delta_space()), tmp_path_factory.mktemp("checkpoint") / "two")
