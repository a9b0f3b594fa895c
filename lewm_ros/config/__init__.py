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
    to_mapping,
)
from lewm_ros.config.model import (
    DecoderConfig,
    EncoderConfig,
    FamiliarityConfig,
    GapConfig,
    ModelConfig,
    PolicyConfig,
    PredictorConfig,
    ProposalConfig,
)
from lewm_ros.config.setting import Meaning, check_settings, meanings, setting
from lewm_ros.config.training import (
    BehaviourConfig,
    CropConfig,
    DecoderTrainConfig,
    InputsConfig,
    PolicyTrainConfig,
    ProposalTrainConfig,
    ReadoutConfig,
    SIGRegConfig,
    TrainConfig,
    WayToGraspConfig,
)

__all__ = [
    "BehaviourConfig",
    "ConfigError",
    "CropConfig",
    "DecoderConfig",
    "DecoderTrainConfig",
    "EncoderConfig",
    "FamiliarityConfig",
    "GapConfig",
    "InputsConfig",
    "Meaning",
    "ModelConfig",
    "PolicyConfig",
    "PolicyTrainConfig",
    "PredictorConfig",
    "ProposalConfig",
    "ProposalTrainConfig",
    "ReadoutConfig",
    "SIGRegConfig",
    "TrainConfig",
    "UserError",
    "WayToGraspConfig",
    "check_settings",
    "from_mapping",
    "load",
    "meanings",
    "parse_yaml",
    "read_yaml",
    "require",
    "setting",
    "to_mapping",
]
