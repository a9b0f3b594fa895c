"""What the networks look like."""

from __future__ import annotations

from dataclasses import dataclass, field

from lewm_ros.config.mapping import require
from lewm_ros.config.setting import check_settings, setting


@dataclass(frozen=True)
class EncoderConfig:
    """The vision transformer that turns a frame into tokens.

    Args:
        image_size: height and width of a frame, pixels.
        patch_size: of a patch, pixels.
        stem_channels: so many stride-2 convolutions (with BatchNorm) in place of the linear patch embedding, which sees
            small parts of the image after far fewer training steps (Xiao et al., 2021); empty is the paper's encoder.
        width, depth, heads: of the transformer.
        registers: tokens beside the CLS token that belong to no patch (Darcet et al., 2309.16588).
        norm_eps: of the LayerNorms; 1e-6 in timm, 1e-12 in the released LeWM weights.
        timm_name: a VisionTransformer of timm of these sizes, with pretrained weights, in place of a new one.
    """

    image_size: int = 224
    patch_size: int = 14
    stem_channels: tuple[int, ...] = ()
    width: int = 192
    depth: int = 12
    heads: int = 3
    registers: int = setting(0, "tokens beside the CLS token that belong to no patch", "tokens", 0, 64)
    norm_eps: float = 1e-6
    timm_name: str = ""

    def __post_init__(self) -> None:
        check_settings(self)
        require(self.norm_eps > 0.0, "norm_eps", "above 0")
        require(self.image_size % self.patch_size == 0, "image_size", f"a multiple of patch_size {self.patch_size}")
        require(self.width % self.heads == 0, "width", f"a multiple of heads {self.heads}")
        stride = 2 ** len(self.stem_channels)
        require(self.patch_size % stride == 0, "patch_size", f"a multiple of {stride}, the stride of the stem")

    @property
    def patches(self) -> int:
        """Of a frame."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class PredictorConfig:
    """The causal transformer that predicts the next embedding from embeddings and actions."""

    depth: int = 6
    heads: int = 16
    head_dim: int = 64
    mlp_dim: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self)
        require(0.0 <= self.dropout < 1.0, "dropout", "in [0, 1)")


@dataclass(frozen=True)
class ModelConfig:
    """A world model's architecture. The defaults are LeWorldModel's (arXiv 2603.19312): about 18 M parameters.

    Its state is K tokens of width D: for every camera the encoder's `tokens`, and one token of all vectors, if there
    are any. With one camera and no vectors K is 1, as published.

    Args:
        encoder: turns frames into tokens.
        predictor: predicts the next state.
        tokens: `cls`: the CLS token and the registers, through a projector that learns with all the rest; `patches`:
            every patch token of a frozen encoder, normalised. The latter is the baseline, of the kind of DINO-WM
            (arXiv 2411.04983) and V-JEPA 2-AC (arXiv 2506.09985).
        embedding_dim: width D of a token; of patches it is the encoder's.
        predictor_width: width of the predictor's layers; None: D.
        projector_dim: hidden width of the projectors.
        history: model steps that the predictor looks back on.
        action_dim: size A of an action block.
        action_features: width of the action encoder's pointwise layer; None: A.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    tokens: str = "cls"
    embedding_dim: int = 192
    predictor_width: int | None = None
    projector_dim: int = 2048
    history: int = 3
    action_dim: int = 35
    action_features: int | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        require(self.tokens in ("cls", "patches"), "tokens", "cls or patches")
        if self.tokens == "patches":
            width = self.encoder.width
            require(self.embedding_dim == width, "embedding_dim", f"{width}, as encoder.width")

    @property
    def width(self) -> int:
        """Of the predictor's layers."""
        return self.predictor_width or self.embedding_dim

    @property
    def tokens_per_frame(self) -> int:
        """Of one camera."""
        return self.encoder.patches if self.tokens == "patches" else 1 + self.encoder.registers


@dataclass(frozen=True)
class ProposalConfig:
    """The MLP that guesses where a search should begin."""

    width: int = 256
    depth: int = 2

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class PolicyConfig:
    """The MLP that guesses what a demonstrator would do next, and how long it would take to the goal.

    `blind_to` names cameras, and `vectors` for joint states and the like, whose tokens it does not look at: to find out
    what they are good for, or since it would go by them where it should go by what it sees. With `modes` above 1 it
    tells so many ways to go on apart, and takes the likeliest, where their median would be to stay between them. If it
    is `paced`, what it would do depends on how many control steps there are for it: demonstrators who wander past a
    goal on their way elsewhere do not show how to get there soon, but how they got there within so many steps.
    """

    width: int = 512
    depth: int = 3
    blind_to: tuple[str, ...] = ()
    modes: int = 1
    paced: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class FamiliarityConfig:
    """What says whether a goal looks like those of demonstrations.

    The share `shrinkage` of the covariance's entries off its diagonal is taken away: from few goals they are too large.
    """

    shrinkage: float = 0.03

    def __post_init__(self) -> None:
        check_settings(self)
        require(0.0 <= self.shrinkage <= 1.0, "shrinkage", "from 0 to 1")


@dataclass(frozen=True)
class GapConfig:
    """The MLP that guesses how many blocks lie between two embeddings."""

    width: int = 256
    depth: int = 2

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class DecoderConfig:
    """The network that paints what a state holds.

    Args:
        source: what it paints from: `state`, all tokens; `cls`, the CLS token of the first camera alone; `patches`, the
            encoder's patch tokens of all cameras.
        width: channels of its layers.
        hidden: width of the layer between tokens and the coarsest grid; patch tokens need none.
    """

    source: str = setting("state", "what frames are painted from", choices=("state", "cls", "patches"))
    width: int = 64
    hidden: int = 192

    def __post_init__(self) -> None:
        check_settings(self)
