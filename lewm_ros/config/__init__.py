"""Frozen dataclasses for every component, read from and written to YAML.

An unknown key, a wrong type, a number that is not finite or an impossible combination raises `ConfigError` with one
line that names the key, where it stands and what would be right.
"""

from lewm_ros.config.mapping import (
    ConfigError,
    UserError,
    from_mapping,
    load,
    parse_yaml,
    read_yaml,
    require,
    require_numbers,
    to_mapping,
)
from lewm_ros.config.model import EncoderConfig, GapConfig, ModelConfig, PatchConfig, PredictorConfig, ProposalConfig
from lewm_ros.config.planner import SOLVERS, PlannerConfig
from lewm_ros.config.training import PatchTrainConfig, ProposalTrainConfig, SIGRegConfig, TrainConfig

__all__ = [
    "SOLVERS",
    "ConfigError",
    "EncoderConfig",
    "GapConfig",
    "ModelConfig",
    "PatchConfig",
    "PatchTrainConfig",
    "PlannerConfig",
    "PredictorConfig",
    "ProposalConfig",
    "ProposalTrainConfig",
    "SIGRegConfig",
    "TrainConfig",
    "UserError",
    "from_mapping",
    "load",
    "parse_yaml",
    "read_yaml",
    "require",
    "require_numbers",
    "to_mapping",
]
