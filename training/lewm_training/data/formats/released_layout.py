"""What is what in released LeWM weights: their `config.json` and the names of their tensors, in both directions.

The release describes a model by the arguments of the classes in `stable_worldmodel.wm.lewm`; its encoder is a Hugging
Face ViT. This project's model is the same function with other names, and its ViT keeps query, key and value in one
matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lewm_ros.config import ConfigError, EncoderConfig, ModelConfig, PredictorConfig, from_mapping
from lewm_ros.model.checkpoint import CheckpointError

MODEL = "stable_worldmodel.wm.lewm.LeWM"
PARTS = {
    "encoder": "stable_pretraining.backbone.utils.vit_hf",
    "predictor": "stable_worldmodel.wm.lewm.module.Predictor",
    "action_encoder": "stable_worldmodel.wm.lewm.module.Embedder",
    "projector": "stable_worldmodel.wm.lewm.module.MLP",
    "pred_proj": "stable_worldmodel.wm.lewm.module.MLP",
}
BATCH_NORM = {"_target_": "torch.nn.BatchNorm1d", "_partial_": True}

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, depth and heads that the encoder's `size` stands for."""


@dataclass(frozen=True)
class ReleasedEncoder:
    """Arguments of `vit_hf`, with its defaults; where None, `size` gives the value."""

    size: str = "tiny"
    patch_size: int = 16
    image_size: int = 224
    pretrained: bool = False
    use_mask_token: bool = True
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    intermediate_size: int | None = None
    layer_norm_eps: float = 1e-12


@dataclass(frozen=True)
class ReleasedPredictor:
    """Arguments of `Predictor`, with its defaults."""

    num_frames: int
    input_dim: int
    hidden_dim: int
    depth: int
    heads: int
    mlp_dim: int
    output_dim: int | None = None
    dim_head: int = 64
    dropout: float = 0.0
    emb_dropout: float = 0.0


@dataclass(frozen=True)
class ReleasedActionEncoder:
    """Arguments of `Embedder`, with its defaults."""

    input_dim: int = 10
    smoothed_dim: int = 10
    emb_dim: int = 10
    mlp_scale: int = 4


@dataclass(frozen=True)
class ReleasedMLP:
    """Arguments of `MLP`, whose default norm is not the one of the release."""

    input_dim: int
    hidden_dim: int
    output_dim: int | None = None
    norm_fn: Any = None


@dataclass(frozen=True)
class ReleasedConfig:
    """`config.json` without the names of the classes."""

    encoder: ReleasedEncoder
    predictor: ReleasedPredictor
    action_encoder: ReleasedActionEncoder
    projector: ReleasedMLP
    pred_proj: ReleasedMLP


def read_architecture(content: Any, where: str) -> ModelConfig:
    """The architecture that a parsed `config.json` describes.

    Args:
        content: what JSON gave.
        where: the file, for errors.

    Raises:
        CheckpointError: it describes another model, or one that this project's model cannot express.
    """
    sections = dict(content) if isinstance(content, dict) else {}
    _require(where, "_target_", sections.pop("_target_", None), MODEL)
    for name, target in PARTS.items():
        if not isinstance(sections.get(name), dict):
            raise CheckpointError(f"{where}: section '{name}' is missing")
        sections[name] = dict(sections[name])
        _require(where, f"{name}._target_", sections[name].pop("_target_", None), target)
    try:
        return _architecture(from_mapping(ReleasedConfig, sections, where), where)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def _architecture(config: ReleasedConfig, where: str) -> ModelConfig:
    encoder, predictor, actions = config.encoder, config.predictor, config.action_encoder
    if encoder.size not in SIZES:
        raise CheckpointError(f"{where}: encoder.size is {encoder.size!r}; known: {', '.join(SIZES)}")
    width, depth, heads = SIZES[encoder.size]
    hidden = encoder.intermediate_size or 4 * width
    width = encoder.hidden_size or width
    dim = predictor.input_dim
    for name, value, right in (
        ("encoder.pretrained", encoder.pretrained, False),
        ("encoder.use_mask_token", encoder.use_mask_token, False),
        ("encoder.intermediate_size", hidden, 4 * width),
        ("predictor.hidden_dim", predictor.hidden_dim, dim),
        ("predictor.output_dim", predictor.output_dim or dim, dim),
        ("predictor.emb_dropout", predictor.emb_dropout, 0.0),
        ("action_encoder.emb_dim", actions.emb_dim, dim),
        ("action_encoder.mlp_scale", actions.mlp_scale, 4),
        ("projector.input_dim", config.projector.input_dim, width),
        ("projector.output_dim", config.projector.output_dim or width, dim),
        ("projector.norm_fn", config.projector.norm_fn, BATCH_NORM),
        ("pred_proj.input_dim", config.pred_proj.input_dim, dim),
        ("pred_proj.hidden_dim", config.pred_proj.hidden_dim, config.projector.hidden_dim),
        ("pred_proj.output_dim", config.pred_proj.output_dim or dim, dim),
        ("pred_proj.norm_fn", config.pred_proj.norm_fn, BATCH_NORM),
    ):
        _require(where, name, value, right)
    if _has_no_output_layer(predictor.heads, predictor.dim_head, dim):
        raise CheckpointError(f"{where}: predictor: one head of {dim} has no output layer in the release, but has here")
    return ModelConfig(
        encoder=EncoderConfig(
            image_size=encoder.image_size,
            patch_size=encoder.patch_size,
            width=width,
            depth=encoder.num_hidden_layers or depth,
            heads=encoder.num_attention_heads or heads,
            norm_eps=encoder.layer_norm_eps,
        ),
        predictor=PredictorConfig(
            depth=predictor.depth,
            heads=predictor.heads,
            head_dim=predictor.dim_head,
            mlp_dim=predictor.mlp_dim,
            dropout=predictor.dropout,
        ),
        embedding_dim=dim,
        projector_dim=config.projector.hidden_dim,
        history=predictor.num_frames,
        action_dim=actions.input_dim,
        action_features=actions.smoothed_dim,
    )


