"""How the networks are trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from lewm_ros.config.mapping import require
from lewm_ros.config.model import DecoderConfig, GapConfig, ModelConfig, PolicyConfig, ProposalConfig
from lewm_ros.config.setting import check_settings


@dataclass(frozen=True)
class SIGRegConfig:
    """Sketched isotropic Gaussian regularisation: `weight` is the method's one hyperparameter, lambda."""

    weight: float = 0.1
    directions: int = 1024
    knots: int = 17
    t_max: float = 3.0

    def __post_init__(self) -> None:
        check_settings(self)
        require(self.weight >= 0.0, "weight", "at least 0")
        require(self.knots >= 2, "knots", "at least 2")
        require(self.t_max > 0.0, "t_max", "above 0")


@dataclass(frozen=True)
class CropConfig:
    """What is used of the frames of one camera: left, top, right, bottom as shares of their sides."""

    camera: str
    box: tuple[float, ...]


@dataclass(frozen=True)
class InputsConfig:
    """What of a dataset a model takes in.

    Args:
        cameras: their names, in order; empty: all.
        vectors: columns such as proprio (joint positions) and gripper, in order.
        goal_cameras: those that a goal has a frame of; empty: all.
        goal_vectors: whether a goal has the vectors; a goal image usually comes without.
        crops: what is used of the frames of some cameras; of the others it is the central square.
    """

    cameras: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    goal_cameras: tuple[str, ...] = ()
    goal_vectors: bool = False
    crops: tuple[CropConfig, ...] = ()

    def __post_init__(self) -> None:
        if self.cameras:
            for key, names in (("goal_cameras", self.goal_cameras), ("crops", [crop.camera for crop in self.crops])):
                unknown = [name for name in names if name not in self.cameras]
                require(not unknown, key, f"among cameras, '{unknown[0] if unknown else ''}' is not")


@dataclass(frozen=True)
class ReadoutConfig:
    """A linear head that reads a column of the dataset from every state while training, and is then thrown away.

    Its squared error, on z-scored numbers, joins the loss with this weight (PSG-JEPA, arXiv 2608.06799). It sees the
    tokens that a goal has, so that what it asks for is in the images' tokens.

    With `at_grasp`, the head reads what the column will be when the gripper next closes: of the hand's position, that
    is where the object lies, of which a recording of a real arm has no column.
    """

    column: str
    weight: float = 0.1
    at_grasp: bool = False

    @property
    def name(self) -> str:
        """Of what is read."""
        return f"{self.column}_at_grasp" if self.at_grasp else self.column

    def __post_init__(self) -> None:
        check_settings(self)
        require(self.weight > 0.0, "weight", "above 0")


@dataclass(frozen=True)
class WayToGraspConfig:
    """A head that reads, while training, how the hand has yet to move and turn until the gripper next closes.

    Seen from the hand, which is how its camera sees it: near an object that is where the object lies, and how it is
    turned. It sees the tokens of every camera, and is asked while the way is at most `within_m` long.

    Args:
        position, orientation: columns of the hand's position and of its quaternion w, x, y, z.
        within_m: the longest way that is asked for.
        weight: of the squared error, on z-scored numbers, in the loss.
    """

    position: str = "ee_position"
    orientation: str = "ee_quaternion"
    within_m: float = 0.12
    weight: float = 0.3

    def __post_init__(self) -> None:
        check_settings(self)
        require(self.within_m > 0.0, "within_m", "above 0")
        require(self.weight > 0.0, "weight", "above 0")


