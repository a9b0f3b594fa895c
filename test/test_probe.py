"""Probes and retrieval on data whose answers are known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import joint_delta_space, random_model, random_patch_model
from numpy.typing import NDArray
from toy_dataset import META, write_toy

from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint
from lewm_ros.observation.input_spec import CameraSpec, InputSpec, VectorSpec
from lewm_ros.robot import rotations
from lewm_training.__main__ import main
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.judge import labels
from lewm_training.judge.embeddings import embed_everything, embed_flat, flat_states, untrained_like
from lewm_training.judge.labels import labels_of, missing_labels
from lewm_training.judge.probe import (
    held_out_episodes,
    light_probe,
    principal_components,
    probe_encoder,
    split_episodes,
)
from lewm_training.judge.question import why_not
from lewm_training.judge.regression import (
    AttentivePooling,
    Parts,
    Target,
    linear_probe,
    logistic_probe,
    mlp,
    network_probe,
)
from lewm_training.judge.retrieval import retrieve
from lewm_training.judge.scores import (
    auroc,
    balanced_accuracy,
    episode_weights,
    median,
    once,
    pearson_r,
    r_squared,
    with_interval,
)

EPISODES, STEPS, SIZE = 8, 80, 32
JOINTS = VectorSpec("proprio", tuple(META["joint_names"]), (0.5,) * 7, (0.2,) * 7)


def episode(number: int) -> dict[str, NDArray]:
    """A bright square, anywhere in each frame: its place is joints 1 and 2. The gripper never moves."""
    rng = np.random.default_rng(number)
    action = rng.normal(0.0, 0.02, (STEPS, 7)).clip(-0.05, 0.05).astype(np.float32)
    joints = rng.uniform(0.2, 0.8, (STEPS, 7))
    grid = (np.arange(SIZE) + 0.5) / SIZE
    near = [np.abs(grid - joints[:, axis, None]) < 0.15 for axis in (0, 1)]
    square = near[0][:, None, :] & near[1][:, :, None]
    half = 0.5 * joints[:, 2]
    zero = np.zeros(STEPS)
    return {
        "pixels": np.repeat(255 * square[..., None], 3, axis=-1).astype(np.uint8),
        "action": action,
        "proprio": joints.astype(np.float32),
        "gripper": np.full((STEPS, 1), 0.04, dtype=np.float32),
        "ee_position": joints[:, :3].astype(np.float32),
        "ee_quaternion": np.stack([np.cos(half), zero, zero, np.sin(half)], axis=1).astype(np.float32),
        "contact": (joints[:, :1] > 0.5).astype(np.float32),
        "temperature": joints[:, 3:5].astype(np.float32),
        "timestamp_s": 0.05 * np.arange(STEPS),
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    path = tmp_path_factory.mktemp("squares") / "squares.h5"
    return EpisodeDataset.open(write_toy(path, [episode(number) for number in range(EPISODES)]))


def test_labels_are_told_by_name_and_size(dataset: EpisodeDataset) -> None:
    found = {label.name: label for label in labels_of(dataset, np.arange(100))}
    assert {name: (len(label.components), label.unit) for name, label in found.items()} == {
        "end effector position": (3, "mm"),
        "end effector orientation": (6, "deg"),
        "end effector yaw": (2, "deg"),
        "contact": (1, ""),
        "joint positions": (7, "deg"),
        "temperature": (2, ""),
    }  # the gripper never moves; actions and times are no labels
    assert found["joint positions"].components == tuple(META["joint_names"])
    assert [name for name, label in found.items() if label.yes_or_no] == ["contact"]


def test_what_a_dataset_does_not_know_is_named(dataset: EpisodeDataset) -> None:
    missing = missing_labels(dataset, labels_of(dataset, np.arange(100)))
    assert missing == {
        "gripper opening": "never changes, or is of another kind",
        "object position": "no column object_pose",
        "object orientation": "no column object_pose",
        "object yaw": "no column object_pose",
        "object relative to end effector": "no column object_pose",
        "joint velocities": "no column joint_velocity",
    }


def test_an_object_pose_is_where_it_is_how_it_is_turned_and_where_the_hand_is(tmp_path: Path) -> None:
    columns = episode(0)
    columns["object_pose"] = np.concatenate([columns["ee_position"] + 0.1, columns["ee_quaternion"]], axis=1)
    columns["object_pose"][:, 2] -= 0.3
    columns["object_goal"] = columns["object_pose"][::-1].copy()
    dataset = EpisodeDataset.open(write_toy(tmp_path / "pose.h5", [columns]))
    found = {label.name: label for label in labels_of(dataset, np.arange(STEPS)) if label.name.startswith("object")}
    assert found.keys() == {  # a goal is not in the frame
        "object position",
        "object orientation",
        "object yaw",
        "object relative to end effector",
    }
    np.testing.assert_array_equal(found["object position"].values, columns["object_pose"][:, :3].astype(float))
    np.testing.assert_allclose(found["object relative to end effector"].values, [[0.1, 0.1, -0.2]] * STEPS, atol=1e-6)
    yaw = columns["proprio"][:, 2].astype(float)
    np.testing.assert_allclose(found["object yaw"].values, np.stack([np.cos(4 * yaw), np.sin(4 * yaw)], 1), atol=1e-5)


def quaternion(axis: tuple[float, float, float], angle_deg: float) -> NDArray:
    half = np.radians(angle_deg) / 2.0
    return np.array([[np.cos(half), *np.sin(half) * np.array(axis)]])


def rotation(axis: tuple[float, float, float], angle_deg: float) -> NDArray:
    return rotations.rotations(rotations.two_axes(quaternion(axis, angle_deg)))


def test_errors_are_in_the_units_of_people() -> None:
    origin = np.zeros((1, 3))
    assert labels.distances_mm(np.array([[0.003, 0.0, 0.004]]), origin) == pytest.approx(5.0)
    assert labels.differences_deg(np.array([[np.pi / 6, 0.0, 0.0]]), origin) == pytest.approx(np.array([[30.0, 0, 0]]))
    # A third of a turn about the diagonal takes x to y and y to z.
    turned = np.array([[0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_allclose(rotations.two_axes(turned), [[0, 1, 0, 0, 0, 1]], atol=1e-12)
    upright = rotations.two_axes(np.array([[1.0, 0.0, 0.0, 0.0]]))
    assert labels.rotation_angles_deg(3.0 * rotations.two_axes(turned), upright) == pytest.approx(120.0)
    # From 350 to 20 degrees it is 30; of what looks the same every 90, from 85 to 3 degrees it is 8.
    yaws = np.radians([350.0, 20.0, 4 * 85.0, 4 * 3.0])
    one, other, cube, same = np.stack([np.cos(yaws), np.sin(yaws)], axis=1)[:, None]
    assert rotations.yaw_deg(one, other) == pytest.approx(30.0)
    assert rotations.yaw_deg(cube, same, fold=4) == pytest.approx(8.0)


def test_a_cube_looks_the_same_in_24_ways() -> None:
    turned = rotation((0.0, 0.0, 1.0), 25.0) @ rotation((0.6, 0.8, 0.0), 20.0)
    numbers = rotations.cube_numbers(turned)
    assert np.linalg.norm(numbers[0, :2]) == pytest.approx(np.sin(np.radians(20.0)))  # it is tilted by 20 degrees
    for alike in (rotation((1.0, 0.0, 0.0), 90.0), rotation((0.0, 1.0, 0.0), 180.0) @ rotation((0.0, 0.0, 1.0), 90.0)):
        np.testing.assert_allclose(rotations.cube_numbers(turned @ alike), numbers, atol=1e-12)
        assert rotations.cube_angle_deg(turned @ alike, turned) == pytest.approx(0.0, abs=1e-5)
    assert rotations.cube_angle_deg(rotations.cube_rotations(numbers), turned) == pytest.approx(0.0, abs=1e-5)
    level = rotation((0.0, 0.0, 1.0), 30.0)
    np.testing.assert_allclose(rotations.cube_numbers(level), [[0.0, 0.0, -0.5, np.sqrt(0.75)]], atol=1e-12)
    assert rotations.cube_angle_deg(level, rotation((0.0, 0.0, 1.0), 100.0)) == pytest.approx(20.0)


def parts(x: NDArray) -> Parts:
    return Parts(x[:1000], x[1000:1200], x[1200:])


def test_probes_read_what_is_there_and_not_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.STEPS", 200)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 5))
    y = np.stack([x @ np.arange(5.0), np.abs(x[:, 0]), rng.normal(size=1500)], axis=1)
    y[::7, 1] = np.nan  # not every frame has every label
    split, known = parts(x.astype(np.float32)), np.isfinite(y[1200:, 1])
    test_y = np.where(np.isfinite(y), y, 0.0)[1200:][known]
    fit = ~np.isnan(y[:1000, 1])
    linear = r_squared(linear_probe(x[:1000][fit], y[:1000][fit], x[1200:][known]), test_y, once(known.sum()))[0]
    targets = [Target(y[:1000, [n]], y[1000:1200, [n]], False) for n in range(3)]
    said = [network_probe(lambda sizes: mlp(5, sizes), split, targets, seed) for seed in (0, 0)]
    network = r_squared(np.concatenate(said[0], axis=1)[known], test_y, once(known.sum()))[0]
    assert linear[0] > 0.99
    assert network[0] > 0.95
    assert linear[1] < 0.1  # a fold is no line
    assert network[1] > 0.8
    assert max(linear[2], network[2]) < 0.05
    np.testing.assert_array_equal(*said)


def test_yes_and_no_weigh_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.STEPS", 200)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 3))
    yes = (x[:, :1] + 0.5 * rng.normal(size=(1500, 1)) > 1.5).astype(float)  # one in eleven
    target = Target(yes[:1000], yes[1000:1200], True)
    best = auroc(x[1200:, 0], yes[1200:, 0], once(300))[0]  # of who knows that nothing else tells
    for chance in (
        logistic_probe(x[:1000], yes[:1000], x[1200:]),
        network_probe(lambda sizes: mlp(3, sizes), parts(x.astype(np.float32)), [target], seed=0)[0],
    ):
        assert ((chance > 0.0) & (chance < 1.0)).all()
        assert auroc(chance[:, 0], yes[1200:, 0], once(300))[0] > best - 0.03
        assert balanced_accuracy(chance[:, 0], yes[1200:, 0], once(300))[0] > 0.85  # .5, if every yes were missed


def test_attention_finds_the_token_that_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of six tokens is marked and carries the answer; the mean of all says little of it."""
    monkeypatch.setattr("lewm_training.judge.regression.STEPS", 400)
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(1500, 6, 8)).astype(np.float32)
    marked = rng.integers(6, size=1500)
    tokens[:, :, 0] = 0.0
    tokens[np.arange(1500), marked, 0] = 4.0
    answer = tokens[np.arange(1500), marked, 1:2].astype(float)
    targets = [Target(answer[:1000], answer[1000:1200], False)]
    said = network_probe(lambda sizes: AttentivePooling(6, 8, 2, sizes), parts(tokens), targets, seed=0)[0]
    mean = tokens.mean(1).astype(float)
    assert r_squared(linear_probe(mean[:1000], answer[:1000], mean[1200:]), answer[1200:], once(300))[0, 0] < 0.3
    assert r_squared(said, answer[1200:], once(300))[0, 0] > 0.7