def write_architecture(config: ModelConfig) -> dict[str, Any]:
    """The content of `config.json` for an architecture.

    Raises:
        CheckpointError: the release has no words for it.
    """
    encoder, predictor, dim = config.encoder, config.predictor, config.embedding_dim
    if encoder.stem_channels:
        raise CheckpointError(
            f"an encoder with stem_channels {list(encoder.stem_channels)} cannot be expressed in the released format, "
            "which has linear patches; train with `stem_channels: []` to export"
        )
    if encoder.registers:
        raise CheckpointError("an encoder with registers cannot be expressed in the released format")
    if config.width != dim:
        raise CheckpointError(
            f"a predictor of width {config.width} for tokens of {dim} cannot be expressed in the released format"
        )
    if _has_no_output_layer(predictor.heads, predictor.head_dim, dim):
        raise CheckpointError(f"a predictor with one head of {dim} cannot be expressed in the released format")
    shape = (encoder.width, encoder.depth, encoder.heads)
    size = next((name for name, known in SIZES.items() if known == shape), None)
    mlp = {"hidden_dim": config.projector_dim, "norm_fn": BATCH_NORM}
    sections = {
        "encoder": {
            "size": size or "tiny",
            "patch_size": encoder.patch_size,
            "image_size": encoder.image_size,
            "pretrained": False,
            "use_mask_token": False,
        },
        "predictor": {
            "num_frames": config.history,
            "input_dim": dim,
            "hidden_dim": dim,
            "output_dim": dim,
            "depth": predictor.depth,
            "heads": predictor.heads,
            "mlp_dim": predictor.mlp_dim,
            "dim_head": predictor.head_dim,
            "dropout": predictor.dropout,
            "emb_dropout": 0.0,
        },
        "action_encoder": {"input_dim": config.action_dim, "emb_dim": dim},
        "projector": {"input_dim": encoder.width, "output_dim": dim, **mlp},
        "pred_proj": {"input_dim": dim, "output_dim": dim, **mlp},
    }
    if size is None:
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads")
        sections["encoder"] |= dict(zip(names, shape, strict=True)) | {"intermediate_size": 4 * encoder.width}
    if encoder.norm_eps != ReleasedEncoder.layer_norm_eps:
        sections["encoder"]["layer_norm_eps"] = encoder.norm_eps
    features = config.action_features or config.action_dim
    if features != ReleasedActionEncoder.smoothed_dim:
        sections["action_encoder"]["smoothed_dim"] = features
    return {"_target_": MODEL} | {name: {"_target_": PARTS[name], **section} for name, section in sections.items()}


def _has_no_output_layer(heads: int, head_dim: int, dim: int) -> bool:
    """Whether the release's attention leaves its output layer out."""
    return heads == 1 and head_dim == dim


def _require(where: str, name: str, value: Any, right: Any) -> None:
    if value != right:
        raise CheckpointError(f"{where}: {name} is {value!r}; only a model with {right!r} can be read")
