"""LeWorldModel: one encoder, one predictor, two loss terms."""

from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.sigreg import SIGReg

__all__ = ["LeWorldModel", "SIGReg"]
