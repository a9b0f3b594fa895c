"""The experiment: which cells there are, what they are made by, what is made anew, and its table."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_training import write_bars

from lewm_ros.config import ConfigError, from_mapping
from lewm_training.data import EpisodeDataset
from lewm_training.experiment.design import ExperimentConfig
from lewm_training.experiment.steps import Step, StepFailed, run_cells, run_in_process, steps_of
from lewm_training.experiment.table import markdown, rows_of

FIVE = "episodes=5"
MAPPING = {
    "task": "push",
    "recipe": "recipe.yaml",
    "train": ["epochs=2"],
    "policy": [],
    "factors": [
        {"name": "episodes", "levels": [{"name": "all"}, {"name": "5", "train": [FIVE], "policy": [FIVE]}]},
        {"name": "view", "levels": [{"name": "varied"}, {"name": "steady", "collect": ["--steady"]}]},
    ],
}  # fmt: skip
CONFIG = from_mapping(ExperimentConfig, MAPPING)


def test_one_factor_is_varied_at_a_time() -> None:
    base, fewer, steady = CONFIG.cells()
    assert (base.folder, base.level, base.train, base.collect) == ("base", "all, varied", ("epochs=2",), ())
    assert (fewer.folder, fewer.train, fewer.policy) == ("episodes_5", ("epochs=2", FIVE), (FIVE,))
    assert (steady.folder, steady.train, steady.collect) == ("view_steady", ("epochs=2",), ("--steady",))


def test_two_levels_of_one_name_and_a_single_level_are_refused() -> None:
    twins = {"name": "view", "levels": [{"name": "a"}, {"name": "b"}, {"name": "B"}]}
    with pytest.raises(ConfigError, match="two levels are both called 'view_b'"):
        from_mapping(ExperimentConfig, MAPPING | {"factors": [twins]})
    with pytest.raises(ConfigError, match="at least two of factor 'view'"):
        from_mapping(ExperimentConfig, MAPPING | {"factors": [{"name": "view", "levels": [{"name": "a"}]}]})


def test_cells_that_are_recorded_alike_share_a_dataset(tmp_path: Path) -> None:
    base, fewer, steady = (steps_of(CONFIG, cell, tmp_path, "cpu", 0) for cell in CONFIG.cells())
    assert base[0].product == fewer[0].product != steady[0].product
    assert [step.name for step in base] == ["collect", "train", "train-policy", "probe", "eval", "bench inference"]
    assert "--set episodes=5" in fewer[1].command and "--set episodes=5" in fewer[2].command


def test_without_a_word_on_policies_the_one_that_learned_along_acts(tmp_path: Path) -> None:
    factors = [{"name": "view", "levels": [{"name": "varied"}, {"name": "steady", "collect": ["--steady"]}]}]
    config = from_mapping(ExperimentConfig, {"task": "push", "recipe": "recipe.yaml", "factors": factors})
    steps = steps_of(config, next(config.cells()), tmp_path, "cpu", 0)
    assert [step.name for step in steps] == ["collect", "train", "probe", "eval", "bench inference"]
    assert f"--checkpoint {tmp_path}/base/run/model.json" in steps[3].command
    with pytest.raises(ConfigError, match=r"policy: must be .* since a level names settings of it"):
        from_mapping(ExperimentConfig, {key: MAPPING[key] for key in MAPPING if key != "policy"})


SOURCES = {"encoder": "trained", "source": "embedding", "probe": "mlp"}
FIGURES: dict[str, dict[str, Any]] = {
    "train": {"rollout/error_1": 0.1, "rollout/nothing_changes_1": 0.4},
    "probe": {"probes": [{"label": "contact", **SOURCES, "auroc": {"value": 0.9, "interval": [0.8, 0.95]}}]},
    "eval": {"successes": 3, "episodes": 4, "ci95": [0.3, 0.95]},
    "bench inference": {"encode_s": {"p50": 0.01}, "plan_s": {"p50": 0.002}},
}


class Pretended:
    """Runs nothing, but leaves what a command would leave; the figures are worked out by hand."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def __call__(self, step: Step, log: Path) -> None:
        self.ran.append(f"{log.parent.name}: {step.name}")
        step.product.write_text(json.dumps(FIGURES.get(step.name, {})))