def test_scores_follow_their_definitions() -> None:
    true = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert r_squared(true + 1.0, true, once(4)) == pytest.approx(1.0 - 4.0 / 5.0)  # squares about 1.5 add up to 5
    assert pearson_r(5.0 - 2.0 * true, true, once(4)) == pytest.approx(-1.0)
    assert r_squared(np.full((4, 1), 1.5), true, once(4)) == pytest.approx(0.0)
    assert median(np.array([[9.0, 1.0], [5.0, 7.0], [3.0, 2.0]]), np.array([[1, 1, 1], [1, 0, 0]])).tolist() == [3, 1]
    # Two yes, three no: of six pairs four are right, and one is a tie. One wrong of two yes, one of three no.
    score, yes = np.array([0.9, 0.4, 0.1, 0.4, 0.6]), np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    assert auroc(score, yes, once(5)) == pytest.approx(4.5 / 6.0)
    assert balanced_accuracy(score, yes, once(5)) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_frame_that_counts_twice_is_as_two_frames() -> None:
    rng = np.random.default_rng(0)
    true, weights = rng.normal(size=(20, 2)), rng.integers(0, 3, 20)
    said, yes = true + rng.normal(size=(20, 2)), (rng.random(20) > 0.5).astype(float)
    rows = np.repeat(np.arange(20), weights)
    for score in (r_squared, pearson_r):
        expected = score(said[rows], true[rows], once(len(rows)))
        np.testing.assert_allclose(score(said, true, weights[None]), expected, atol=1e-9)
    for score in (auroc, balanced_accuracy):
        expected = score(said[rows, 0], yes[rows], once(len(rows)))
        np.testing.assert_allclose(score(said[:, 0], yes, weights[None]), expected)


