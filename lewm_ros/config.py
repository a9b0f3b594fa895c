"""Frozen dataclasses for every component, read from and written to YAML.

An unknown key, a wrong type or an impossible combination raises `ConfigError` with one line that names the key, where
it stands and what would be right.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

SOLVERS = ("cem", "icem", "mppi", "gradient", "gauss_newton", "random")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class EncoderConfig:
    """The vision transformer that turns one frame into one CLS vector.

    `stem_channels` puts that many stride-2 convolutions (with BatchNorm) in place of the linear patch embedding, which
    sees small parts of the image after far fewer training steps (Xiao et al., 2021); empty is the paper's encoder.
    `norm_eps` is that of the LayerNorms: 1e-6 in timm, 1e-12 in the released LeWM weights.
    """

    image_size: int = 224
    patch_size: int = 14
    stem_channels: tuple[int, ...] = ()
    width: int = 192
    depth: int = 12
    heads: int = 3
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _require(self.image_size % self.patch_size == 0, "image_size", f"a multiple of patch_size {self.patch_size}")
        _require(self.width % self.heads == 0, "width", f"a multiple of heads {self.heads}")
        stride = 2 ** len(self.stem_channels)
        _require(self.patch_size % stride == 0, "patch_size", f"a multiple of {stride}, the stride of the stem")


@dataclass(frozen=True)
class PredictorConfig:
    """The causal transformer that predicts the next embedding from embeddings and actions."""

    depth: int = 6
    heads: int = 16
    head_dim: int = 64
    mlp_dim: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _require(0.0 <= self.dropout < 1.0, "dropout", "in [0, 1)")


@dataclass(frozen=True)
class ModelConfig:
    """LeWorldModel's architecture. The defaults are the paper's (arXiv 2603.19312): about 18 M parameters.

    `action_features` is the width of the action encoder's pointwise layer, `action_dim` if None.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    embedding_dim: int = 192
    projector_dim: int = 2048
    history: int = 3
    action_dim: int = 35
    action_features: int | None = None

    def __post_init__(self) -> None:
        _require(self.history >= 1, "history", "at least 1 model step")


@dataclass(frozen=True)
class PatchConfig:
    """The patch-token baseline: a frozen encoder, and a predictor of all patch tokens of the next frame.

    The defaults are LeWorldModel's sizes, so that the two differ in tokens per frame alone. With `timm_name`, the
    encoder is timm's model of that name; image, patch and width of `encoder` must then say what it is.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    timm_name: str = ""
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    width: int = 192
    history: int = 3
    action_dim: int = 35

    def __post_init__(self) -> None:
        _require(self.history >= 1, "history", "at least 1 model step")

    @property
    def tokens(self) -> int:
        """Patches of a frame, N."""
        return (self.encoder.image_size // self.encoder.patch_size) ** 2

    @property
    def embedding_dim(self) -> int:
        """Size D of a frame's patch tokens side by side."""
        return self.tokens * self.encoder.width


@dataclass(frozen=True)
class ProposalConfig:
    """The MLP that guesses where a search should begin."""

    width: int = 256
    depth: int = 2


@dataclass(frozen=True)
class GapConfig:
    """The MLP that guesses how many blocks lie between two embeddings."""

    width: int = 256
    depth: int = 2


