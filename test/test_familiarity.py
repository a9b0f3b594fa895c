"""How strange a goal is, beside goals whose spread is known."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import joint_delta_space, random_model

from lewm_ros.config import FamiliarityConfig
from lewm_ros.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lewm_ros.model.familiarity import Familiarity, enough_to_learn_from


def learned(dim: int = 16) -> Familiarity:
    chance = torch.Generator().manual_seed(0)
    scales = torch.linspace(0.1, 2.0, dim)
    goals, held_out = (5.0 + scales * torch.randn(count, dim, generator=chance) for count in (4000, 1000))
    familiarity = Familiarity(FamiliarityConfig(), dim)
    familiarity.learn(goals, held_out)
    return familiarity


def test_strangeness_counts_standard_deviations_in_every_direction() -> None:
    # In 16 dimensions normal numbers are sqrt(16) = 4 deviations away, so 8 deviations along one axis are twice that.
    familiarity = learned()
    centre, narrow, wide = torch.full((3, 16), 5.0)
    narrow[0] += 8 * 0.1
    wide[15] += 8 * 2.0
    torch.testing.assert_close(
        familiarity(torch.stack([centre, narrow, wide])), torch.tensor([0.0, 2.0, 2.0]), atol=0.1, rtol=0.0
    )


def test_checkpoints_keep_it(tmp_path: Path) -> None:
    familiarity, goals = learned(), torch.randn(4, 16)
    path = save_checkpoint(Checkpoint(random_model(), joint_delta_space(), familiarity=familiarity), tmp_path / "with")
    torch.testing.assert_close(load_checkpoint(path).familiarity(goals), familiarity(goals))


def test_few_demonstrations_say_nothing() -> None:
    # 16 dimensions want 24 goals.
    assert not enough_to_learn_from(23, 16)
    assert enough_to_learn_from(24, 16)