@dataclass(frozen=True)
class BehaviourConfig:
    """A policy that learns with the model, so that the state has to say what a demonstrator goes by.

    It sees every state and the goal's, which are encoded from frames of the same episode, and its error joins the loss
    with this weight. The share `final_share` of the goals are the last frame of the episode; the others lie anywhere
    between the window and that, or at most `goal_within` control steps after the window (None: however far).
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    weight: float = 1.0
    final_share: float = 0.5
    goal_within: int | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        require(self.weight > 0.0, "weight", "above 0")
        require(0.0 <= self.final_share <= 1.0, "final_share", "from 0 to 1")
        require(self.goal_within is None or self.goal_within >= 1, "goal_within", "at least 1, or nothing")


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe. One epoch is `steps_per_epoch` optimiser steps; checkpoints are written at its end.

    `anchored_fraction` of every batch comes from frames that differ only in the wrist. SIGReg tests a batch's spread:
    with such frames in it, joints 1 to 4 alone can no longer supply it, and the encoder has to look at the wrist.

    `action_block` is the control steps of a model step, by which `model.action_dim` follows from the dataset's actions;
    None: `model.action_dim` says it.

    `encoder_checkpoint` is a checkpoint whose encoder the model begins with; its sizes then count in place of
    `model.encoder`. A model of patch tokens needs that, or a `timm_name`, to have an encoder that has learned anything.

    `start_checkpoint` is a checkpoint of the same sizes and inputs whose weights the model begins with, and the policy
    if it has one, as far as it is configured alike.

    `episodes` says how many of the dataset's are trained on, drawn by the seed (None: all that are not held out).

    Off by default: `readouts` and `way_to_grasp`, what heads read from the states while training; `behaviour`, a policy
    that learns along; `straightening`, the weight of 1 - cos between successive latent velocities (arXiv 2603.12231);
    `rollout_blocks` above 1, which adds the mean error of predictions fed back that many blocks ahead; `ema`, the decay
    of a moving average of the weights, which then takes their place in validation and in the checkpoint; `compile`.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    inputs: InputsConfig = field(default_factory=InputsConfig)
    action_block: int | None = None
    encoder_checkpoint: str = ""
    start_checkpoint: str = ""
    episodes: int | None = None
    readouts: tuple[ReadoutConfig, ...] = ()
    way_to_grasp: WayToGraspConfig | None = None
    behaviour: BehaviourConfig | None = None
    sigreg: SIGRegConfig = field(default_factory=SIGRegConfig)
    batch_size: int = 128
    anchored_fraction: float = 0.0
    epochs: int = 100
    steps_per_epoch: int = 500
    learning_rate: float = 5e-5
    weight_decay: float = 1e-3
    warmup_fraction: float = 0.01
    gradient_clip: float = 1.0
    straightening: float = 0.0
    rollout_blocks: int = 1
    ema: float = 0.0
    precision: str = "bf16"
    compile: bool = False
    validation_fraction: float = 0.05
    validation_windows: int = 256
    probe_frames: int = 2000

    def __post_init__(self) -> None:
        check_settings(self)
        require(self.precision in ("bf16", "fp32"), "precision", "bf16 or fp32")
        require(self.batch_size >= 2, "batch_size", "at least 2, since SIGReg and BatchNorm see the batch")
        for key in ("learning_rate", "gradient_clip"):
            require(getattr(self, key) > 0.0, key, "above 0")
        for key in ("weight_decay", "straightening"):
            require(getattr(self, key) >= 0.0, key, "at least 0")
        for key in ("anchored_fraction", "warmup_fraction", "ema"):
            require(0.0 <= getattr(self, key) < 1.0, key, "in [0, 1)")
        require(0.0 < self.validation_fraction < 1.0, "validation_fraction", "between 0 and 1")

    @property
    def window_frames(self) -> int:
        """Frames of a training window: the history, and as far ahead as the loss looks."""
        return max(self.model.history + self.rollout_blocks, 3 if self.straightening > 0.0 else 0)


@dataclass(frozen=True)
class ProposalTrainConfig:
    """How proposal and gap are trained on a checkpoint's embeddings, with pairs of frames at most `longest_s` apart.

    `noise` is added to the embeddings, since in the loop the two also see predicted ones. With `gap` null, none is
    trained. `gap_expectile` says where its estimate lies, between the fewest (0) and the most (1) blocks that led from
    one frame to the other.
    """

    proposal: ProposalConfig = field(default_factory=ProposalConfig)
    gap: GapConfig | None = None
    gap_expectile: float = 0.02
    longest_s: float = 4.0
    steps: int = 4000
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    noise: float = 0.1
    validation_fraction: float = 0.05

    def __post_init__(self) -> None:
        check_settings(self)
        require(0.0 < self.gap_expectile < 1.0, "gap_expectile", "between 0 and 1")
        require(0.0 < self.validation_fraction < 1.0, "validation_fraction", "between 0 and 1")
        for key in ("weight_decay", "noise"):
            require(getattr(self, key) >= 0.0, key, "at least 0")
        for key in ("longest_s", "learning_rate"):
            require(getattr(self, key) > 0.0, key, "above 0")


@dataclass(frozen=True)
class PolicyTrainConfig:
    """How a policy is trained on a checkpoint's states, which stay as they are.

    Goals are later frames of the same episode; of the share `final_share` it is the last, the others are at most
    `goal_within` control steps later (None: however far). `episodes` says how many are learned from (None: all);
    `stride` leaves frames out: one of so many is used. `noise` is added to the states, in their standard deviations:
    without it, what the policy itself leads to soon looks like nothing demonstrated.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    final_share: float = 0.7
    goal_within: int | None = None
    episodes: int | None = None
    stride: int = 2
    steps: int = 2500
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 5e-2
    noise: float = 0.2
    validation_fraction: float = 0.05

    def __post_init__(self) -> None:
        check_settings(self)
        require(0.0 <= self.final_share <= 1.0, "final_share", "from 0 to 1")
        require(self.goal_within is None or self.goal_within >= 1, "goal_within", "at least 1, or nothing")
        require(0.0 < self.validation_fraction < 1.0, "validation_fraction", "between 0 and 1")
        require(self.learning_rate > 0.0, "learning_rate", "above 0")
        for key in ("weight_decay", "noise"):
            require(getattr(self, key) >= 0.0, key, "at least 0")


@dataclass(frozen=True)
class DecoderTrainConfig:
    """How a decoder is trained on what a checkpoint's encoder gives, which stays as it is."""

    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    validation_fraction: float = 0.05

    def __post_init__(self) -> None:
        check_settings(self)
        require(0.0 < self.validation_fraction < 1.0, "validation_fraction", "between 0 and 1")
        require(self.weight_decay >= 0.0, "weight_decay", "at least 0")
        require(self.learning_rate > 0.0, "learning_rate", "above 0")