def test_intervals_know_that_frames_of_an_episode_are_alike() -> None:
    """400 errors, normal: independent, their median is known to 1.25 * 1.96 / 20; in 16 episodes of one value each,
    five times as badly."""
    rng = np.random.default_rng(0)
    alone, alike = rng.normal(size=400), np.repeat(rng.normal(size=16), 25)
    widths = []
    for errors, episodes in ((alone, np.arange(400)), (alike, np.arange(400) // 25)):
        figure = with_interval(median(errors, episode_weights(episodes, seed=0)))
        low, high = figure["interval"]
        assert low <= figure["value"] <= high
        widths.append(high - low)
    assert widths[0] == pytest.approx(2 * 1.25 * 1.96 / 20, rel=0.3)
    assert widths[1] > 3.0 * widths[0]


def test_principal_components_keep_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, 3))
    x = (hidden @ rng.normal(size=(3, 50)) + 7.0).astype(np.float32)
    components = principal_components(x, 300, seed=0)
    r2 = r_squared(linear_probe(components[:300], hidden[:300], components[300:]), hidden[300:], once(100))
    assert (r2 > 0.99).all()


def test_episodes_to_fit_to_stop_and_to_test_are_disjoint(dataset: EpisodeDataset) -> None:
    split = split_episodes(dataset, {}, frames=20, seed=0)
    parts = [set((rows // STEPS).tolist()) for rows in (split.train, split.validation, split.test)]
    assert all(
        one.isdisjoint(other) for one, other in ((parts[0], parts[1]), (parts[1], parts[2]), (parts[0], parts[2]))
    )
    assert (len(split.train), len(split.validation), len(split.test)) == (80, 20, 20)
    assert not split.unseen


def provenance_of(source: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": source, "train": {"validation_fraction": 0.25}, "seed": 3}


def test_what_the_model_has_not_seen_is_tested_on_where_that_is_known(dataset: EpisodeDataset) -> None:
    _, unseen = dataset.split(0.25, 3)
    split = split_episodes(dataset, provenance_of(dataset.provenance), frames=20, seed=0)
    assert split.unseen
    assert set(split.test // STEPS) <= set(unseen)


@pytest.mark.parametrize("source", [{"file": "squares.h5"}, {"file": "squares.h5", "episodes": EPISODES}])
def test_a_name_alone_proves_nothing(dataset: EpisodeDataset, source: dict[str, Any]) -> None:
    split = split_episodes(dataset, provenance_of(source), frames=20, seed=0)
    assert not split.unseen
    assert set(split.test // STEPS) <= set(dataset.split(0.25, 3)[1])  # held out, if it is the same dataset


def test_another_dataset_of_the_same_name_is_another_one(dataset: EpisodeDataset, tmp_path: Path) -> None:
    again = [episode(number + EPISODES) for number in range(EPISODES)]
    other = EpisodeDataset.open(write_toy(tmp_path / "squares.h5", again))
    assert not split_episodes(other, provenance_of(dataset.provenance), frames=20, seed=0).unseen
    for source in (dataset.provenance, {"file": "other.h5"}, {"file": "squares.h5", "episodes": EPISODES + 1}, {}):
        assert not len(held_out_episodes(other, provenance_of(source))[1])
    renamed = tmp_path / "renamed.h5"
    shutil.copy(dataset.path, renamed)
    assert split_episodes(EpisodeDataset.open(renamed), provenance_of(dataset.provenance), frames=20, seed=0).unseen


def test_a_dataset_that_was_nearly_all_held_out_is_named(tmp_path: Path) -> None:
    three = EpisodeDataset.open(write_toy(tmp_path / "three.h5", [episode(number) for number in range(3)]))
    provenance = provenance_of(three.provenance) | {"train": {"validation_fraction": 0.6}}  # two of three
    with pytest.raises(DatasetError, match=r"three\.h5: probes need two episodes .* did not hold out, this has 1"):
        split_episodes(three, provenance, frames=20, seed=0)


@pytest.mark.parametrize("vectors", [False, True])
def test_states_are_the_same_with_what_is_before_them(dataset: EpisodeDataset, vectors: bool) -> None:
    inputs = InputSpec((CameraSpec("camera", 32),), (JOINTS,)) if vectors else None
    model, rows = random_model(inputs), np.arange(40)
    features = embed_everything(model, dataset, rows, batch=16)
    assert features.states.shape == (40, 1 + vectors, 16)
    np.testing.assert_allclose(features.states.reshape(40, -1), embed_flat(model, dataset, rows), atol=1e-5)
    assert features.cls.shape == (40, 32)
    assert features.patches.shape == (40, 4 * 4, 32)  # 32 px in patches of 8, 32 wide
    untrained = embed_flat(untrained_like(model, seed=1), dataset, rows)
    assert not np.allclose(features.states.reshape(40, -1), untrained)


def test_every_source_is_probed_for_every_label(dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.STEPS", 100)
    model = random_model(InputSpec((CameraSpec("camera", 32),), (JOINTS,)))
    report = probe_encoder(model, dataset, split_episodes(dataset, {}, frames=70, seed=0), seed=0)
    vectors = ("embedding", "CLS of camera", "vectors", "CLS before the projector", "mean patch")
    assert {(r["label"], r["encoder"], r["source"], r["probe"]) for r in report["probes"]} == {
        (label, encoder, source, probe)
        for label in report["labels"]
        for encoder in ("trained", "untrained")
        for source, probes in {**dict.fromkeys(vectors, ("linear", "mlp")), "all patches": ("attentive",)}.items()
        for probe in probes
    }
    assert report["missing"]["object yaw"] == "no column object_pose"
    found = {(r["label"], r["source"], r["probe"]): r for r in report["probes"] if r["encoder"] == "trained"}
    # The vectors are the joints; the frames hold the first two of them, and nothing of the others.
    assert found["joint positions", "vectors", "linear"]["r"]["value"] > 0.8
    seen = found["joint positions", "all patches", "attentive"]["r_of_components"]
    assert min(seen[:2]) > 0.6  # of no more than 280 frames to learn from
    assert max(seen[2:]) < 0.4  # by chance: three standard deviations of r over 70 frames
    contact = found["contact", "all patches", "attentive"]
    assert contact["auroc"]["value"] > 0.7  # by chance .5, and three standard deviations are .2
    assert contact["auroc"]["interval"][0] <= contact["auroc"]["value"] <= contact["auroc"]["interval"][1]
    assert report["labels"]["contact"]["guessing"] is None


def test_a_question_with_one_answer_is_none(tmp_path: Path) -> None:
    episodes = [episode(number) for number in range(4)]
    for columns in episodes:
        columns["contact"][:] = 0.0
    episodes[0]["contact"][0] = 1.0
    dataset = EpisodeDataset.open(write_toy(tmp_path / "touch.h5", episodes))
    question = next(label for label in labels_of(dataset, np.arange(320)) if label.name == "contact")
    assert why_not(question, np.array([80, 160])) == "always the same over the frames to test on"


def test_a_light_probe_reads_what_labels_there_are(dataset: EpisodeDataset) -> None:
    model, train, test = random_model(), np.arange(400), np.arange(560, 640)
    figures = light_probe(model, dataset, train, test)
    assert len(figures["probe/proprio_r2"]) == 7
    assert len(figures["probe/position_r2"]) == 3
    assert figures["probe/position_error_mm"] > 0.0
    del dataset.columns["ee_position"]
    try:
        assert light_probe(model, dataset, train, test).keys() == {"probe/proprio_r2"}
        dataset.columns["ee_position"] = np.full((len(dataset.columns["proprio"]), 3), 0.4)
        assert light_probe(model, dataset, train, test).keys() == {"probe/proprio_r2"}, "it never changes"
    finally:
        dataset.columns["ee_position"] = dataset.columns["proprio"][:, :3]


def test_retrieval_finds_what_came_where_the_model_is_right(
    dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that imagines the true embeddings retrieves the true frames, and from elsewhere what is best there."""
    checkpoint = Checkpoint(random_model(), joint_delta_space())
    episodes = np.arange(4)
    wrong = retrieve(checkpoint, dataset, episodes, seed=0, starts=10, bank=100)
    place = {row: z for row, z in zip(wrong.bank.tolist(), wrong.states, strict=True)}
    first = wrong.start - 2 * 5

    def perfect(_: Checkpoint, z: NDArray, actions: NDArray) -> NDArray:
        assert z.shape == (10, 3, 1, 16) and actions.shape == (10, 12, 35)
        return np.array([[place[row + 5 * step] for step in range(3, 13)] for row in first])

    monkeypatch.setattr("lewm_training.judge.retrieval._imagine", perfect)
    found = retrieve(checkpoint, dataset, episodes, seed=0, starts=10, bank=100)
    assert found.blocks_ahead == (1, 2, 3, 5, 10)
    np.testing.assert_array_equal(found.true, found.start[:, None] + 5 * np.array(found.blocks_ahead))
    np.testing.assert_array_equal(dataset.pixels[found.nearest], dataset.pixels[found.true])
    np.testing.assert_array_equal(found.nearest_elsewhere, found.best_elsewhere)
    assert (found.nearest_elsewhere // STEPS != found.start[:, None] // STEPS).all()
    assert found.latent_error.max() == 0.0
    assert wrong.latent_error.min() > 0.0


def test_rollouts_need_the_actions_that_the_model_knows(dataset: EpisodeDataset) -> None:
    slower = Checkpoint(random_model(), replace(joint_delta_space(), control_hz=10.0))
    with pytest.raises(DatasetError, match=r"acts in 'joint_delta' .* at 10 Hz, .* in 'joint_delta' .* at 20 Hz"):
        retrieve(slower, dataset, np.arange(4), seed=0)


def test_the_command_prints_a_table_and_draws(
    dataset: EpisodeDataset,
    checkpoint_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.STEPS", 2)
    command = ["probe", "--checkpoint", str(checkpoint_path), "--dataset", str(dataset.path), "--frames", "40"]
    command += ["--json", str(tmp_path / "probe.json"), "--figure", str(tmp_path / "probe.png")]
    assert main([*command, "--pictures", str(tmp_path / "pictures")]) == 0
    table = capsys.readouterr().out
    assert "joint positions" in table
    assert "all patches" in table
    assert "not probed: gripper opening (never changes" in table
    report = json.loads((tmp_path / "probe.json").read_text())
    assert report["frames"] == {"fit": 160, "stop": 40, "test": 40}
    assert sorted(number for part in report["episodes"].values() for number in part) == list(range(EPISODES))
    pictures = [tmp_path / "probe.png", *(tmp_path / "pictures").iterdir()]
    assert {path.name for path in pictures} == {"probe.png", "embedding.png", "retrieval.png", "retrieval_error.png"}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in pictures)


def test_states_of_patches_are_averaged_down_to_a_coarse_grid() -> None:
    model = random_patch_model()
    state = torch.arange(2 * 3 * 16.0).view(2, 3, 16, 1).expand(-1, -1, -1, 32)  # (.., K, D): 4 x 4 patches
    assert flat_states(model, state).shape == (2, 3, 16 * 32)  # as fine as the grid may be
    fine = LeWorldModel(replace(model.config, encoder=replace(model.config.encoder, patch_size=2)))
    token = torch.arange(256.0).view(1, 256, 1).expand(-1, -1, 32)  # 16 x 16 patches
    flat = flat_states(fine, token).view(32, 6, 6)
    assert flat.mean().item() == pytest.approx(127.5, abs=1.0)
    assert flat[0, 0, 0] < flat[0, 0, 5] < flat[0, 5, 5]


def test_a_model_of_patches_is_probed_by_them(dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lewm_training.judge.regression.STEPS", 2)
    report = probe_encoder(random_patch_model(), dataset, split_episodes(dataset, {}, frames=40, seed=0), seed=0)
    assert {record["source"] for record in report["probes"]} == {"embedding", "mean patch", "all patches"}


def test_too_few_episodes_are_refused(tmp_path: Path) -> None:
    two = EpisodeDataset.open(write_toy(tmp_path / "two.h5", [episode(number) for number in range(2)]))
    with pytest.raises(DatasetError, match=r"probes need three episodes .*, this has 2"):
        split_episodes(two, {}, 10, 0)
