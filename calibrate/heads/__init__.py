"""Retrained last layers on cached features: new model versions, where operating points leave the model as it is."""

from calibrate.heads.methods import HEADS, HeadMethod
from calibrate.heads.retrain import RetrainedHead, retrain_head

__all__ = ["HEADS", "HeadMethod", "RetrainedHead", "retrain_head"]
