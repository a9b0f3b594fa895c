"""Several processes train as one: the same loss, gradients and statistics as one process with the global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from conftest import small_model_config
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from toy_training import toy_config, toy_trainer, write_bars

from lewm_ros.config import TrainConfig, to_mapping
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import load_checkpoint
from lewm_training.learn.distributed import Ranks, share_batch_norm
from lewm_training.learn.objective import Objective

WORLD = 2
CASES = {
    "even": (8, toy_config()),
    "uneven": (7, toy_config()),
    "uneven, with a stem and all terms": (
        5,
        toy_config(model=small_model_config(stem_channels=(8, 16)), rollout_blocks=3, straightening=0.1),
    ),
}


# Doubles, since in fp32 the order of summation shows: at random weights BatchNorm makes much of small differences.


def given(windows: int, config: TrainConfig) -> tuple[Tensor, Tensor, Tensor]:
    """A global batch and directions."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(windows, config.window_frames, 3, 32, 32, generator=generator) + 1.0
    actions = torch.randn(windows, config.window_frames - 1, 35, generator=generator)
    directions = torch.randn(16, 64, generator=generator)
    return pixels.double(), actions.double(), directions / directions.norm(dim=0)


def model_of(config: TrainConfig) -> LeWorldModel:
    torch.manual_seed(0)
    model = LeWorldModel(config.model).double().train()
    for block in model.predictor.blocks:  # AdaLN-zero starts at zero, where actions would not matter
        nn.init.normal_(block.modulation[-1].weight, std=0.3)
    return model


def outcome(model: LeWorldModel, terms: dict[str, Tensor]) -> dict[str, Any]:
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"terms": terms, "gradients": gradients, "buffers": dict(model.named_buffers())}


def step_in_one_of_two(rank: int, folder: str) -> None:
    """One step of each case on this process's share; the first process writes what came of it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    ranks, outcomes = Ranks(rank, WORLD), {}
    for name, (windows, config) in CASES.items():
        model = model_of(config)
        share_batch_norm(model)
        objective = DistributedDataParallel(Objective(model, config, ranks))
        pixels, actions, directions = given(windows, config)
        mine = torch.from_numpy(ranks.share(np.arange(windows)))
        terms = objective(pixels[mine], actions[mine], directions)
        (WORLD * terms["loss"]).backward()
        outcomes[name] = outcome(model, {term: ranks.total(value) for term, value in terms.items()})
    if ranks.is_first:
        torch.save(outcomes, f"{folder}/outcomes.pt")
    del objective  # the last to let go of a group waits for its threads, and they may wait for Python's lock
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(step_in_one_of_two, (str(folder),), nprocs=WORLD)
    return torch.load(folder / "outcomes.pt", weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_loss_and_gradients_of_one(name: str, outcomes: dict[str, Any]) -> None:
    windows, config = CASES[name]
    model = model_of(config)
    terms = Objective(model, config)(*given(windows, config))
    terms["loss"].backward()
    expected = outcome(model, terms)
    for kind in ("terms", "gradients", "buffers"):
        assert outcomes[name][kind].keys() == expected[kind].keys()
        for key, value in expected[kind].items():
            torch.testing.assert_close(outcomes[name][kind][key], value, rtol=1e-6, atol=1e-6, msg=f"{kind} {key}")


def test_shares_differ_by_one_at_most_and_lose_nothing() -> None:
    shares = [Ranks(rank, 3).share(np.arange(8)) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 2]
    np.testing.assert_array_equal(np.concatenate(shares), np.arange(8))


def test_lewm_train_under_torchrun_is_training_in_one_process(tmp_path: Path) -> None:
    dataset, recipe = write_bars(tmp_path), {"batch_size": 9, "learning_rate": 1e-3}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(to_mapping(toy_config(**recipe))))))
    options = ["--dataset", dataset, "--config", tmp_path / "toy.yaml", "--device", "cpu", "--out", tmp_path / "two"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "lewm_training", "train", *map(str, options), "--json", str(tmp_path / "two.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\ncheckpoint ") == 1  # only the first speaks
    toy_trainer(dataset, tmp_path / "one", **recipe).run()
    one = load_checkpoint(tmp_path / "one" / "model").provenance["metrics"]
    two = json.loads((tmp_path / "two.json").read_text())
    # In fp32 Adam turns rounding into steps, on every CPU others; that sums and gradients are the same is tested above.
    for name in ("train/prediction", "train/sigreg", "validation/prediction", "validation/sigreg"):
        assert two[name] == pytest.approx(one[name], rel=2e-2), name
    assert "2 processes" in load_checkpoint(tmp_path / "two" / "model").provenance["hardware"]
