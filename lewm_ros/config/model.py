"""What the networks look like."""

from __future__ import annotations

from dataclasses import dataclass, field

from lewm_ros.config.mapping import require, require_numbers


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
        require_numbers(self)
        require(self.norm_eps > 0.0, "norm_eps", "above 0")
        require(self.image_size % self.patch_size == 0, "image_size", f"a multiple of patch_size {self.patch_size}")
        require(self.width % self.heads == 0, "width", f"a multiple of heads {self.heads}")
        stride = 2 ** len(self.stem_channels)
        require(self.patch_size % stride == 0, "patch_size", f"a multiple of {stride}, the stride of the stem")


@dataclass(frozen=True)
class PredictorConfig:
    """The causal transformer that predicts the next embedding from embeddings and actions."""

    depth: int = 6
    heads: int = 16
    head_dim: int = 64
    mlp_dim: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require_numbers(self)
        require(0.0 <= self.dropout < 1.0, "dropout", "in [0, 1)")


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
        require_numbers(self)


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
        require_numbers(self)

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

    def __post_init__(self) -> None:
        require_numbers(self)


@dataclass(frozen=True)
class GapConfig:
    """The MLP that guesses how many blocks lie between two embeddings."""

    width: int = 256
    depth: int = 2

    def __post_init__(self) -> None:
        require_numbers(self)