def test_what_is_there_is_not_made_again_unless_by_another_command(tmp_path: Path) -> None:
    first, second = Pretended(), Pretended()
    run_cells(CONFIG, tmp_path, "cpu", 0, run=first)
    assert len(first.ran) == 17, "six steps of three cells, two of which share a dataset"
    (tmp_path / "view_steady" / "eval.json").unlink()
    run_cells(CONFIG, tmp_path, "cpu", 0, run=second)
    assert second.ran == ["view_steady: eval"]
    other = from_mapping(ExperimentConfig, MAPPING | {"train": ["epochs=3"]})
    with pytest.raises(StepFailed, match=r"train.json: made by '.*epochs=2.*', not '.*epochs=3.*'; choose another"):
        run_cells(other, tmp_path, "cpu", 0, run=second)


def test_cells_side_by_side_after_all_recordings_and_before_all_timings(tmp_path: Path) -> None:
    both, made = threading.Barrier(2, timeout=60.0), Pretended()

    def run(step: Step, log: Path) -> None:
        if step.name == "train" and log.parent.name != "view_steady":
            both.wait()  # passes only if base and episodes_5 are at it at the same time
        made(step, log)

    run_cells(CONFIG, tmp_path, "cpu", 0, 2, run)
    names = [ran.split(": ")[1] for ran in made.ran]
    assert names[:2] == ["collect"] * 2 and names[-3:] == ["bench inference"] * 3 and len(names) == 17


def test_after_a_failure_no_cell_begins_another_step(tmp_path: Path) -> None:
    made = Pretended()

    def run(step: Step, log: Path) -> None:
        if step.name == "train-policy":
            raise StepFailed("broken")
        made(step, log)

    with pytest.raises(StepFailed, match="broken"):
        run_cells(CONFIG, tmp_path, "cpu", 0, run=run)
    assert made.ran == ["base: collect", "view_steady: collect", "base: train"]


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    step = Step("collect", ("collect", "--task", "juggle", "--out", "none.h5"), tmp_path / "collect.json")
    with pytest.raises(StepFailed, match=r"lewm collect --task juggle .*task 'juggle' is unknown.*; see .*collect.log"):
        run_in_process(step, tmp_path / "collect.log")


def test_the_table_tells_what_there_is(tmp_path: Path) -> None:
    made = run_cells(CONFIG, tmp_path, "cpu", 0, run=Pretended())
    row = rows_of(made)[1]
    assert (row["factor"], row["level"], row["successes"], row["plan_ms"]) == ("episodes", "5", 3, 2.0)
    assert row["ahead_1"] == pytest.approx(0.25) and row["ahead_10"] is None
    assert row["contact"]["value"] == 0.9 and row["object yaw"] is None
    report = markdown(rows_of(made), made)
    assert "| episodes | 5 | 3 of 4 | 30 to 95 % |" in report
    assert "0.9 (0.8 to 0.95)" in report
    assert "lewm train-policy --checkpoint" in report


def test_more_episodes_hold_those_of_fewer(tmp_path: Path) -> None:
    dataset = EpisodeDataset.open(write_bars(tmp_path))
    episodes, _ = dataset.split(0.2, 0)
    few, more = (dataset.some(episodes, count, 3) for count in (2, 3))
    assert set(few) < set(more) < set(episodes)
    np.testing.assert_array_equal(dataset.some(episodes, None, 3), episodes)
    with pytest.raises(ConfigError, match=r"episodes: .* to learn from, got 999"):
        dataset.some(episodes, 999, 3)
