"""LeWorldModel: one encoder, one predictor, two loss terms."""

from lewm_ros.model.checkpoint import load_checkpoint, save_checkpoint
from lewm_ros.model.compiled_rollout import make_rollout
from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.rollout import Rollout
from lewm_ros.model.sigreg import SIGReg

__all__ = ["LeWorldModel", "Rollout", "SIGReg", "load_checkpoint", "make_rollout", "save_checkpoint"]