@dataclass(frozen=True)
class SIGRegConfig:
    """Sketched isotropic Gaussian regularisation: `weight` is the method's one hyperparameter, lambda."""

    weight: float = 0.1
    directions: int = 1024
    knots: int = 17
    t_max: float = 3.0

    def __post_init__(self) -> None:
        _require(self.weight >= 0.0, "weight", "at least 0")
        _require(self.directions >= 1, "directions", "at least 1")
        _require(self.knots >= 2, "knots", "at least 2")
        _require(self.t_max > 0.0, "t_max", "above 0")


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe. One epoch is `steps_per_epoch` optimiser steps; checkpoints are written at its end.

    `anchored_fraction` of every batch comes from frames that differ only in the wrist. SIGReg tests a batch's spread:
    with such frames in it, joints 1 to 4 alone can no longer supply it, and the encoder has to look at the wrist.

    Off by default: `straightening`, the weight of 1 - cos between successive latent velocities (arXiv 2603.12231);
    `rollout_blocks` above 1, which adds the mean error of predictions fed back that many blocks ahead; `ema`, the decay
    of a moving average of the weights, which then takes their place in validation and in the checkpoint; `compile`.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
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
        _require(self.precision in ("bf16", "fp32"), "precision", "bf16 or fp32")
        _require(self.batch_size >= 2, "batch_size", "at least 2, since SIGReg and BatchNorm see the batch")
        for key in ("epochs", "steps_per_epoch", "rollout_blocks", "validation_windows"):
            _require(getattr(self, key) >= 1, key, "at least 1")
        for key in ("learning_rate", "gradient_clip"):
            _require(getattr(self, key) > 0.0, key, "above 0")
        for key in ("weight_decay", "straightening"):
            _require(getattr(self, key) >= 0.0, key, "at least 0")
        for key in ("anchored_fraction", "warmup_fraction", "ema"):
            _require(0.0 <= getattr(self, key) < 1.0, key, "in [0, 1)")
        _require(0.0 < self.validation_fraction < 1.0, "validation_fraction", "between 0 and 1")

    @property
    def window_frames(self) -> int:
        """Frames of a training window: the history, and as far ahead as the loss looks."""
        return max(self.model.history + self.rollout_blocks, 3 if self.straightening > 0.0 else 0)


@dataclass(frozen=True)
class PatchTrainConfig:
    """The training of the patch-token baseline: windows as LeWorldModel's, squared error of the next tokens.

    The encoder is that of the LeWorldModel checkpoint `encoder_checkpoint`, whose sizes then count in place of
    `model.encoder`; or timm's pretrained `model.timm_name`; or random. One epoch is `steps_per_epoch` optimiser steps;
    what was learned is saved at its end.
    """

    model: PatchConfig = field(default_factory=PatchConfig)
    encoder_checkpoint: str = ""
    batch_size: int = 16
    epochs: int = 20
    steps_per_epoch: int = 500
    learning_rate: float = 5e-4
    weight_decay: float = 1e-3
    warmup_fraction: float = 0.05
    gradient_clip: float = 1.0
    precision: str = "bf16"
    validation_fraction: float = 0.05
    validation_windows: int = 256

    def __post_init__(self) -> None:
        _require(self.precision in ("bf16", "fp32"), "precision", "bf16 or fp32")
        for key in ("batch_size", "epochs", "steps_per_epoch", "validation_windows"):
            _require(getattr(self, key) >= 1, key, "at least 1")
        _require(0.0 < self.warmup_fraction < 1.0, "warmup_fraction", "between 0 and 1")
        _require(0.0 < self.validation_fraction < 1.0, "validation_fraction", "between 0 and 1")
        _require(not (self.encoder_checkpoint and self.model.timm_name), "encoder_checkpoint", "empty with a timm_name")


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
        _require(0.0 < self.gap_expectile < 1.0, "gap_expectile", "between 0 and 1")
        _require(0.0 < self.validation_fraction < 1.0, "validation_fraction", "between 0 and 1")
        for key in ("steps", "batch_size"):
            _require(getattr(self, key) >= 1, key, "at least 1")
        for key in ("longest_s", "learning_rate"):
            _require(getattr(self, key) > 0.0, key, "above 0")


