"""What a model takes in: frames cropped and resized, vectors z-scored, all in order; what does not fit is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lewm_ros.config import ConfigError, ModelConfig, from_mapping, to_mapping
from lewm_ros.model import LeWorldModel
from lewm_ros.model.inputs import observation_inputs, to_inputs
from lewm_ros.observation.input_spec import CameraSpec, InputSpec, VectorSpec, fit_frame
from lewm_ros.observation.observation import Observation

JOINTS = VectorSpec("proprio", ("a", "b"), (1.0, 2.0), (0.5, 0.25))
SPEC = InputSpec((CameraSpec("scene", 4), CameraSpec("wrist", 4, in_goal=False)), (JOINTS,))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_central_square_is_taken_and_resized() -> None:
    frame = np.zeros((4, 8, 3), dtype=np.uint8)
    frame[:, 2:6] = 255  # the central square
    assert fit_frame(frame, 2).tolist() == np.full((2, 2, 3), 255).tolist()
    same = noise(4, 4)
    np.testing.assert_array_equal(fit_frame(same, 4), same)


def test_a_crop_is_taken_instead() -> None:
    frame = np.zeros((10, 20, 3), dtype=np.uint8)
    frame[5:, 15:] = 200
    np.testing.assert_array_equal(CameraSpec("scene", 5, (0.75, 0.5, 1.0, 1.0)).fit(frame), np.full((5, 5, 3), 200))


def test_an_observation_may_hold_more_than_the_model_takes() -> None:
    frames = {"wrist": noise(4, 6, 1), "other": noise(2, 2), "scene": noise(8, 8)}
    seen = SPEC.fit(Observation(frames, {"proprio": np.ones(2), "gripper": np.ones(1)}, stamp_ns=7))
    assert list(seen.frames) == ["scene", "wrist"]
    assert (list(seen.vectors), seen.stamp_ns) == (["proprio"], 7)
    goal = SPEC.of_goal()
    assert [camera.name for camera in goal.cameras] == ["scene"]
    assert goal.vectors == ()


@pytest.mark.parametrize(
    ("frames", "vectors", "words"),
    [
        ({"scene": noise(4, 4)}, {"proprio": np.ones(2)}, "takes cameras scene, wrist; the observation has scene"),
        ({"scene": noise(4, 4), "wrist": noise(4, 4)}, {}, "vector 'proprio' is missing; there is none"),
        ({"scene": noise(4, 4), "wrist": noise(4, 4)}, {"proprio": np.ones(3)}, "expected 2 numbers"),
        ({"scene": noise(4, 4), "wrist": noise(4, 4)}, {"proprio": np.array([0.0, np.nan])}, "not finite"),
        ({"scene": noise(4, 4), "wrist": np.zeros((4, 4))}, {"proprio": np.ones(2)}, "camera 'wrist': expected an RGB"),
    ],
)
def test_what_does_not_fit_is_named(frames: dict, vectors: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SPEC.fit(Observation(frames, vectors))


def test_the_only_camera_is_the_only_camera() -> None:
    alone = InputSpec((CameraSpec("scene", 4),))
    assert alone.sources(["front"], "the recording") == {"scene": "front"}
    with pytest.raises(ConfigError, match="takes camera scene; the recording has front, back"):
        alone.sources(["front", "back"], "the recording")


def test_live_and_batched_inputs_are_the_same_to_the_bit() -> None:
    frames = {"scene": noise(4, 4, 1), "wrist": noise(4, 4, 2)}
    vectors = {"proprio": np.array([1.5, 1.75])}
    live = observation_inputs(SPEC, Observation(frames, vectors))
    batch = {name: torch.from_numpy(np.stack([value])) for name, value in (frames | vectors).items()}
    recorded = to_inputs(SPEC, batch)
    assert list(live) == list(recorded) == ["scene", "wrist", "proprio"]
    for name, tensor in live.items():
        assert torch.equal(tensor, recorded[name]), name
    assert live["proprio"].tolist() == [[1.0, -1.0]]  # (1.5 - 1) / 0.5, (1.75 - 2) / 0.25


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CameraSpec("scene", 0), "size must be at least 1"),
        (lambda: CameraSpec("scene", 4, (0.5, 0.0, 0.2, 1.0)), "crop must be left, top, right, bottom"),
        (lambda: CameraSpec("scene", 4, normalisation="none"), "normalisation must be imagenet"),
        (lambda: VectorSpec("q", ("a",), (0.0,), (0.0,)), "every std above 0"),
        (lambda: VectorSpec("q", ("a", "b"), (0.0,), (1.0,)), "a name, a mean and a std for each"),
        (lambda: InputSpec(()), "at least one camera"),
        (lambda: InputSpec((CameraSpec("a", 4), CameraSpec("b", 5))), "the same size"),
        (lambda: InputSpec((CameraSpec("a", 4, in_goal=False),)), "a frame of at least one camera"),
        (lambda: InputSpec((CameraSpec("a", 4), CameraSpec("a", 4))), "each name only once"),
        (
            lambda: InputSpec((CameraSpec("a", 4),), (JOINTS, replace(JOINTS, name="q", in_goal=True))),
            "all vectors or none",
        ),
    ],
)
def test_a_specification_that_contradicts_itself_is_refused(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_it_is_written_and_read_back() -> None:
    assert from_mapping(InputSpec, to_mapping(SPEC)) == SPEC


def test_a_state_has_a_token_for_every_view_and_one_for_all_vectors() -> None:
    from conftest import small_model_config

    spec = InputSpec(tuple(replace(camera, size=32) for camera in SPEC.cameras), SPEC.vectors)
    model = LeWorldModel(small_model_config(), spec).eval()
    assert (model.tokens, model.goal_tokens) == (3, (0,))
    inputs = {"scene": torch.randn(2, 3, 32, 32), "wrist": torch.randn(2, 3, 32, 32), "proprio": torch.randn(2, 2)}
    z = model.encode(inputs)
    assert z.shape == (2, 3, 16)
    for name, token in (("scene", 0), ("wrist", 1), ("proprio", 2)):
        moved = (model.encode(inputs | {name: inputs[name] + 1.0}) - z).abs().amax(-1)
        assert [bool(change > 0.0) for change in moved[0]] == [place == token for place in range(3)], name
    torch.testing.assert_close(model.encode_goal({"scene": inputs["scene"]}), z[:, :1])
    with pytest.raises(ConfigError, match="is of 4 px, the encoder takes 32 px"):
        LeWorldModel(small_model_config(), SPEC)
    assert isinstance(model.config, ModelConfig)
