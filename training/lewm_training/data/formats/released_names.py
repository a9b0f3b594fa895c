"""Names of the tensors in released LeWM weights, in both directions.

`*` stands for a number; a rule covers every name that begins with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

Weights = dict[str, Tensor]

RELEASED = {
    "encoder.vit.cls_token": "encoder.embeddings.cls_token",
    "encoder.vit.pos_embed": "encoder.embeddings.position_embeddings",
    "encoder.vit.patch_embed.proj": "encoder.embeddings.patch_embeddings.projection",
    "encoder.vit.blocks.*.norm1": "encoder.encoder.layer.*.layernorm_before",
    "encoder.vit.blocks.*.attn.qkv": "encoder.encoder.layer.*.attention.attention.qkv",
    "encoder.vit.blocks.*.attn.proj": "encoder.encoder.layer.*.attention.output.dense",
    "encoder.vit.blocks.*.norm2": "encoder.encoder.layer.*.layernorm_after",
    "encoder.vit.blocks.*.mlp.fc1": "encoder.encoder.layer.*.intermediate.dense",
    "encoder.vit.blocks.*.mlp.fc2": "encoder.encoder.layer.*.output.dense",
    "encoder.vit.norm": "encoder.layernorm",
    "encoder.projector": "projector.net",
    "action_encoder.layers.0": "action_encoder.patch_embed",
    "action_encoder.layers.1": "action_encoder.embed.0",
    "action_encoder.layers.3": "action_encoder.embed.2",
    "predictor.positions": "predictor.pos_embedding",
    "predictor.blocks.*.attention.norm": "predictor.transformer.layers.*.attn.norm",
    "predictor.blocks.*.attention.qkv": "predictor.transformer.layers.*.attn.to_qkv",
    "predictor.blocks.*.attention.out": "predictor.transformer.layers.*.attn.to_out",
    "predictor.blocks.*.mlp": "predictor.transformer.layers.*.mlp.net",
    "predictor.blocks.*.modulation": "predictor.transformer.layers.*.adaLN_modulation",
    "predictor.norm": "predictor.transformer.norm",
    "prediction_projector": "pred_proj.net",
}
"""This project's names -> the release's."""

RENAMED_VIT = {
    "encoder.encoder.layer.*.attention.attention.query": "encoder.layers.*.attention.q_proj",
    "encoder.encoder.layer.*.attention.attention.key": "encoder.layers.*.attention.k_proj",
    "encoder.encoder.layer.*.attention.attention.value": "encoder.layers.*.attention.v_proj",
    "encoder.encoder.layer.*.attention.output.dense": "encoder.layers.*.attention.o_proj",
    "encoder.encoder.layer.*.intermediate.dense": "encoder.layers.*.mlp.fc1",
    "encoder.encoder.layer.*.output.dense": "encoder.layers.*.mlp.fc2",
    "encoder.encoder.layer.*": "encoder.layers.*",
}
"""The release's names -> those of the same ViT in `transformers` 5.9 and newer."""

JOINED = ".attention.attention.qkv."
SEPARATE = tuple(f".attention.attention.{part}." for part in ("query", "key", "value"))
POINTWISE = "action_encoder.patch_embed.weight"


def to_released(weights: Weights, renamed_vit: bool = False) -> Weights:
    """This project's weights as the release has them, or as they are since `transformers` 5.9."""
    released = {}
    for name, tensor in weights.items():
        theirs = _rename(name, RELEASED)
        if JOINED in theirs:
            for part, piece in zip(SEPARATE, tensor.chunk(3), strict=True):
                released[theirs.replace(JOINED, part)] = piece.clone()
        else:
            # A pointwise layer over time: there a convolution of one step, here a linear layer.
            released[theirs] = tensor.unsqueeze(-1) if theirs == POINTWISE else tensor
    return {_rename(name, RENAMED_VIT): tensor for name, tensor in released.items()} if renamed_vit else released


def from_released(released: Weights, names: Iterable[str]) -> Weights:
    """Released weights, under the release's names, as this project's weights of these names."""
    weights = {}
    for name in names:
        theirs = _rename(name, RELEASED)
        if JOINED in theirs:
            weights[name] = torch.cat([released[theirs.replace(JOINED, part)] for part in SEPARATE])
        else:
            weights[name] = released[theirs].squeeze(-1) if theirs == POINTWISE else released[theirs]
    return weights


def as_released(weights: Weights) -> Weights:
    """Weights under the release's names, whichever version of `transformers` named the ViT's."""
    older = {new: old for old, new in RENAMED_VIT.items()}
    return {_rename(name, older): tensor for name, tensor in weights.items()}


def _rename(name: str, rules: dict[str, str]) -> str:
    for old, new in rules.items():
        pattern = re.escape(old).replace(r"\*", r"(\d+)") + r"(?=\.|$)"
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", new.replace("*", r"\1"), name)
    return name