@dataclass(frozen=True)
class PlannerConfig:
    """The search in latent space. One plan covers `horizon` blocks beyond the one that is being executed.

    `solver` is cem (as in the paper), icem, mppi, gradient, gauss_newton or random. Every one works in `iterations`,
    those that sample with `samples` candidates in each, keeps to the action bounds, and never returns anything worse
    than what it started from. Of a block, `knots_per_block` actions are free, each held for its share of the block's
    control steps. `initial_std` and `minimum_std` are in z-scored actions.

    The cost adds up weighted terms. `latent_weight`, `map_weight` (the proposal's map) and `gap_weight` (the learned
    number of blocks to the goal) are distances to the goal at the last step, plus `running_weight` times their mean
    over all steps: a loop that replans at every block needs some of the latter, since with the last step alone arriving
    can be put off from plan to plan. `smoothness_weight` is on the squared change between successive actions, and
    `limit_weight` on coming closer than `limit_margin_rad` to the edge of the joint positions known from training.

    A search ends early once the elites' std falls below `agreement_std`, and after `deadline_ms` at the latest.
    """

    solver: str = "cem"
    horizon: int = 5
    samples: int = 300
    iterations: int = 10
    elites: int = 30
    initial_std: float = 1.0
    minimum_std: float = 0.05
    knots_per_block: int = 5
    precision: str = "bf16"
    latent_weight: float = 1.0
    running_weight: float = 0.0
    map_weight: float = 0.0
    gap_weight: float = 0.0
    smoothness_weight: float = 0.0
    limit_weight: float = 0.0
    limit_margin_rad: float = 0.1
    agreement_std: float = 0.0
    deadline_ms: float = 60_000.0
    icem_noise_exponent: float = 2.0
    icem_kept_fraction: float = 0.3
    icem_population_decay: float = 1.25
    icem_momentum: float = 0.1
    mppi_temperature: float = 0.1
    gradient_step: float = 0.1

    def __post_init__(self) -> None:
        _require(self.solver in SOLVERS, "solver", f"one of {', '.join(SOLVERS)}")
        _require(1 <= self.elites <= self.samples, "elites", f"between 1 and samples {self.samples}")
        for key in ("horizon", "iterations", "knots_per_block"):
            _require(getattr(self, key) >= 1, key, "at least 1")
        for key in ("initial_std", "limit_margin_rad", "deadline_ms", "mppi_temperature", "gradient_step"):
            _require(getattr(self, key) > 0.0, key, "above 0")
        weights = ("latent", "running", "map", "gap", "smoothness", "limit")
        for key in ("minimum_std", "agreement_std", "icem_noise_exponent", *(f"{name}_weight" for name in weights)):
            _require(getattr(self, key) >= 0.0, key, "at least 0")
        _require(0.0 <= self.icem_kept_fraction <= 1.0, "icem_kept_fraction", "in [0, 1]")
        _require(self.icem_population_decay >= 1.0, "icem_population_decay", "at least 1")
        _require(0.0 <= self.icem_momentum < 1.0, "icem_momentum", "in [0, 1)")
        _require(self.precision in ("bf16", "fp32"), "precision", "bf16 or fp32")


def _require(holds: bool, key: str, right: str) -> None:
    if not holds:
        raise ConfigError(f"{key}: must be {right}")


def from_mapping(cls: type[T], mapping: Any, where: str = "") -> T:
    """Build the dataclass `cls` from a nested mapping.

    Args:
        cls: a dataclass whose fields are scalars, strings, tuples or dataclasses.
        mapping: what YAML or JSON gave.
        where: the file or section named in errors.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range.
    """
    place = where or cls.__name__
    if not isinstance(mapping, dict):
        raise ConfigError(f"{place}: expected a mapping of settings, got {type(mapping).__name__}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in mapping.items():
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(names)}"
            raise ConfigError(f"{place}: unknown key '{key}'; {hint}")
        values[key] = _convert(hints[key], value, f"{place}: {key}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    except TypeError as error:
        missing = [f.name for f in dataclasses.fields(cls) if _is_required(f) and f.name not in values]  # type: ignore[arg-type]
        raise ConfigError(f"{place}: missing key '{missing[0]}'" if missing else f"{place}: {error}") from None


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, place)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, place)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{place}: expected a list, got {value!r}")
        return tuple(_convert(arguments[0], item, f"{place}[{index}]") for index, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 5e-5 as a string.
        try:
            return float(value)
        except ValueError:
            pass
    if hint in (int, float, str, bool) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigError(f"{place}: expected {hint.__name__}, got {value!r}")
    return value


def to_mapping(config: Any) -> dict[str, Any]:
    """The nested mapping that `from_mapping` reads back."""
    return dataclasses.asdict(config)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        ConfigError: the file is missing or is not YAML; the message names the file and the line.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid YAML{line}") from None


def load(cls: type[T], path: Path) -> T:
    """Read a YAML file into the dataclass `cls`; see `from_mapping` for the errors."""
    return from_mapping(cls, read_yaml(path), str(path))
